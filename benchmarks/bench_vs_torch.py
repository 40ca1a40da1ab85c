r"""Measures the full pretraining step against the same step in PyTorch, side by side.

    python -m benchmarks.bench_vs_torch --size medium
    python -m benchmarks.bench_vs_torch --size large --batch 128 --variants autocast

Each side lives in a process of its own, and they take turns step by step, so that both meet the
same machine, with a pause before each: threads that wait for more work spin for a while, and would
take a core from the other side. Prints and keeps one JSON line for each variant of the peer;
`ratio` is the median over rounds of PyTorch's duration over this package's: above 1, this package
is faster. On CPU the peer is eager float32, as it comes and on huge pages as ours is, and takes one
to four minutes a size; on a GPU it is eager with and without TF32, compiled, and in bfloat16
autocast, two minutes a size.
"""

import multiprocessing
import os
import statistics
import time

from absl import app, flags

_SIZE = flags.DEFINE_enum("size", "small", ["small", "medium", "large"], "Size to measure.")
_BATCH = flags.DEFINE_integer("batch", None, "Records a step; as bench_step's by default.")
_VARIANTS = flags.DEFINE_list("variants", None, "Variants of the peer; all that fit by default.")
_ROUNDS = flags.DEFINE_integer("rounds", None, "Steps of each side; 9 on CPU and 30 on GPU.")
_QUICK = flags.DEFINE_bool("quick", False, "Batch 2, two rounds, nothing kept.")

_PAUSE = 0.5
# An allocator takes a few steps to settle on where it puts a step's temporaries.
_WARM_STEPS = 5
# Eager with the allocator's settings that our training makes, which PyTorch leaves to its users.
_ON_OUR_MEMORY = "eager_huge_pages"


def _serve(connection, make_step) -> None:
    """Runs steps on demand: receives anything, sends (seconds, loss); an exception's text first."""
    step = make_step()
    for _ in range(_WARM_STEPS):
        step()
    connection.send("ready")
    while connection.recv():
        begin = time.perf_counter()
        loss = step()
        connection.send((time.perf_counter() - begin, loss))


def _serve_jax(connection, size: str, batch: int, dtype: str) -> None:
    from benchmarks.programs import make_program
    from clef_jax.hardware import allocator

    allocator.keep_freed_memory()
    _serve(connection, lambda: make_program(size, batch, dtype=dtype, devices=1).step)


def _serve_torch(connection, size: str, batch: int, variant: str, device: str) -> None:
    from benchmarks.torch_peer import make_step
    from clef_jax.hardware import allocator

    if variant == _ON_OUR_MEMORY:
        allocator.keep_freed_memory()
        variant = "eager"
    _serve(connection, lambda: make_step(size, batch, variant, device))


class Side:
    """One side of the comparison, in a process of its own."""

    def __init__(self, serve, *arguments):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._connection.recv()  # An EOFError here follows the process's own traceback.

    def step(self) -> float:
        """Returns the seconds that one step took, begun when all threads have gone to sleep."""
        time.sleep(_PAUSE)
        self._connection.send(True)
        seconds, loss = self._connection.recv()
        if loss != loss:
            raise FloatingPointError("the loss is not a number: this is no measurement")
        return seconds

    def close(self) -> None:
        """Ends the process."""
        self._connection.send(False)
        self._process.join()


def compare(ours: Side, peer: Side, rounds: int) -> tuple[list[float], list[float]]:
    """Returns the durations of both sides' steps, taken in turn."""
    pairs = [(ours.step(), peer.step()) for _ in range(rounds)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def main(argv: list[str]) -> None:
    """Measures this size against every variant."""
    del argv
    # Both sides share a GPU's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax
    import torch

    from benchmarks.programs import default_batch
    from benchmarks.results import Measurements
    from clef_jax.hardware.timing import Times

    measurements = Measurements("vs_torch", keep=not _QUICK.value)
    on_gpu = torch.cuda.is_available() and jax.default_backend() == "gpu"
    size, device = f"clef_{_SIZE.value}", "cuda" if on_gpu else "cpu"
    batch = 2 if _QUICK.value else _BATCH.value or default_batch(size)
    rounds = 2 if _QUICK.value else _ROUNDS.value or (30 if on_gpu else 9)
    usual = ["eager", "eager_tf32", "compile_tf32", "autocast", "compile_autocast"]
    variants = _VARIANTS.value or (usual if on_gpu else ["eager", _ON_OUR_MEMORY])
    ours = {}
    for variant in variants:
        dtype = "bfloat16" if "autocast" in variant else "float32"
        if dtype not in ours:
            ours[dtype] = Side(_serve_jax, size, batch, dtype)
        peer = Side(_serve_torch, size, batch, variant, device)
        mine, theirs = compare(ours[dtype], peer, rounds)
        peer.close()
        measurements.add(
            size=size, batch=batch, dtype=dtype, peer=variant,
            ratio=statistics.median(b / a for a, b in zip(mine, theirs, strict=True)),
            ratio_of_best=min(theirs) / min(mine),
            **Times.of(mine).fields(), **Times.of(theirs).fields("torch_"),
        )  # fmt: skip
    for side in ours.values():
        side.close()


if __name__ == "__main__":
    app.run(main)
