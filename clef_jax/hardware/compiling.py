"""How programs are compiled: where JAX keeps them, and XLA's options for each platform."""

import os
import pathlib
import re
from typing import Any

import jax
from absl import logging

from clef_jax.hardware.allocator import steps_run_on_cpu
from clef_jax.hardware.caches import cache_folder

# On GPUs compiling is choosing among kernels by trying each, some 0.7 s for every distinct
# instruction: clef_small took 260 s to compile on an H100.
_GPU = {
    # Tries tiles for elementwise fusions too, on by default since 0.10. Without, a cost model
    # chooses them, and of clef_small's 373 instructions 105 are left: the products.
    "xla_gpu_experimental_enable_fusion_autotuner": False,
    # Level 4, the default, also compares what each kernel computes with the first one's result. Not
    # 0: some of the tiles that are taken untried do not compile.
    "xla_gpu_autotune_level": 3,
}
# Gradients are exchanged while others are still being computed. All together they would wait for
# the last; one by one, small ones would cost more in starts than in bytes. Not yet measured.
_COMBINED_BYTES = 32 << 20
_SEVERAL_GPUS = {
    "xla_gpu_enable_latency_hiding_scheduler": True,
    "xla_gpu_all_reduce_combine_threshold_bytes": _COMBINED_BYTES,
    "xla_gpu_all_gather_combine_threshold_bytes": _COMBINED_BYTES,
    "xla_gpu_reduce_scatter_combine_threshold_bytes": _COMBINED_BYTES,
}
_TPU = {
    # Of a core's fast memory, what one of XLA's own operations may take (16 MiB otherwise). XLA
    # takes all of it and spells the arithmetic of a whole window out, so that the time to compile
    # grows with the windows: a block of clef_small takes 6 s instead of 15, one of clef_medium 6
    # instead of 20, and they are predicted to run 3 and 6 % longer (with 2 MiB 10 and 21 %).
    # An operation that cannot do with as little does not compile; `rows_of_kernel` avoids one. Our
    # own kernels say themselves what they need.
    "xla_tpu_scoped_vmem_limit_kib": "4096",
}
_SEVERAL_TPUS = {
    # With these two an all-reduce runs beside the products that follow it (the compiler's
    # schedules for v5e, libtpu 0.0.42) ...
    "xla_enable_async_all_reduce": "true",
    "xla_tpu_enable_async_collective_fusion_fuse_all_reduce": "true",
    # ... if it is of one array. So only small ones are combined, for which a start costs most.
    "xla_jf_crs_combiner_threshold_in_bytes": str(256 << 10),
}


def step_options(platform: str, devices: int) -> dict[str, Any]:
    """Returns XLA's options for a program of training, for `jax.jit(compiler_options=…)`.

    They belong to one program, as a process may compile for another platform than its own. What
    `XLA_FLAGS` or `LIBTPU_INIT_ARGS` set is left to these.

    Args:
        platform: That of the devices: "cpu", "tpu", "gpu" or "cuda".
        devices: How many of them share the program.
    """
    alone: dict[str, Any]
    several: dict[str, Any]
    if platform in ("gpu", "cuda"):
        alone, several = _GPU, _SEVERAL_GPUS
    elif platform == "tpu":
        alone, several = _TPU, _SEVERAL_TPUS
    else:
        return {}
    options = alone | several if devices > 1 else alone
    flags = f"{os.environ.get('XLA_FLAGS', '')} {os.environ.get('LIBTPU_INIT_ARGS', '')}"
    given = re.findall(r"(?:^|\s)--?(?:no)?(xla\w+)", flags)
    return {name: value for name, value in options.items() if name not in given}


def keep_programs() -> pathlib.Path | None:
    """Has JAX keep compiled programs for GPUs and TPUs, which take minutes, from run to run.

    They go to `$XDG_CACHE_HOME/clef_jax/xla`, or `~/.cache/clef_jax/xla`, along with what the
    compiler has found out by trying kernels. A folder that `JAX_COMPILATION_CACHE_DIR` or
    `jax.config` names comes first; the empty name is for none. Nothing is kept for the CPU: it
    compiles in seconds, and homes are shared by machines whose processors have other instructions.
    XLA only warns, and crashes, when it loads a program that uses some its processor lacks
    (jax-ml/jax#38445).

    Returns:
        The folder that is chosen here, or None.
    """
    if jax.config.values["jax_compilation_cache_dir"] is not None or steps_run_on_cpu():
        return None
    try:
        folder = cache_folder() / "xla"
        # It holds programs that will be run: nobody else may write there.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder} cannot be written")
    except OSError as error:
        logging.warning(
            "compiled programs are not kept (%s); set JAX_COMPILATION_CACHE_DIR to a folder that "
            "can be written, or to nothing",
            error,
        )
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder
