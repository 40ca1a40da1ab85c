"""clef-jax tune: measures on this machine's device how to compute each convolution fastest."""

import argparse
import sys
import time

from clef_jax.cli.arguments import count, names, positive


def add_command(commands) -> None:
    """Adds the command to the parser."""
    tune = commands.add_parser(
        "tune",
        help="measure which algorithms suit this device, for pretraining",
        description="Measures the algorithms of every grouped convolution on this machine's first "
        "device, the most expensive layer first, and keeps the fastest in a table in "
        "$XDG_CACHE_HOME/clef_jax (by default ~/.cache/clef_jax), from which pretraining with as "
        "many records on a device and views as long takes them. On a TPU layers that kernels of "
        "our own compute stay with these.",
    )
    tune.add_argument("sizes", metavar="SIZES", type=names, help="clef_medium or clef_small,...")
    tune.add_argument(
        "--batch", type=count, help="records of a step on one device (64; on CPU 8), two views each"
    )
    tune.add_argument("--samples", type=count, default=5000, help="samples of a view (%(default)s)")
    tune.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="type that is computed in (bfloat16; on CPU float32)",
    )
    tune.add_argument("--seconds", type=positive, default=120, help="time to take (%(default)s)")
    tune.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    import jax

    from clef_jax import models
    from clef_jax.cli.arguments import UsageError
    from clef_jax.files import only_writer
    from clef_jax.hardware.caches import device_name
    from clef_jax.hardware.compiling import keep_programs
    from clef_jax.ops.grouped_conv import tuned
    from clef_jax.ops.grouped_conv.tuning import tune

    known = models.list_models()
    if unknown := [size for size in arguments.sizes if size not in known]:
        raise UsageError(f"{unknown[0]}: no such size; choose of {', '.join(known)}")
    keep_programs()
    device = jax.local_devices()[0]
    on_cpu = device.platform == "cpu"
    batch = arguments.batch or (8 if on_cpu else 64)
    dtype = arguments.dtype or ("float32" if on_cpu else "bfloat16")
    convolutions = [
        convolution
        for size in arguments.sizes
        for convolution in models.get_config(size).convolutions(arguments.samples)
    ]
    conditions = tuned.Conditions(device_name(device), dtype, 2 * batch, arguments.samples)
    print(f"{conditions.device}, {dtype}, {batch} records a step: at most {arguments.seconds:g} s")
    begin, findings = time.monotonic(), []
    with only_writer(tuned.table_path(conditions)):
        for finding in tune(convolutions, views=2 * batch, dtype=dtype, budget_s=arguments.seconds):
            findings.append(finding)
            best = {str(finding.layer): [str(algorithm) for algorithm in finding.best]}
            path = tuned.write_table(conditions, best)
            elapsed = time.monotonic() - begin
            left = min(elapsed / finding.share, max(arguments.seconds, elapsed)) - elapsed
            print(f"{finding}; about {left:.0f} s left", flush=True)
    if not findings:
        print(
            "clef-jax tune: nothing was measured; take more --seconds, unless kernels of our own "
            "compute every layer",
            file=sys.stderr,
        )
        return 1
    usual = sum(finding.seconds_of(finding.usual) for finding in findings)
    tuned_s = sum(finding.seconds_of(finding.best) for finding in findings)
    print(
        f"{findings[-1].share:.0%} of the convolutions' work measured, each layer alone: "
        f"{1e3 * usual:.2f} ms a step as they are chosen otherwise, {1e3 * tuned_s:.2f} ms tuned\n"
        f"written: {path}"
    )
    return 0
