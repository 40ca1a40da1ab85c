"""The encoders of a comparison: those named, and untrained ones of the same sizes."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp

from clef_jax.checkpoints.items import params_sha256
from clef_jax.checkpoints.patients import patient_hashes, patients_in, with_patients
from clef_jax.data.signals.spec import CLEF_V2, PreprocessingSpec
from clef_jax.errors import ClefError
from clef_jax.inference import Encoder, fingerprints_agree, load_encoder
from clef_jax.models import EncoderConfig, build_model, get_config

RANDOM = "random"
_DEFAULT_SIZE = "clef_small"
_SAMPLES_OF_INIT = 512


class SameWeightsError(ClefError):
    """Two of the weights to compare are the same."""


@dataclasses.dataclass(frozen=True)
class Contestant:
    """An encoder of a comparison.

    Attributes:
        name: What results call it; untrained ones of one size share theirs.
        encoder: The encoder.
        weights: SHA-256 of its parameters.
        seed: Of an untrained one's parameters; 0 for others.
    """

    name: str
    encoder: Encoder
    weights: str
    seed: int = 0


def contestants(weights: Sequence[str], seeds: int) -> list[Contestant]:
    """Loads the encoders to compare.

    Args:
        weights: Folders; "random" stands for untrained encoders of each size among the others,
            with the preprocessing of the first of that size, or of a small one by itself.
        seeds: How many untrained ones of each size.

    Raises:
        SameWeightsError: Two have the same fingerprint.
        CheckpointError: A folder holds no encoder.
    """
    folders = [path for path in weights if path != RANDOM]
    names = _short_names(folders)
    found = []
    for path in folders:
        encoder = load_encoder(path)
        channels = encoder.config.in_channels
        name = names[path] + (f" ({channels} leads)" if channels > 1 else "")
        found.append(Contestant(name, encoder, params_sha256(encoder.params)))
    _require_different(folders, found)
    if RANDOM in weights:
        sizes = {one.encoder.config: one.encoder.preprocessing for one in reversed(found)}
        for config, preprocessing in (sizes or {get_config(_DEFAULT_SIZE): CLEF_V2}).items():
            found += _untrained(config, preprocessing, seeds)
    return found


def is_untrained(one: Contestant) -> bool:
    """Returns whether an encoder's parameters are random."""
    return one.name == f"{RANDOM} {one.encoder.config.name}"


def _untrained(
    config: EncoderConfig, preprocessing: PreprocessingSpec, seeds: int
) -> Iterator[Contestant]:
    # Parameters are of no length of time; a short one compiles sooner.
    x = jnp.zeros((1, _SAMPLES_OF_INIT, config.in_channels))
    init = jax.jit(build_model(config).init)
    for seed in range(seeds):
        params = init(jax.random.key(seed), x)["params"]
        meta = with_patients({}, frozenset())
        encoder = Encoder(config, params, preprocessing=preprocessing, meta=meta)
        yield Contestant(f"{RANDOM} {config.name}", encoder, params_sha256(params), seed)


def _short_names(folders: Sequence[str]) -> dict[str, str]:
    """Returns for each folder the last parts of its path, as few as tell it from the others."""
    parts = {folder: pathlib.Path(os.path.abspath(folder)).parts for folder in folders}
    names: dict[str, str] = {}
    for depth in range(1, max(map(len, parts.values()), default=0) + 1):
        ends = {folder: "/".join(path[-depth:]) for folder, path in parts.items()}
        count = collections.Counter(ends.values())
        names = {f: end for f, end in ends.items() if count[end] == 1} | names
    return names | {folder: folder for folder in folders if folder not in names}


def _require_different(folders: Sequence[str], found: Sequence[Contestant]) -> None:
    for i, one in enumerate(found):
        for j in range(i):
            if fingerprints_agree(one.encoder.fingerprint, found[j].encoder.fingerprint):
                raise SameWeightsError(
                    f"--weights {folders[j]} and --weights {folders[i]} are the same encoder: "
                    "their fingerprints agree, so that nothing could tell them apart; leave one out"
                )


def overlap(encoder: Encoder, patients: Iterable[str]) -> str:
    """Says how many of the tested patients an encoder has seen in training, so far as it tells.

    Raises:
        CheckpointError: What its record holds of them is nothing this release can read.
    """
    known = patients_in(encoder.meta)
    if known is None:
        return "unknown: the checkpoint does not say"
    tested = patient_hashes(patients)
    return f"{len(tested & known):,} of {len(tested):,} tested patients"
