"""Options of methods: presets that every choice of theirs can bend, and what is refused by name."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clef_jax.losses import PRESETS, clef_loss
from clef_jax.methods import METHODS, MethodError, describe_options, read_options
from clef_jax.methods.options import Options
from clef_jax.models import ResNeXt1D
from clef_jax.ops.zscore import zscore
from tests.parameters import drawn

MODEL = ResNeXt1D(stem_width=8, ratio=1.0, stage_widths=(8,), stage_blocks=(1,), group_width=8)
NO_NOISE = np.zeros((4, 15, 200), np.float32)

OTHER_CHOICES = {
    "temperature": 0.2,
    "floor": 0.5,
    "weighting": "direct",
    "completeness_weighting": True,
    "unknown_risk": "mean",
    "combine": "sum",
}


def test_unset_means_the_presets_and_no_preset_the_released_code():
    for preset, choices in PRESETS.items():
        settings = dict.fromkeys(OTHER_CHOICES) | {"name": "clef", "preset": preset}
        options = dataclasses.asdict(read_options(settings))
        assert options == {"temperature": 0.07, "floor": 0.2} | choices
    released = read_options({"name": "clef", "preset": "released"})
    assert read_options({"name": "clef", "preset": None}) == released


@pytest.mark.parametrize("option", OTHER_CHOICES)
def test_one_option_bends_one_choice(option):
    released = dataclasses.asdict(read_options({"name": "clef"}))
    assert OTHER_CHOICES.keys() == released.keys()
    bent = read_options({"name": "clef", option: OTHER_CHOICES[option]})
    assert dataclasses.asdict(bent) == released | {option: OTHER_CHOICES[option]}
    # Falsy values are no less set.
    paper = read_options({"name": "clef", "preset": "paper", "completeness_weighting": False})
    assert not paper.completeness_weighting


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "clip"}, "method.name is 'clip'; choose one of clef, simclr"),
        (
            {"name": "clef", "preset": "new"},
            "method.preset is 'new'; choose one of released, paper",
        ),
        (
            {"name": "clef", "margin": 0.1},
            "method.margin is 0.1, but clef has no such option; it has temperature, floor, "
            "weighting, completeness_weighting, unknown_risk, combine",
        ),
        ({"name": "simclr", "floor": 0.2}, "but simclr has no such option; it has temperature"),
        ({"name": "simclr", "preset": "paper"}, "simclr has no presets; leave it unset"),
        ({"name": "simclr", "temperature": 0.0}, "method.temperature is 0.0; it must be above 0"),
        ({"name": "clef", "floor": 1.5}, "method.floor is 1.5; it must be from 0 to 1"),
        ({"name": "clef", "weighting": "linear"}, "choose one of softmax, direct"),
        ({"name": "clef", "unknown_risk": "max"}, "choose one of zero, mean"),
        ({"name": "clef", "combine": "both"}, "choose one of mean, sum"),
        ({"name": "clef", "floor": "low"}, "method.floor is 'low'; it must be a number"),
        ({"name": "clef", "floor": True}, "method.floor is True; it must be a number"),
        ({"name": "clef", "temperature": True}, "method.temperature is True; it must be a number"),
        ({"name": "simclr", "temperature": "x"}, "method.temperature is 'x'; it must be a number"),
        (
            {"name": "clef", "completeness_weighting": "yes"},
            "method.completeness_weighting is 'yes'; it must be True or False",
        ),
        (
            {"name": "clef", "completeness_weighting": 1},
            "method.completeness_weighting is 1; it must be True or False",
        ),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(settings, message):
    with pytest.raises(MethodError) as error:
        read_options(settings)
    assert message in str(error.value)


def test_a_number_may_be_whole_and_a_whole_number_has_no_part(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Counted(Options):
        count: int = 3
        share: float = 0.5
        most: int | None = None

        def create(self, encoder, noise):
            raise NotImplementedError

    monkeypatch.setitem(METHODS, "counted", Counted)
    assert read_options({"name": "counted", "most": 7}) == Counted(most=7)
    with pytest.raises(MethodError, match="most is 'x'; it must be a whole number"):
        read_options({"name": "counted", "most": "x"})
    assert read_options({"name": "counted", "share": 1}) == Counted(share=1)
    for value in (2.5, True, "2"):
        with pytest.raises(MethodError, match=f"count is {value!r}; it must be a whole number"):
            read_options({"name": "counted", "count": value})
    assert describe_options()["count"] == "Of counted (3 unless set)."
    of_both = "Of clef (0.07 unless set), simclr (0.07 unless set)"
    assert describe_options()["temperature"].startswith(of_both)


def made(settings, rows=5):
    """A method's parameters, batch and outputs, with noise of zero."""
    rng = np.random.default_rng(0)
    method = read_options(settings).create(MODEL, NO_NOISE)
    batch = {
        "ecg": rng.integers(-3000, 3000, (rows, 2, 200)).astype(np.int16),
        "scale_mv": np.full((rows, 2), 1e-3, np.float32),
        "lead": np.zeros((rows, 2), np.int32),
        "risk": np.array([1, 5, np.nan, 20, 8], np.float32),
        "completeness": np.linspace(0, 1, rows).astype(np.float32),
    }
    x = np.zeros((1, 200, 1), np.float32)
    params, carried = method.init(jax.random.key(0), x, drawn(MODEL, x))
    keys = jax.random.split(jax.random.key(1), rows)
    outputs = jax.jit(method.encode)(params, carried, batch, method.constants, keys)
    return method, params, batch, outputs


@pytest.mark.parametrize("preset", ["paper", pytest.param("released", marks=pytest.mark.slow)])
def test_clef_compares_the_views_by_what_it_needs_of_a_batch(preset):
    method, params, batch, outputs = made({"name": "clef", "preset": preset, "temperature": 0.3})
    assert method.needs == {"risk"} | ({"completeness"} if preset == "paper" else set())
    assert outputs.keys() == method.needs | {"z"}
    loss, metrics = jax.jit(lambda outputs: method.loss(params, (), outputs, None))(outputs)
    z = outputs["z"].reshape(-1, 8)
    clef = jax.jit(functools.partial(clef_loss, temperature=0.3, **PRESETS[preset]))
    expected, _ = clef(z, batch["risk"], batch["completeness"])
    assert loss == expected and metrics["known_risk"] == pytest.approx(4 / 5)
    # A view that was neither masked nor disturbed is the record itself.
    x = batch["ecg"].reshape(-1, 200) * np.float32(1e-3)
    plain = jax.jit(MODEL.apply)({"params": params["encoder"]}, zscore(x)[:, :, None])
    same = np.isclose(z, plain, atol=1e-4).all(axis=1)
    assert same.sum() >= 5


def test_simclr_needs_no_annotation():
    method, params, _, outputs = made({"name": "simclr"})
    assert method.needs == frozenset() and outputs.keys() == {"z"}
    assert np.isfinite(method.loss(params, (), outputs, None)[0])


@pytest.mark.parametrize("name", METHODS)
def test_a_method_starts_from_an_encoder_that_is_given(name):
    method = read_options({"name": name}).create(MODEL, NO_NOISE)
    given = drawn(MODEL, np.zeros((1, 200, 1), np.float32))
    params, _ = method.init(jax.random.key(0), jnp.zeros((1, 200, 1)), given)
    jax.tree.map(np.testing.assert_array_equal, params["encoder"], given)
