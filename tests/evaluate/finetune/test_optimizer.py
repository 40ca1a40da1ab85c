"""Rates by parameter, schedules and optimisers against PyTorch's own; what is frozen stays."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from clef_jax.evaluate.finetune import Options, reference_options
from clef_jax.evaluate.finetune.optimizer import make_optimizer, rate_factors
from clef_jax.evaluate.finetune.options import FinetuneError
from clef_jax.evaluate.finetune.schedule import make_schedule
from clef_jax.models import get_config

STAGES = ("stage0", "stage1", "stage10")


def params():
    rng = np.random.default_rng(0)
    encoder = {
        name: {"conv1": {"kernel": rng.normal(size=(2, 3)).astype(np.float32)}}
        for name in ("stem", "stage0_block0", "stage1_block0", "stage1_block1", "stage10_block0")
    }
    return {"encoder": encoder, "head": {"output": {"bias": np.ones(2, np.float32)}}}


def factors_of(options):
    found = rate_factors(params(), STAGES, options)
    return {name: leaf["conv1"]["kernel"] for name, leaf in found["encoder"].items()} | {
        "head": found["head"]["output"]["bias"]
    }


def test_a_stage_learns_slower_than_the_one_after_it():
    options = Options(learning_rate=1e-2, encoder_learning_rate=1e-3, layer_decay=0.5)
    assert factors_of(options) == pytest.approx(
        {
            "stem": 0.0125,
            "stage0_block0": 0.025,
            "stage1_block0": 0.05,
            "stage1_block1": 0.05,
            "stage10_block0": 0.1,
            "head": 1.0,
        }
    )
    assert set(factors_of(dataclasses.replace(options, mode="scratch")).values()) == {1.0}


def test_every_parameter_of_a_real_encoder_has_the_rate_of_its_stage():
    config = get_config("clef_small")
    model = config.build(dtype=jnp.float32, remat=False)
    encoder = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 600, 1)))["params"]
    options = Options(learning_rate=1e-3, encoder_learning_rate=1e-4, layer_decay=0.5)
    found = rate_factors({"encoder": encoder}, config.layers, options)["encoder"]
    for name, factors in found.items():
        above = 6 if name == "stem" else 5 - int(name[5])
        assert set(jax.tree.leaves(factors)) == {0.1 * 0.5**above}, name


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_updates_equal_torchs_with_a_group_for_each_rate(kind):
    options = Options(
        optimizer=kind,
        learning_rate=1e-2,
        encoder_learning_rate=1e-3,
        layer_decay=0.5,
        weight_decay=0.1,
        clip_norm=0.5,
    )
    found = params()
    leaves, structure = jax.tree.flatten(found)
    rates = jax.tree.leaves(rate_factors(found, STAGES, options))
    variables = [torch.tensor(leaf, requires_grad=True) for leaf in leaves]
    groups = [{"params": [v], "lr": 1e-2 * r} for v, r in zip(variables, rates, strict=True)]
    peer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[kind](groups, weight_decay=0.1)
    optimizer = make_optimizer(options, optax.constant_schedule(1e-2), STAGES)
    state, rng = optimizer.init(found), np.random.default_rng(1)
    for _ in range(4):
        gradients = [rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
        for variable, gradient in zip(variables, gradients, strict=True):
            variable.grad = torch.tensor(gradient)
        torch.nn.utils.clip_grad_norm_(variables, 0.5)
        peer.step()
        updates, state = optimizer.update(jax.tree.unflatten(structure, gradients), state, found)
        found = optax.apply_updates(found, updates)
    for leaf, variable in zip(jax.tree.leaves(found), variables, strict=True):
        np.testing.assert_allclose(leaf, variable.detach().numpy(), rtol=1e-5, atol=1e-7)


def test_frozen_moves_the_head_alone_and_keeps_no_moments_of_the_encoder():
    options = Options(mode="frozen", weight_decay=0.1)
    optimizer = make_optimizer(options, optax.constant_schedule(1e-2), STAGES)
    before = params()
    state = optimizer.init(before)
    kept = {np.shape(leaf) for leaf in jax.tree.leaves(state)}
    assert kept == {(), (2,)}
    updates, _ = optimizer.update(jax.tree.map(np.ones_like, before), state, before)
    after = optax.apply_updates(before, updates)
    jax.tree.map(np.testing.assert_array_equal, after["encoder"], before["encoder"])
    assert (np.asarray(after["head"]["output"]["bias"]) != 1).all()


def rates_of(options, steps_per_epoch):
    schedule = make_schedule(options, steps_per_epoch)
    return np.array([float(schedule(n)) for n in range(options.epochs * steps_per_epoch)])


def test_the_cosine_warms_up_and_falls_step_by_step():
    options = Options(schedule="cosine", learning_rate=1e-2, epochs=10, warmup=0.2)
    rates = rates_of(options, 10)
    np.testing.assert_allclose(rates[:21], np.linspace(0, 1e-2, 21), rtol=1e-5)
    assert (np.diff(rates[20:]) < 0).all() and rates[-1] < 1e-5


def test_the_originals_one_cycle_is_torchs_stepped_once_an_epoch():
    """Q2: built for all steps of all epochs, it sees one of them an epoch."""
    options = reference_options("ptbxl/rhythm")
    steps = 27
    peer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        peer, max_lr=1e-2, total_steps=steps * options.epochs
    )
    expected = []
    for _ in range(options.epochs):
        expected += [peer.param_groups[0]["lr"]] * steps
        peer.step()
        cycle.step()
    found = rates_of(options, steps)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert found[0] == pytest.approx(4e-4, rel=1e-4)
    # Of as many epochs of one step each it sees the whole.
    short = dataclasses.replace(options, epochs=40)
    peer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    cycle = torch.optim.lr_scheduler.OneCycleLR(peer, max_lr=1e-2, total_steps=40)
    whole = []
    for _ in range(40):
        whole.append(peer.param_groups[0]["lr"])
        peer.step()
        if len(whole) < 40:
            cycle.step()
    np.testing.assert_allclose(rates_of(short, 1), whole, rtol=2e-4, atol=1e-9)


def test_the_originals_restarts_are_torchs():
    options = reference_options("chapman")
    peer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    restarts = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(peer, T_0=50)
    expected = []
    for _ in range(options.epochs):
        expected += [peer.param_groups[0]["lr"]] * 3
        peer.step()
        restarts.step()
    np.testing.assert_allclose(rates_of(options, 3), expected, rtol=1e-4, atol=1e-10)


def test_the_originals_table():
    lvef = reference_options("mimic_lvef/lvef-reg")
    assert (lvef.epochs, lvef.schedule, lvef.optimizer) == (1, "constant", "adamw")
    assert reference_options("icentia/beat").sampling == "balanced"
    assert reference_options("aurorabp/sbp").sampling == "in order"
    for task in ("ptbxl/form", "chapman", "music", "mcmed/acuity", "mimic_lvef/lvef-cls"):
        found = reference_options(task)
        assert (found.batch_size, found.patience, found.select_by) == (64, 5, "loss"), task
        assert found.learning_rate == found.encoder_learning_rate == 1e-3 and not found.dropout
        assert found.weight_decay == 1e-5 and found.layer_decay == 1 and found.clip_norm is None


def test_a_head_on_a_given_encoder_learns_faster_than_a_network_from_random_weights():
    assert [Options(mode).learning_rate for mode in ("finetune", "frozen", "scratch")] == [
        1e-2,
        1e-2,
        1e-3,
    ]
    assert Options("frozen", learning_rate=3e-4).learning_rate == 3e-4
    with pytest.raises(FinetuneError, match="learning_rate is 0.0; expected a number above 0"):
        Options(learning_rate=0.0)
