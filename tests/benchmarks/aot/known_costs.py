"""Compiles operations whose cost is known by arithmetic, and prints what is predicted for them.

    python known_costs.py TARGET FOLDER

A process of its own, as the compilers read their flags once.
"""

import json
import os
import pathlib
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
target_name, folder = sys.argv[1], pathlib.Path(sys.argv[2])

from benchmarks.aot import predict

os.environ.update(predict.dump_flags(folder))

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.sharding import SingleDeviceSharding

from clef_jax.hardware import targets

SIDE, ELEMENTS, TRIPS, GRID, OUTER, INNER = 4096, 1 << 27, 200, 4, 30, 50


def shape(*dims, dtype=jnp.bfloat16):
    return jax.ShapeDtypeStruct(dims, dtype)


def scanned(x, w):
    return lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length=TRIPS)[0]


def kernel(x_ref, w_ref, out_ref):
    def outer(i, total):
        def inner(j, total):
            return total + jnp.dot(x_ref[j], w_ref[...], preferred_element_type=jnp.float32)

        return lax.fori_loop(0, INNER, inner, total)

    out_ref[...] = lax.fori_loop(0, OUTER, outer, jnp.zeros((128, 128), jnp.float32))


def nested(x, w):
    return pl.pallas_call(
        kernel,
        grid=(GRID,),
        in_specs=[
            pl.BlockSpec((INNER, 128, 128), lambda i: (i, 0, 0)),
            pl.BlockSpec((128, 128), lambda i: (0, 0)),
        ],
        out_specs=pl.BlockSpec((128, 128), lambda i: (i, 0)),
        out_shape=jax.ShapeDtypeStruct((GRID * 128, 128), jnp.float32),
    )(x, w)


def convolved(x, w):
    return lax.conv_general_dilated(
        x, w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=8
    )


CASES = {
    "product": (jnp.dot, shape(SIDE, SIDE), shape(SIDE, SIDE)),
    "addition": (lambda x: x + 1, shape(ELEMENTS, dtype=jnp.float32)),
    "convolution": (convolved, shape(64, 500, 256), shape(16, 32, 256)),
}
TPU_CASES = {
    "one trip": (lambda x, w: jnp.tanh(x @ w), shape(512, 128), shape(128, 128)),
    "scan": (scanned, shape(512, 128), shape(128, 128)),
    "kernel": (nested, shape(GRID * INNER, 128, 128), shape(128, 128)),
}

target = targets.describe(target_name, 1)
sharding = SingleDeviceSharding(target.devices[0])
for name, (function, *shapes) in (CASES | (TPU_CASES if target.platform == "tpu" else {})).items():
    for path in folder.iterdir():
        path.unlink()
    jitted = jax.jit(function, in_shardings=sharding, out_shardings=sharding)
    compiled = jitted.lower(*shapes).compile(compiler_options=target.compiler_options)
    dump = folder if target.platform == "tpu" else None
    found = predict.predict(compiled.as_text(), target.device_kind, dump)
    numbers = {
        "seconds": found.seconds,
        "compute_seconds": sum(cost.compute_seconds for cost in found.costs),
        "bytes": found.bytes,
        "flops": found.flops,
        "resolved": found.resolved,
    }
    print(json.dumps({"name": name} | numbers), flush=True)
