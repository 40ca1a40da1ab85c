"""The compiled step of fine-tuning: PyTorch's, and the same on one device and on four."""

import dataclasses

import jax
import numpy as np
import pytest
import torch
from torch.nn import functional

from clef_jax import hosts
from clef_jax.evaluate.finetune import FinetuneError, Options
from clef_jax.evaluate.finetune.batches import DealtExamples, ReadExamples
from clef_jax.evaluate.finetune.method import make_loss, make_method, make_model
from clef_jax.evaluate.finetune.optimizer import make_optimizer
from clef_jax.evaluate.finetune.schedule import make_schedule
from clef_jax.models import ResNeXt1DConfig
from clef_jax.train.program import join
from tests.evaluate.finetune.cohort import inputs_of
from tests.oracles.torch_resnext1d import TorchResNeXt1D, jax_params

CONFIG = ResNeXt1DConfig(
    "tiny", stem_width=8, ratio=1.0, stage_widths=(8, 16), stage_blocks=(1, 1), group_width=4
)
STEPS, SAMPLES = 5, 120
# Rates such that five steps move weights by a hundred times what is compared.
OPTIONS = Options(
    learning_rate=1e-3,
    encoder_learning_rate=5e-4,
    layer_decay=0.5,
    weight_decay=0.1,
    dropout=0.0,
    batch_size=8,
    epochs=5,
    warmup=0.3,
)


