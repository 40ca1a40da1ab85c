r"""Chooses the algorithm of every grouped convolution by measuring them on this machine.

    python -m benchmarks.tune_grouped_conv
    python -m benchmarks.tune_grouped_conv --dtype bfloat16 --views 256

Times every pass of every layer of the three sizes with every algorithm, prints one line a pass, and
writes the winners into `clef_jax/ops/grouped_conv/table.py` under this backend and type; entries of
other backends and types stay. The two gradients are also timed together where they share work.
Takes about six minutes on two cores.
"""

import collections
import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from benchmarks.timing import interleaved
from clef_jax.data.signals.spec import CLEF_V2
from clef_jax.files import replacing
from clef_jax.hardware import allocator
from clef_jax.models import ResNeXt1DConfig, get_config
from clef_jax.ops.grouped_conv import choice, passes, table
from clef_jax.ops.grouped_conv.choice import Layer
from clef_jax.ops.grouped_conv.passes import Algorithm

_SIZES = flags.DEFINE_list("sizes", "clef_small,clef_medium,clef_large", "Sizes to tune for.")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Type to compute in.")
_VIEWS = flags.DEFINE_integer("views", None, "Views on the device; by default 128 for small, else "
                              "16, and 8 times that on accelerators.")  # fmt: skip
_QUICK = flags.DEFINE_bool("quick", False, "One layer, two rounds, nothing written.")

_FOURIER = tuple(f"fourier:{block}" for block in (16, 24, 32))
_ALGORITHMS = (
    "native",
    *(f"conv:{block}" for block in (1, 2, 4, 8, 16)),
    *(f"matmul:{block}" for block in (4, 8, 16)),
    *_FOURIER,
)
_PASSES = choice.Passes._fields
_BOTH = "both gradients"
_ROUNDS = 8
# Another algorithm than the rule's must be this much faster to be worth an entry of its own.
_WORTH = 0.97


