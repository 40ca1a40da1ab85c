"""Configurations: what becomes of them, which no run can have, which may change when it goes on."""

import dataclasses
import re

import pytest
from ml_collections import ConfigDict

from clef_jax.losses import PRESETS
from clef_jax.methods import read_options
from clef_jax.train.evaluators.registry import EVALUATORS
from clef_jax.train.settings import ConfigError, read_settings, setting_differences
from configs import clef_large, clef_medium, clef_small, demo


def changed(**values):
    """The demo's configuration; of nested keys the dot is written as two underscores."""
    config = demo.get_config()
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in values.items()})
    return config


def with_all_evaluators(config):
    """A configuration as a run records it: evaluators that it does not list are never due."""
    never = dict.fromkeys(EVALUATORS, -1)
    return config | {"evaluators": never | config["evaluators"]}


@pytest.mark.parametrize("config", [demo, clef_small, clef_medium, clef_large])
def test_the_configurations_of_the_project_are_possible_and_come_back(config):
    given = config.get_config()
    settings = read_settings(given)
    assert settings.record == with_all_evaluators(given.to_dict())
    assert read_settings(ConfigDict(settings.record)) == settings


def test_every_key_reaches_one_field():
    settings = read_settings(changed(clip_norm=2.5, method__temperature=0.1))
    groups = [getattr(settings, f.name) for f in dataclasses.fields(settings)]
    found = {"seed": settings.seed}
    for group in filter(dataclasses.is_dataclass, groups):
        found |= dataclasses.asdict(group)
    found["evaluators"] = settings.evaluators
    for key, value in with_all_evaluators(changed(clip_norm=2.5).to_dict()).items():
        if key != "method":
            assert found[key] == value, key
    assert settings.method == read_options({"name": "clef", "temperature": 0.1})


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("keep_checkpoints", -1, "at least 1"),
        ("log_steps", 0, "at least 1"),
        ("batch_size", 1.5, "a whole number"),
        ("epochs", True, "a whole number"),
        ("seed", -1, "0 or more"),
        ("learning_rate", -1e-3, "0 or more"),
        ("learning_rate", float("nan"), "0 or more"),
        ("learning_rate", "1e-3", "0 or more"),
        ("weight_decay", -1e-4, "0 or more"),
        ("warmup_steps", -1, "0 or more"),
        ("clip_norm", 0.0, "above 0, or unset"),
        ("ema_decay", 1.0, "from 0 to below 1, or unset"),
        ("ema_decay", -0.1, "from 0 to below 1, or unset"),
        ("validation_fraction", 1.0, "from 0 to below 1, or unset"),
        ("model", "clef_tiny", "choose one of clef_small, clef_medium, clef_large"),
        ("dtype", "bf16", "choose float32 or bfloat16"),
        ("schedule", "flat", "choose warm_restarts or warmup_cosine"),
        ("records_per_patient", "last", "choose one of first, random, all"),
        ("remat", 1, "choose True or False"),
        ("noise", None, "a path, or empty"),
        *(("profile", x, "write START:STOP") for x in ("10", "1:5", "5:5", "5:", "a:b", "-2:5", 5)),
        ("evaluators.probe", -2, "a number of steps, or 0 for the end only, or -1 for never"),
        ("method.temperature", 0.0, "above 0"),
        ("method.floor", 1.5, "from 0 to 1"),
        ("method.name", "clip", "choose one of clef, simclr"),
        ("method.preset", "new", "choose one of released, paper"),
    ],
)
def test_an_impossible_value_is_refused_by_key_value_and_choices(key, value, expected):
    config = demo.get_config().to_dict()
    *outer, name = key.split(".")
    (config[outer[0]] if outer else config)[name] = value
    with pytest.raises(ConfigError) as error:
        read_settings(ConfigDict(config))
    assert re.search(rf"config\.{key} is {re.escape(repr(value))}; ", str(error.value))
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("added", "removed", "message"),
    [
        ({"learning_rat": 1.0}, (), "config.learning_rat: there is no such setting; the nearest "),
        (
            {"evaluators": {"validation": 60, "prob": 5}},
            (),
            "config.evaluators.prob: there is no such setting; the nearest is "
            "config.evaluators.probe",
        ),
        ({"evaluators": {"probe": 5}}, (), "config.evaluators.validation is missing"),
        ({"eval_steps": 9}, (), "config.eval_steps is called config.evaluators.validation now"),
        ({"objective": {"name": "clef"}}, ("method",), "config.objective is called config.method"),
        ({}, ("weight_decay",), "config.weight_decay is missing"),
        ({}, ("method",), "config.method.name is missing"),
        ({"patience": 2, "evaluators": {"validation": -1}}, (), "config.patience is 2, but"),
    ],
)
def test_keys_that_are_unknown_missing_or_at_odds_are_named(added, removed, message):
    config = {k: v for k, v in demo.get_config().to_dict().items() if k not in removed} | added
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_settings(ConfigDict(config))


def test_a_key_that_came_later_may_be_absent():
    config = demo.get_config().to_dict()
    for key in ("remat", "clip_norm", "ema_decay", "tensorboard", "annotations"):
        del config[key]
    config["evaluators"] = {"validation": 60}
    settings = read_settings(ConfigDict(config))
    assert settings.optimizer.clip_norm is None and settings.encoder.remat is False
    expected = with_all_evaluators({"evaluators": {"validation": 60, "probe": -1, "map": 0}})
    assert settings.evaluators == settings.record["evaluators"] == expected["evaluators"]


def test_every_choice_of_a_preset_is_a_setting_of_its_own():
    """So that an ablation of one of them is one option on the command line."""
    settings = clef_small.get_config().method.to_dict()
    assert settings.keys() - {"name", "preset"} == PRESETS["paper"].keys() | {
        "temperature",
        "floor",
    }


def test_what_alters_no_step_may_change_and_the_rest_is_named():
    record = read_settings(changed(schedule="warm_restarts")).record
    free = changed(
        schedule="warm_restarts",
        epochs=7,
        steps=9,
        log_steps=3,
        num_workers=2,
        noise="elsewhere",
        evaluators__validation=5,
        evaluators__probe=5,
        patience=1,
    )
    assert setting_differences(record, read_settings(free).record) == []
    other = changed(schedule="warm_restarts", seed=7, batch_size=32, method__preset="paper")
    found = setting_differences(record, read_settings(other).record)
    assert "config.seed was 42 and is 7" in found
    assert "config.batch_size was 64 and is 32" in found
    assert "config.method.weighting was 'softmax' and is 'direct'" in found
    # The length of the run shapes the cosine.
    cosine, longer = (read_settings(changed(steps=steps)).record for steps in (100, 200))
    assert setting_differences(cosine, longer) == ["config.steps was 100 and is 200"]