def examples(seed=0):
    """16 rows, of which 8 are trained on; three labels, some of them not known."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (16, 3)).astype(float)
    labels[rng.random(labels.shape) < 0.3] = np.nan
    labels[:, 0] = [0, 1] * 8
    x = rng.normal(size=(16, SAMPLES)).astype(np.float32)
    return inputs_of(x, labels, "multilabel", ("a", "b", "c"))


def start():
    torch.manual_seed(0)
    encoder = TorchResNeXt1D(CONFIG)
    return encoder, torch.nn.Linear(16, 3)


def run(inputs, options, devices, steps=STEPS, noise=None):
    """Returns the parameters and the losses of some steps on so many devices.

    Heads that PyTorch has, too, begin with its weights.
    """
    mesh = hosts.data_mesh(jax.devices()[:devices])
    model = make_model(options, CONFIG, inputs)
    method = make_method(model, make_loss(options, inputs), options, noise)
    dealt = DealtExamples(inputs, options, seed=0)
    rows = options.batch_size + -options.batch_size % devices
    read = ReadExamples(inputs.x, inputs.labels.astype(np.float32), rows)
    schedule = make_schedule(options, dealt.steps_per_epoch)
    program = join(
        method,
        make_optimizer(options, schedule, CONFIG.layers),
        mesh,
        samples=SAMPLES,
        batch=read.shapes,
        seed=0,
        ema_decay=None,
        shard_state=False,
    )
    encoder, linear = start()
    state = jax.jit(program.initial)(jax_params(encoder))
    if options.head == "linear":
        state.params["head"]["output"] = {
            "kernel": linear.weight.detach().numpy().T.copy(),
            "bias": linear.bias.detach().numpy().copy(),
        }
    state = jax.device_put(state, program.shardings)
    constants, losses = hosts.replicate(method.constants, mesh), []
    for step in range(steps):
        batch = hosts.to_devices(read(dealt[step]), mesh)
        state, metrics = program.step(state, batch, constants)
        losses.append(float(metrics["loss"]))
    return jax.device_get(state.params), losses


def torch_run(inputs, steps=STEPS):
    encoder, linear = start()
    blocks = {
        "stem": encoder.first_conv,
        "stage0": encoder.stage_list[0],
        "stage1": encoder.stage_list[1],
    }
    ratios = {"stem": 0.5 * 0.25, "stage0": 0.5 * 0.5, "stage1": 0.5}
    groups = [
        {
            "params": [p for n, p in blocks[name].named_parameters() if ".bn" not in f".{n}"],
            "ratio": ratio,
        }
        for name, ratio in ratios.items()
    ]
    groups.append({"params": list(linear.parameters()), "ratio": 1.0})
    optimizer = torch.optim.AdamW(groups, weight_decay=OPTIONS.weight_decay)
    dealt, losses = DealtExamples(inputs, OPTIONS, seed=0), []
    for step in range(steps):
        # A warm-up of round(0.3 * 5) = 2 steps, then a cosine over the other three.
        share = step / 2 if step < 2 else (1 + np.cos(np.pi * (step - 2) / 3)) / 2
        for group in optimizer.param_groups:
            group["lr"] = OPTIONS.learning_rate * share * group["ratio"]
        rows = dealt[step]
        target = torch.tensor(inputs.labels[rows].astype(np.float32))
        logits = linear(encoder(torch.tensor(inputs.x[rows])[:, None]))
        known = torch.isfinite(target)
        loss = functional.binary_cross_entropy_with_logits(logits[known], target[known])
        optimizer.zero_grad()
        loss.backward()
        used = [p for g in optimizer.param_groups for p in g["params"]]
        torch.nn.utils.clip_grad_norm_(used, OPTIONS.clip_norm)
        optimizer.step()
        losses.append(float(loss.detach()))
    output = {
        "kernel": linear.weight.detach().numpy().T,
        "bias": linear.bias.detach().numpy(),
    }
    return {"encoder": jax_params(encoder), "head": {"output": output}}, losses


@pytest.fixture(scope="module")
def one_device():
    return run(examples(), OPTIONS, 1)


def test_five_steps_equal_torchs(one_device):
    params, losses = one_device
    expected, torch_losses = torch_run(examples())
    assert losses == pytest.approx(torch_losses, rel=1e-5)
    moved = np.abs(params["head"]["output"]["bias"] - start()[1].bias.detach().numpy()).max()
    assert moved > 1e-3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), params, expected)


def test_five_steps_on_four_devices_equal_one(one_device):
    (params, losses), (params4, losses4) = one_device, run(examples(), OPTIONS, 4)
    assert losses4 == pytest.approx(losses, rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), params, params4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_draws_and_filled_up_batches_are_the_same_on_four_devices(kind):
    """With dropout, augmentation, and a batch of six, which four devices do not divide."""
    inputs = examples()
    labels = np.arange(16.0) % 3 if kind == "multiclass" else inputs.labels[:, :1]
    classes = ("a", "b", "c") if kind == "multiclass" else ("a",)
    inputs = inputs_of(inputs.x, labels, kind, classes)
    options = dataclasses.replace(
        OPTIONS, dropout=0.5, augment=True, batch_size=6, balanced=True, head="stages"
    )
    noise = np.random.default_rng(1).normal(size=(4, 1, 500)).astype(np.float32)
    (params, losses), (params4, losses4) = (
        run(inputs, options, devices, noise=noise) for devices in (1, 4)
    )
    assert losses4 == pytest.approx(losses, rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), params, params4)


def test_a_label_that_is_not_known_teaches_nothing():
    """The head's weights for it only decay."""
    inputs = examples()
    labels = inputs.labels.copy()
    labels[:, 2] = np.nan
    params, losses = run(dataclasses.replace(inputs, labels=labels), OPTIONS, 1)
    kernel, before = params["head"]["output"]["kernel"], start()[1].weight.detach().numpy().T
    schedule = make_schedule(OPTIONS, steps_per_epoch=1)
    left = np.prod([1 - OPTIONS.weight_decay * float(schedule(step)) for step in range(STEPS)])
    np.testing.assert_allclose(kernel[:, 2], before[:, 2] * left, rtol=1e-6)
    assert not np.allclose(kernel[:, :2], before[:, :2] * left, rtol=1e-4)
    assert np.isfinite(losses).all()


def test_frozen_leaves_the_encoder_bit_for_bit():
    options = dataclasses.replace(OPTIONS, mode="frozen")
    params, losses = run(examples(), options, 1)
    jax.tree.map(np.testing.assert_array_equal, params["encoder"], jax_params(start()[0]))
    assert losses[-1] < losses[0]


def test_a_loss_of_another_kind_is_refused():
    with pytest.raises(FinetuneError, match="loss is 'huber', but the task is multilabel; choose"):
        make_loss(Options(loss="huber"), examples())
    with pytest.raises(FinetuneError, match="head is 'mlp'; expected 'linear' or 'attention'"):
        Options(head="mlp")
