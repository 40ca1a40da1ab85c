"""clef-jax info: what a checkpoint says of itself, and whether it still computes the same."""

import argparse
import json
import sys
import textwrap


def add_command(commands) -> None:
    """Adds the command to the parser."""
    info = commands.add_parser("info", help="describe a checkpoint and check its fingerprint")
    info.add_argument("folder", metavar="DIR")
    info.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    import jax

    from clef_jax.data.signals.recipe import recipe
    from clef_jax.inference import fingerprints_agree, load_encoder
    from clef_jax.models import config_to_dict

    encoder = load_encoder(arguments.folder)
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
            f"{arguments.folder}: fingerprint {encoder.fingerprint} computed, {stored} stored: the "
            "weights or their computation changed; convert them again and compare",
            file=sys.stderr,
        )
        return 1
    return 0
