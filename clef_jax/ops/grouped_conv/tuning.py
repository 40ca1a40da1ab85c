"""Measures, on this process's first device, which algorithm computes each pass of a layer fastest.

A layer is measured alone. How its neighbours in a network fuse with it is not seen. So one that our
own kernels compute is left to them: they take in the swish before it and the bias after it
(`activated`) or the whole residual block, which fall apart where one pass is computed otherwise.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from clef_jax import hosts
from clef_jax.errors import ClefError
from clef_jax.hardware.compiling import step_options
from clef_jax.hardware.timing import interleaved
from clef_jax.ops.grouped_conv import packing, passes
from clef_jax.ops.grouped_conv.conv import chosen
from clef_jax.ops.grouped_conv.layers import Convolution, Layer
from clef_jax.ops.grouped_conv.passes import Algorithm, Passes
from clef_jax.ops.precision import multiply_as

# Both gradients in one program, for the algorithms that share work between them.
BOTH = "both gradients"
_FOURIER = tuple(f"fourier:{block}" for block in (16, 24, 32))
# Another algorithm than the usual one must be this much faster to be worth an entry of its own.
_WORTH = 0.97
_ROUNDS = 8
# Shorter than this, a duration is mostly that of the call.
_LEAST_SECONDS = 2e-3


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was measured of one layer.

    Attributes:
        layer: The layer.
        usual: The algorithms that it has without tuning.
        best: Those to use: the usual ones, or clearly faster ones.
        seconds: Pass -> algorithm -> seconds a step, over all lengths that the layer sees.
        share: Share of the work of all layers to measure that has been measured by now.
    """

    layer: Layer
    usual: Passes
    best: Passes
    seconds: Mapping[str, Mapping[str, float]]
    share: float

    def seconds_of(self, algorithms: Passes) -> float:
        """Returns the seconds a step of the passes that were measured, by these algorithms."""
        texts = zip(Passes._fields, map(str, algorithms), strict=True)
        measured = ((self.seconds[name], text) for name, text in texts if name in self.seconds)
        return sum(seconds.get(text, math.inf) for seconds, text in measured)

    def __str__(self) -> str:
        """Returns a line of seconds before and after, and of passes that are done otherwise now."""
        changed = [
            f"{name.replace('_', ' ')} {old} -> {new}"
            for name, old, new in zip(Passes._fields, self.usual, self.best, strict=True)
            if old != new
        ]
        usual, best = (1e3 * self.seconds_of(passes) for passes in (self.usual, self.best))
        return (
            f"{self.layer!s:18} {usual:8.2f} -> {best:8.2f} ms: {', '.join(changed) or 'as usual'}"
        )


class _OutOfTimeError(ClefError):
    """Nothing new is to be begun."""


def tune(
    convolutions: Iterable[Convolution],
    *,
    views: int,
    dtype: str,
    budget_s: float = math.inf,
    rounds: int = _ROUNDS,
) -> Iterator[Finding]:
    """Yields a finding for each distinct layer, the most expensive first, until time is up.

    Of layers that our own kernels compute there is none, nor of the one that time runs out for.

    Args:
        convolutions: All of a network, equal ones as often as it has them.
        views: Views that a device computes at once.
        dtype: Name of the type computed in.
        budget_s: Seconds after which nothing new is begun.
        rounds: How often each algorithm is timed.
    """
    deadline = time.monotonic() + budget_s
    of_layer: dict[Layer, collections.Counter[Convolution]] = {}
    for convolution in convolutions:
        of_layer.setdefault(convolution.layer, collections.Counter())[convolution] += 1
    usual = {layer: _usual(counts, views, dtype) for layer, counts in of_layer.items()}
    work = {
        layer: sum(count * c.multiplications for c, count in counts.items())
        for layer, counts in of_layer.items()
        if "kernel" not in map(str, usual[layer])
    }
    done = 0
    for layer in sorted(work, key=work.__getitem__, reverse=True):
        try:
            totals = _measure_layer(of_layer[layer], usual[layer], views, dtype, rounds, deadline)
        except _OutOfTimeError:
            return
        done += work[layer]
        share = done / sum(work.values())
        yield Finding(layer, usual[layer], _best(usual[layer], totals), totals, share)


def _usual(convolutions: Iterable[Convolution], views: int, dtype: str) -> Passes:
    """Returns what a step on this process's first device has for a layer, by its shortest input."""
    shortest = min(convolutions, key=lambda convolution: convolution.outputs)
    layer = shortest.layer
    channels = layer.group_channels * layer.groups
    x = jax.ShapeDtypeStruct((views, shortest.samples, channels), dtype)
    kernel = jax.ShapeDtypeStruct((layer.taps, layer.group_channels, shortest.width), dtype)
    # As in a step, the mesh says which kind of device it is for.
    mesh = hosts.data_mesh(jax.local_devices()[:1]).abstract_mesh
    with jax.sharding.use_abstract_mesh(mesh):
        return chosen(x, kernel, layer.stride, layer.groups)[platform()]


def _best(usual: Passes, seconds: Mapping[str, Mapping[str, float]]) -> Passes:
    """Returns the fastest algorithm of each pass, or the usual where nothing is clearly faster."""
    best = {name: str(algorithm) for name, algorithm in usual._asdict().items()}
    for name in best.keys() & seconds.keys():
        fastest = min(seconds[name], key=seconds[name].__getitem__)
        if seconds[name][fastest] < _WORTH * seconds[name].get(best[name], math.inf):
            best[name] = fastest
    if both := seconds.get(BOTH):
        together = min(both, key=both.__getitem__)
        gradients = Passes._fields[1:]
        if both[together] < sum(seconds[name].get(best[name], math.inf) for name in gradients):
            best |= dict.fromkeys(gradients, together)
    return Passes.parse(*(best[name] for name in Passes._fields))


