"""In which types the lowered step and the embedding multiply and sum, operation by operation."""

import collections
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from clef_jax import hosts
from clef_jax.inference.forward import apply, apply_shared
from clef_jax.methods import read_options
from clef_jax.models import ResNeXt1DConfig, build_model
from clef_jax.ops.grouped_conv import choice
from clef_jax.ops.grouped_conv.passes import Passes
from clef_jax.train import optim
from clef_jax.train.evaluators.validation import make_eval_step
from clef_jax.train.placement import state_shardings
from clef_jax.train.state import create_state
from clef_jax.train.step import make_train_step

SAMPLES, ROWS = 600, 32
TINY = ResNeXt1DConfig(
    name="tiny", stem_width=8, ratio=0.5, stage_widths=(8, 16, 32), stage_blocks=(2, 1, 1),
    group_width=4,
)  # fmt: skip
# A channel's taps, folded: the longest sum over anything but time and batch.
LONGEST_CHANNEL_SUM = 31 * 16
# The shortest sum over time and batch on one device, in the last stage.
assert LONGEST_CHANNEL_SUM < 2 * ROWS // 4 * 38


def placed(tree, sharding):
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree)


def lower_step(dtype, make=make_train_step, platforms=("cpu",), *, split=False):
    """The step of a tiny encoder, lowered by this process for whatever hardware."""
    return trace_step(TINY, dtype, make, split=split).lower(lowering_platforms=platforms)


def trace_step(config, dtype, make=make_train_step, *, split=False):
    mesh = hosts.data_mesh(jax.devices()[:4])
    model = build_model(config, dtype=jnp.dtype(dtype))
    optimizer = optim.make_optimizer(optax.constant_schedule(1e-3))
    method = read_options({"name": "clef"}).create(model, np.zeros((4, 15, SAMPLES), np.float32))
    batch = {
        "ecg": np.zeros((ROWS, 2, SAMPLES), np.int16),
        "scale_mv": np.zeros((ROWS, 2), np.float32),
        "lead": np.zeros((ROWS, 2), np.int32),
        "risk": np.zeros(ROWS, np.float32),
        "completeness": np.zeros(ROWS, np.float32),
    }
    batch = placed(batch, hosts.split_rows(mesh))
    constants = placed(method.constants, hosts.replicated(mesh))

    def initial():
        x = jnp.zeros((1, SAMPLES, 1))
        return create_state(method, optimizer, jax.random.key(0), x, with_ema=False)

    like = jax.eval_shape(initial)
    shardings = state_shardings(like, mesh, split=split)
    state = hosts.shapes_at(like, shardings)
    if make is make_eval_step:
        step = make_eval_step(method, mesh, seed=0, size=ROWS)
        return step.trace(state.params, state.carried, jnp.int32(0), batch, constants)
    step = make_train_step(method, optimizer, mesh, seed=0, shardings=shardings)
    return step.trace(state, batch, constants)


_ONE_LINE = re.compile(
    r"stablehlo\.(dot_general|convolution|reduce|reduce_window)\b.*? : \((.*)\) -> (.*)"
)
_COLLECTIVE = re.compile(
    r'"stablehlo\.(all_reduce|reduce_scatter)".*?\}\) : \((.*?)\) -> (\S*)', re.DOTALL
)


def operations(lowered):
    """Returns (name, text, operand types, result types) of what multiplies or sums in a program."""
    program = lowered.as_text()
    found = [*_ONE_LINE.finditer(program), *_COLLECTIVE.finditer(program)]
    assert len(found) >= program.count("stablehlo.dot_general") + program.count(
        "stablehlo.all_reduce"
    )
    return [(match.group(1), match.group(0), match.group(2), match.group(3)) for match in found]


def dimensions(tensor):
    return [int(n) for n in re.findall(r"(\d+)x", tensor)]


def summands(name, text, operands):
    """How many products one value of a product's or a convolution's result sums."""
    first, second = re.findall(r"tensor<.*?>", operands)
    if name == "dot_general":
        axes = re.search(r"contracting_dims = \[([\d, ]*)\]", text).group(1)
        return int(np.prod([dimensions(first)[int(axis)] for axis in axes.split(",")]))
    kernel = re.search(r"\]x\[(.*?)\]->", text).group(1).split(", ")
    sizes = dimensions(second)
    return int(np.prod([n for n, axis in zip(sizes, kernel, strict=True) if axis != "o"]))


