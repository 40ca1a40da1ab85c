"""clef-jax info: how far a run is, what a checkpoint holds, whether it still computes the same."""

import argparse
import datetime
import json
import pathlib
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clef_jax.train.run_state import RunState


def add_command(commands) -> None:
    """Adds the command to the parser."""
    info = commands.add_parser("info", help="describe a run or a checkpoint, and check the latter")
    info.add_argument("folder", metavar="DIR")
    info.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from clef_jax.checkpoints.meta import CHECKPOINTS, steps_in
    from clef_jax.train.run_state import is_run, read_run_state

    folder = pathlib.Path(arguments.folder)
    if not is_run(folder):
        return _describe_encoder(arguments.folder)
    state = read_run_state(folder)
    print("\n".join(_lines_of(state, folder)))
    if state.newest is not None and state.newest.fault is not None:
        print(state.newest.fault, file=sys.stderr)
        return 1
    if not steps_in(folder / CHECKPOINTS):
        return 0
    if state.holder is not None:
        import jax

        jax.config.update("jax_platforms", "cpu")  # Other devices may be the run's alone.
    return _describe_encoder(arguments.folder)


def _lines_of(state: "RunState", folder: pathlib.Path) -> list[str]:
    """Returns what there is to say of a run, besides its encoder."""
    if state.holder is not None:
        status = f"runs: {state.holder}"
    else:
        status = state.ended or "ended without a report, by an error or killed"
    step = f"step: {state.step:,}" + (f" of {state.steps:,}" if state.steps else "")
    if state.steps_per_epoch:
        step += f", epoch {state.step / state.steps_per_epoch:.2f}"
    lines = [f"run: {state.model} by {state.method}", f"status: {status}", step]
    if state.steps_per_s:
        rate = f"rate: {state.records_per_s:,.1f} records/s, {state.steps_per_s:,.2f} steps/s"
        lines.append(", ".join([rate, *(f"{k} {v:.3g}" for k, v in state.rates.items())]))
        if state.steps and state.steps > state.step:
            seconds = round((state.steps - state.step) / state.steps_per_s)
            left = datetime.timedelta(seconds=seconds)
            lines.append(f"left: {left} at this rate, without evaluations and checkpoints")
    for name, (at, value) in state.evaluations.items():
        lines.append(f"{name}: {value:.4g} at step {at:,}")
    lines.append(f"checkpoint: {_checkpoint_of(state, folder)}")
    if state.mesh:
        lines.append(f"mesh: {json.dumps(state.mesh)}")
    if state.versions:
        lines.append(f"versions: {json.dumps(state.versions)}")
    return lines


def _checkpoint_of(state: "RunState", folder: pathlib.Path) -> str:
    if state.newest is None:
        return "none yet"
    path, has_sums, fault = state.newest
    found = "whole by its checksums" if has_sums else "has no checksums to compare"
    return f"{path.relative_to(folder)}, {found if fault is None else 'damaged'}"


def _describe_encoder(folder: str) -> int:
    import jax

    from clef_jax.data.signals.recipe import recipe
    from clef_jax.inference import fingerprints_agree, load_encoder
    from clef_jax.models import config_to_dict

    encoder = load_encoder(folder)
    count = sum(leaf.size for leaf in jax.tree.leaves(encoder.params))
    print(
        f"{encoder.config.name}: {count:,} parameters, {encoder.config.embedding_dim}-d embedding"
    )
    print(json.dumps(config_to_dict(encoder.config)))
    print(f"preprocessing: {json.dumps(encoder.preprocessing.to_dict())}")
    written = encoder.meta["preprocessing"]["version"]
    if written != encoder.preprocessing.version:
        print(f"trained on version {written}: the same for recordings at 500 Hz")
    print(f"in Python:\n\n{textwrap.indent(recipe(encoder.preprocessing), '    ')}")
    print(f"provenance: {json.dumps(encoder.meta.get('provenance', {}), indent=2)}")
    print(f"written by: {json.dumps(encoder.meta.get('versions', {}))}")
    if encoder.classifier is not None:
        print(f"classifier: {encoder.classifier['bias'].size} classes")
    stored = encoder.meta.get("fingerprint")
    if not stored and "weights_sha256" in encoder.meta:  # Which loading has compared.
        print(
            f"weights: as the run saved them, by their SHA-256; fingerprint {encoder.fingerprint}"
        )
    elif not stored:
        print(f"fingerprint: none stored; computed {encoder.fingerprint}")
    elif fingerprints_agree(encoder.fingerprint, stored):
        print("fingerprint: computed as stored")
    else:
        print(
            f"{folder}: fingerprint {encoder.fingerprint} computed, {stored} stored: the "
            "weights or their computation changed; convert them again and compare",
            file=sys.stderr,
        )
        return 1
    return 0