def _measure_layer(
    counts: Mapping[Convolution, int],
    usual: Passes,
    views: int,
    dtype: str,
    rounds: int,
    deadline: float,
) -> dict[str, dict[str, float]]:
    """Returns pass -> algorithm -> seconds over all lengths, of those that compute every length."""
    totals = {}
    for name in (*Passes._fields, BOTH):
        found = {c: _measure(c, name, usual, views, dtype, rounds, deadline) for c in counts}
        texts = set.intersection(*(set(seconds) for seconds in found.values()))
        if texts:
            totals[name] = {
                text: sum(count * found[c][text] for c, count in counts.items()) for text in texts
            }
    return totals


def _measure(
    convolution: Convolution,
    name: str,
    usual: Passes,
    views: int,
    dtype: str,
    rounds: int,
    deadline: float,
) -> dict[str, float]:
    """Returns algorithm -> best seconds of one pass of inputs `[views, samples, C]`."""
    layer = convolution.layer
    texts = set(_candidates(layer, name))
    if name in Passes._fields:
        texts.add(str(getattr(usual, name)))
    x = _draw((views, convolution.samples, layer.group_channels * layer.groups), dtype)
    dy = _draw((views, convolution.outputs, convolution.width), dtype)
    kernel = _draw((layer.taps, layer.group_channels, convolution.width), dtype)
    arrays = (x, kernel, dy)
    functions = {text: _function(name, layer, text) for text in sorted(texts)}
    programs = _that_run(_compile(functions, arrays, deadline), arrays, deadline)
    if not programs:
        return {}

    def repeat(program: Callable[..., Any], calls: int) -> None:
        for _ in range(calls):
            result = program(*arrays)
        jax.block_until_ready(result)

    first = interleaved({t: functools.partial(repeat, p, 1) for t, p in programs.items()}, rounds=1)
    calls = math.ceil(_LEAST_SECONDS / max(1e-6, min(times.best for times in first.values())))
    repeated = {text: functools.partial(repeat, p, calls) for text, p in programs.items()}
    found = interleaved(repeated, rounds=rounds, give_up=1.5)
    return {text: times.best / calls for text, times in found.items()}


def _function(name: str, layer: Layer, text: str) -> Callable[..., Any]:
    algorithm = Algorithm.parse(text)
    shape = layer.stride, layer.groups, algorithm
    return {
        "forward": lambda x, w, dy: passes.forward(x, w, *shape),
        "input_gradient": lambda x, w, dy: passes.input_gradient(x, w, dy, *shape),
        "kernel_gradient": lambda x, w, dy: passes.kernel_gradient(x, w, dy, *shape),
        BOTH: lambda x, w, dy: (
            passes.input_gradient(x, w, dy, *shape),
            passes.kernel_gradient(x, w, dy, *shape),
        ),
    }[name]


def _compile(
    functions: Mapping[str, Callable[..., Any]], arrays: tuple[jax.Array, ...], deadline: float
) -> dict[str, Callable[..., Any]]:
    """Returns the functions compiled as a step is, several at once, without those that fail."""
    options = step_options(platform(), 1)

    def compile_in_time(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
        _ask(deadline)
        return lowered.compile(compiler_options=options)

    lowered = {}
    with multiply_as(arrays[0].dtype):
        for name, function in functions.items():
            _ask(deadline)
            lowered[name] = jax.jit(function).lower(*arrays)
    programs: dict[str, Callable[..., Any]] = {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        compiling = {
            name: pool.submit(compile_in_time, program) for name, program in lowered.items()
        }
        for name, program in compiling.items():
            try:
                programs[name] = program.result()
            except jax.errors.JaxRuntimeError as error:
                logging.info("%s was not compiled: %s", name, str(error).splitlines()[0])
    return programs


def _that_run(
    programs: Mapping[str, Callable[..., Any]], arrays: tuple[jax.Array, ...], deadline: float
) -> dict[str, Callable[..., Any]]:
    """Returns the programs that ran once; for some the memory may not suffice."""
    ran = {}
    for name, program in programs.items():
        _ask(deadline)
        try:
            jax.block_until_ready(program(*arrays))
        except jax.errors.JaxRuntimeError as error:
            logging.info("%s did not run: %s", name, str(error).splitlines()[0])
        else:
            ran[name] = program
    return ran


def _ask(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise _OutOfTimeError


def _candidates(layer: Layer, name: str) -> list[str]:
    """Returns the algorithms to measure, without those that would take minutes only to lose."""
    on_cpu = platform() == "cpu"
    if name == BOTH:
        return list(_FOURIER) if on_cpu and layer.group_channels >= 8 else []
    found = ["native"]
    if packing.pack_size(layer.group_channels, layer.groups) > 1:
        found.append("pack")
    if on_cpu and name == "kernel_gradient" and layer.groups > 1:
        found = []
    found += [f"conv:{block}" for block in (1, 2, 4, 8)]
    if on_cpu:
        found += ["conv:16", *(f"matmul:{block}" for block in (4, 8, 16))]
        found += _FOURIER if layer.group_channels >= 8 else ()
    return found


def platform() -> str:
    """Returns this process's platform as `choice` names it; GPUs of either make are alike to it."""
    backend = jax.default_backend()
    return "cuda" if backend == "gpu" else backend


def _draw(shape: tuple[int, ...], dtype: str) -> jax.Array:
    """Returns numbers that are no pattern to a layer, but take no time to draw."""
    block = np.random.default_rng(0).standard_normal(65_537, np.float32)
    return jnp.asarray(np.resize(block, shape), dtype)