def bfloat16_sums(lowered):
    """Every sum over devices, time or batch that a program makes in bfloat16."""
    faults = []
    for name, text, operands, result in operations(lowered):
        if "bf16" not in result:
            continue
        if name in ("dot_general", "convolution"):
            if summands(name, text, operands) > LONGEST_CHANNEL_SUM:
                faults.append(text)
        elif name in ("all_reduce", "reduce_scatter") or "stablehlo.add" in text:
            faults.append(text)
    return faults


@pytest.mark.parametrize("platform", ["cpu", "tpu", pytest.param("cuda", marks=pytest.mark.slow)])
def test_a_bfloat16_step_sums_over_devices_time_and_batch_in_float32(platform):
    """With the algorithms of every kind of hardware, whatever this process runs on."""
    lowered = lower_step("bfloat16", platforms=(platform,))
    assert "bf16" in lowered.as_text()
    assert bfloat16_sums(lowered) == []


def test_a_split_state_is_gathered_and_its_gradients_summed_once_each_in_float32():
    whole, split = (lower_step("bfloat16", split=split) for split in (False, True))
    assert bfloat16_sums(split) == []
    counts = [
        collections.Counter(re.findall(r'"stablehlo.(all_\w+|reduce_scatter)"', lowered.as_text()))
        for lowered in (whole, split)
    ]
    model = jax.eval_shape(build_model(TINY).init, jax.random.key(0), jnp.zeros((1, SAMPLES, 1)))
    divisible = sum(any(n % 4 == 0 for n in leaf.shape) for leaf in jax.tree.leaves(model))
    for name, more in (("all_gather", 1), ("reduce_scatter", 1), ("all_reduce", -1)):
        assert counts[1][name] - counts[0][name] == more * divisible, name


def test_one_process_lowers_a_step_for_three_platforms_with_three_sets_of_algorithms():
    trace = trace_step(TINY, "float32")
    kernels = {}
    for platform in ("cpu", "tpu", "cuda"):
        text = trace.lower(lowering_platforms=(platform,)).as_text()
        kernels[platform] = sorted(
            re.findall(r"stablehlo.convolution.*feature_group_count = (\d+).*, (tensor\S+)\)", text)
        )
    assert kernels["cpu"] != kernels["tpu"] != kernels["cuda"] != kernels["cpu"]
    # On GPUs alone 8 groups of 2 channels are one of 16.
    packed = ("1", "tensor<16x16x16xf32>")
    assert [packed in found for found in kernels.values()] == [False, False, True]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["native", "pack"])
def test_with_one_algorithm_throughout_too(algorithm):
    with choice.using(Passes.parse(algorithm)):
        assert bfloat16_sums(lower_step("bfloat16")) == []


def test_the_search_finds_the_sums_it_looks_for():
    x, w = jnp.zeros((64, 50, 8), jnp.bfloat16), jnp.zeros((16, 8, 8), jnp.bfloat16)

    def conv(w):
        y = jax.lax.conv_general_dilated(
            x, w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
        )
        return y.astype(jnp.float32).sum()

    def dot(w):
        return (x @ w[0]).astype(jnp.float32).sum()

    def bias(b):
        return (x + b[None, None]).astype(jnp.float32).sum()

    for function, value in ((conv, w), (dot, w), (bias, w[0, 0])):
        assert bfloat16_sums(jax.jit(jax.grad(function)).lower(value))
    total = jax.shard_map(
        lambda x: jax.lax.psum(x, "data"),
        mesh=hosts.data_mesh(),
        in_specs=jax.P("data"),
        out_specs=jax.P(),
    )
    assert bfloat16_sums(jax.jit(total).lower(x))


def assert_full_precision(lowered):
    """On an accelerator a float32 product keeps its digits only where the program asks for it."""
    products = [
        text
        for name, text, operands, _ in operations(lowered)
        if name in ("dot_general", "convolution") and "f32" in operands
    ]
    assert products
    hasty = [text for text in products if "HIGHEST" not in text or "DEFAULT" in text]
    assert hasty == []


@pytest.mark.parametrize("make", [make_train_step, make_eval_step])
def test_float32_means_float32_on_accelerators(make, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert_full_precision(lower_step("float32", make))


def test_an_embedding_is_multiplied_in_full_precision():
    """So that on an accelerator, too, one checkpoint has one embedding, shared out or not."""
    model = build_model(TINY)
    x = jnp.zeros((8, SAMPLES, 1))
    params = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
    assert_full_precision(apply.lower(model, (), params, x))
    assert_full_precision(apply_shared.lower(model, (), hosts.data_mesh(), params, x))
