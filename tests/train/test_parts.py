"""Configurations that no run can have."""

import pytest

from clef_jax.losses import PRESETS
from clef_jax.train.parts import ConfigError, check
from configs import clef_small, demo


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("keep_checkpoints", -1, "at least 1"),
        ("learning_rate", -1e-3, "0 or more"),
        ("learning_rate", float("nan"), "0 or more"),
        ("weight_decay", -1e-4, "0 or more"),
        ("warmup_steps", -1, "0 or more"),
        ("clip_norm", 0.0, "above 0, or unset"),
        ("ema_decay", 1.0, "from 0 to below 1, or unset"),
        ("ema_decay", -0.1, "from 0 to below 1, or unset"),
        ("method.temperature", 0.0, "above 0"),
        ("method.floor", 1.5, "from 0 to 1"),
    ],
)
def test_an_impossible_number_is_refused_by_key_and_value(key, value, expected):
    config = demo.get_config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(ConfigError) as error:
        check(config)
    assert f"config.{key} is {value}; " in str(error.value) and expected in str(error.value)


@pytest.mark.parametrize("config", [demo, clef_small])
def test_the_configurations_of_the_project_are_possible(config):
    values = config.get_config()
    check(values)
    values.update_from_flattened_dict({"clip_norm": 1.0, "ema_decay": 0.0, "method.floor": 0.0})
    check(values)


def test_every_choice_of_a_preset_is_a_setting_of_its_own():
    """So that an ablation of one of them is one option on the command line."""
    settings = clef_small.get_config().method.to_dict()
    assert settings.keys() - {"name", "preset"} == PRESETS["paper"].keys() | {
        "temperature",
        "floor",
    }