def layers_of(config: ResNeXt1DConfig, samples: int) -> dict[Layer, collections.Counter]:
    """Returns every distinct grouped convolution, and how often it sees inputs of which length."""
    layers = collections.defaultdict(collections.Counter)
    layers[Layer(config.in_channels, 1, 2, config.kernel_size)][samples] += 1
    length = -(-samples // 2)
    for width, blocks in zip(config.stage_widths, config.stage_blocks, strict=True):
        groups = width // config.group_width
        channels = int(width * config.ratio) // groups
        for block in range(blocks):
            stride = 2 if block == 0 else 1
            layers[Layer(channels, groups, stride, config.kernel_size)][length] += 1
            length = -(-length // stride)
    return layers


def measure(
    layer: Layer, samples: int, views: int, dtype: str, width: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Returns pass -> algorithm -> best seconds for inputs `[views, samples, C]`.

    Beside the passes stand both gradients, computed in one program, for the algorithms that share
    work between them.
    """
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), dtype)

    x = draw(views, samples, layer.group_channels * layer.groups)
    dy = draw(views, -(-samples // layer.stride), width)
    kernel = draw(layer.taps, layer.group_channels, width)
    shape = layer.stride, layer.groups
    functions = {
        "forward": lambda a: lambda x, w, d: passes.forward(x, w, *shape, a),
        "input_gradient": lambda a: lambda x, w, d: passes.input_gradient(x, w, d, *shape, a),
        "kernel_gradient": lambda a: lambda x, w, d: passes.kernel_gradient(x, w, d, *shape, a),
        _BOTH: lambda a: (
            lambda x, w, d: (
                passes.input_gradient(x, w, d, *shape, a),
                passes.kernel_gradient(x, w, d, *shape, a),
            )
        ),
    }
    results = {}
    for name, make in functions.items():
        candidates = {}
        for text in _FOURIER if name == _BOTH else _ALGORITHMS:
            if _is_hopeless(layer, name, text):
                continue
            compiled = jax.jit(make(Algorithm.parse(text))).lower(x, kernel, dy).compile()
            jax.block_until_ready(compiled(x, kernel, dy))
            candidates[text] = lambda compiled=compiled: jax.block_until_ready(
                compiled(x, kernel, dy)
            )
        times = interleaved(candidates, rounds=rounds, give_up=1.5) if candidates else {}
        results[name] = {text: t.best for text, t in times.items()}
    return results


def _is_hopeless(layer: Layer, name: str, algorithm: str) -> bool:
    """Returns whether an algorithm would take minutes: most of the tuning, to lose all the same."""
    slow_gradient = algorithm == "native" and name == "kernel_gradient" and layer.groups > 1
    tiny_products = algorithm in _FOURIER and layer.group_channels < 8
    return jax.default_backend() == "cpu" and (slow_gradient or tiny_products)


def choose_entry(layer: Layer, outputs: int, seconds: dict[str, dict[str, float]]) -> list[str]:
    """Returns the fastest algorithm of each pass, or the rule's where nothing is clearly faster."""
    default = dict(zip(_PASSES, choice.rule(jax.default_backend(), layer, outputs), strict=True))
    entry = {}
    for name in _PASSES:
        best, usual = min(seconds[name], key=seconds[name].get), str(default[name])
        worth = seconds[name][best] < _WORTH * seconds[name].get(usual, np.inf)
        entry[name] = best if worth else usual
    gradients = _PASSES[1:]
    if both := seconds[_BOTH]:
        best = min(both, key=both.get)
        if both[best] < sum(seconds[name].get(entry[name], np.inf) for name in gradients):
            entry |= dict.fromkeys(gradients, best)
    return list(entry.values())


def write_table(backend: str, dtype: str, entries: dict[str, list[str]]) -> None:
    """Merges entries into the module that holds the table."""
    known = {b: {d: dict(e) for d, e in t.items()} for b, t in table.TABLE.items()}
    known.setdefault(backend, {}).setdefault(dtype, {}).update(entries)
    path = pathlib.Path(table.__file__)
    head = path.read_text().split("TABLE = ")[0]
    with replacing(os.fspath(path)) as temporary:
        pathlib.Path(temporary).write_text(f"{head}TABLE = {_one_line_a_layer(known)}\n")


def _one_line_a_layer(table: dict) -> str:
    lines = ["{"]
    for backend, of_type in table.items():
        lines.append(f'    "{backend}": {{')
        for dtype, of_layer in of_type.items():
            lines.append(f'        "{dtype}": {{')
            lines += [f'            "{k}": {json.dumps(v)},' for k, v in of_layer.items()]
            lines.append("        },")
        lines.append("    },")
    return "\n".join([*lines, "}"])


def main(argv: list[str]) -> None:
    """Measures, prints, writes."""
    del argv
    allocator.keep_freed_memory()
    accelerated = jax.default_backend() != "cpu"
    seen: dict[Layer, tuple[int, int, collections.Counter]] = {}
    for size in _SIZES.value:
        config = get_config(size)
        views = _VIEWS.value or (128 if size == "clef_small" else 16) * (8 if accelerated else 1)
        for layer, lengths in layers_of(config, CLEF_V2.samples).items():
            width = config.stem_width if layer.groups == 1 else layer.group_channels * layer.groups
            seen.setdefault(layer, (views, width, lengths))
    entries = {}
    for layer, (views, width, lengths) in list(seen.items())[: 1 if _QUICK.value else None]:
        totals = collections.defaultdict(collections.Counter)
        for samples, count in lengths.items():
            rounds = 2 if _QUICK.value else _ROUNDS
            for name, times in measure(layer, samples, views, _DTYPE.value, width, rounds).items():
                totals[name].update({text: count * seconds for text, seconds in times.items()})
        outputs = views * min(-(-samples // layer.stride) for samples in lengths)
        entries[str(layer)] = choose_entry(layer, outputs, totals)
        print(f"{layer!s:18} {', '.join(entries[str(layer)])}")
        for name, ranking in totals.items():
            ranked = [f"{text} {1e3 * s:.2f}" for text, s in ranking.most_common()[::-1][:4]]
            print(f"    {name:16} ms: {', '.join(ranked)}", flush=True)
    if not _QUICK.value:
        write_table(jax.default_backend(), _DTYPE.value, entries)


if __name__ == "__main__":
    app.run(main)
