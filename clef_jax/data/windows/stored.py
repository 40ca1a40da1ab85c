"""Windows that shards hold, as the encoder's input."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from clef_jax.data.recordings import RecordingError
from clef_jax.data.signals import preprocessing, quality
from clef_jax.data.signals.quality import QualityFlag
from clef_jax.data.signals.spec import PreprocessingSpec
from clef_jax.data.windows.cut import Windows, WindowSettings, choose_leads
from clef_jax.data.windows.sources import Source, open_shards


def read_stored(
    sources: Sequence[Source], rows: np.ndarray, settings: WindowSettings
) -> Iterator[tuple[Source, Windows | RecordingError]]:
    """Reads windows of one set of shards, in one go, and yields those of each source.

    A lead that a window lacks, because it was no good there, is non-finite in it where the
    recording has it elsewhere.

    Args:
        sources: Of each window.
        rows: Of the index, one for each window.
        settings: Which leads are wanted.

    Raises:
        RecordingError: The shards do not hold such windows.
        ShardError: They cannot be read.
    """
    shards = open_shards(sources[0].file)
    if settings.spec != shards.spec or settings.channels > 1:
        raise RecordingError(
            f"{shards.folder}: shards hold one lead each of {shards.spec.seconds:g} s; for other "
            "windows, or an encoder of several leads, embed the recordings themselves"
        )
    wanted: dict[Source, list[int]] = {}
    faults: dict[Source, RecordingError] = {}
    for source in dict.fromkeys(sources):
        try:
            wanted[source] = _wanted_leads(shards, source, settings)
        except RecordingError as error:
            wanted[source], faults[source] = [], error
    entries = [
        (row, lead)
        for source, row in zip(sources, rows.tolist(), strict=True)
        for lead in wanted[source]
    ]
    x, flags = _read(shards, [row for row, _ in entries], [lead for _, lead in entries])
    at = 0
    for source, of_source in itertools.groupby(sources):
        if source in faults:
            yield source, faults[source]
            continue
        part = slice(at, at := at + len(wanted[source]) * len(list(of_source)))
        yield (
            source,
            Windows(
                x=x[part, :, None],
                lead=[shards.montage.leads[lead] for _, lead in entries[part]],
                start_s=shards.start_s[[row for row, _ in entries[part]]].astype(np.float64),
                quality=flags[part],
                fs=shards.spec.fs,
            ),
        )


def _wanted_leads(shards, source: Source, settings: WindowSettings) -> list[int]:
    """Returns the ids of a recording's leads that are wanted, among those of all its windows."""
    ids = shards.lead_ids[source.position : source.position + source.windows]
    ids = np.unique(ids[ids >= 0])
    names = [shards.montage.leads[i] for i in ids]
    return ids[choose_leads(names, settings, f"{source.file}: {source.record}")].tolist()


def _read(shards, rows: list[int], leads: list[int]) -> tuple[np.ndarray, list[QualityFlag]]:
    """Returns the float32 [entries, samples] input of leads, by their ids, and their flags."""
    x = np.zeros((len(rows), shards.spec.samples), np.float32)
    is_lead = shards.lead_ids[rows] == np.array(leads, np.int8)[:, None]
    held = np.flatnonzero(is_lead.any(axis=1))
    steps = shards.read(np.array(rows)[held], is_lead[held].argmax(axis=1))
    flags = [QualityFlag.NON_FINITE] * len(rows)
    z = preprocessing.normalise(steps[:, None], shards.spec)[:, 0]
    for entry, one in zip(held, z, strict=True):
        x[entry] = one
        flags[entry] = _flag(one, shards.spec)
    return x, flags


def _flag(x: np.ndarray, spec: PreprocessingSpec) -> QualityFlag:
    if not x.any():
        return QualityFlag.FLAT
    judged = preprocessing.in_ecg_band(x, spec)
    return QualityFlag.NOISE if quality.is_noise(judged, spec.fs) else QualityFlag.OK
