"""What an encoder has learned, beside an untrained one and beside plain measurements."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from clef_jax.data.signals.preprocessing import in_ecg_band
from clef_jax.data.signals.spec import PreprocessingSpec, spec_differences
from clef_jax.evaluate.learned import intervals, probe
from clef_jax.evaluate.learned.intervals import Estimate
from clef_jax.evaluate.learned.plain import plain_features
from clef_jax.evaluate.learned.recordings import Recordings, ReportError, encoder_input
from clef_jax.evaluate.learned.tasks import TASKS, Task
from clef_jax.evaluate.metrics import auroc
from clef_jax.inference import Encoder
from clef_jax.methods import row_keys
from clef_jax.methods.augment import augment_view
from clef_jax.models import build_model
from clef_jax.train.evaluators.probe import effective_rank

REPRESENTATIONS = ("plain", "untrained", "pretrained")
LABEL_SHARES = (0.01, 0.1, 1.0)

# Fewer than these, and a figure would say more about chance than about the encoder.
MIN_LEARNT_FROM, MIN_TESTED, MIN_OF_EACH_CLASS = 10, 30, 5

# Choices of 1 % or 10 % of the patients, over which a figure is averaged.
_CHOICES = 5
_ROWS_AT_ONCE = 64

# some x_mv [n, T] after others -> z [n, D] of each
Represent = Callable[[Iterable[np.ndarray]], Iterable[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Figure:
    """One question to all representations.

    Attributes:
        name: What is asked for: a task's name, view or visit.
        metric: "R²", "AUC" or "recall at 1".
        labels: Share of the training patients' labels that the probe learnt from; None where
            nothing is fitted.
        learnt_from: Patients that the probe learnt from.
        tested: Patients that it was tested on.
        too_few: Why there is no figure, or "".
        estimates: The figure of each representation.
        gains: What the pretrained encoder has over each of the others.
    """

    name: str
    metric: str
    labels: float | None
    learnt_from: int
    tested: int
    too_few: str = ""
    estimates: Mapping[str, Estimate] = dataclasses.field(default_factory=dict)
    gains: Mapping[str, Estimate] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Learned:
    """All figures, and the effective rank of each representation of the held-out patients."""

    figures: Sequence[Figure]
    effective_rank: Mapping[str, float]
    dimensions: Mapping[str, int]
    held_out: int
    patients: int
    of_patients: int
    lead: str


def what_was_learned(
    pretrained: Encoder, recordings: Recordings, noise: np.ndarray, *, seed: int = 0
) -> Learned:
    """Returns the figures of an encoder beside those of an untrained one and of `plain_features`.

    Probes learn from the training patients' first recordings and are tested on the validation
    patients'. Retrieval looks for a validation patient among all of them: by two augmented views of
    the first recording, and by the recording of another visit.

    Args:
        pretrained: The encoder, of one lead.
        recordings: From `choose_recordings`.
        noise: The noise bank on the shards' montage `[4, leads, M]`, for the views.
        seed: Seed of views, choices, intervals and the untrained encoder.

    Raises:
        ReportError: The encoder reads several leads at once, or needs other preprocessing than
            the shards have.
    """
    if pretrained.config.in_channels != 1:
        raise ReportError(
            f"the encoder reads {pretrained.config.in_channels} leads at once; the report is about "
            "encoders of one lead"
        )
    spec = recordings.shards.spec
    if differing := spec_differences(spec, pretrained.preprocessing):
        raise ReportError(
            f"{recordings.shards.folder}: the shards' preprocessing is not the encoder's: "
            f"{differing}; write shards for this encoder (--spec)"
        )
    represent = {
        "plain": by_measuring(spec),
        "untrained": by_encoder(_untrained(pretrained, seed)),
        "pretrained": by_encoder(pretrained),
    }
    held_out = recordings.held_out
    revisited = held_out & (recordings.other >= 0)
    z = {name: represent_records(f, recordings, recordings.first) for name, f in represent.items()}
    figures = [
        _probe(task, labels, recordings, z, seed) for task in TASKS for labels in LABEL_SHARES
    ]

    view = _view_maker(recordings, noise, seed)

    def two_views(name):
        looked_at = recordings.first[held_out]
        by_name = represent[name]
        return [represent_records(by_name, recordings, looked_at, view(k)) for k in range(2)]

    def two_visits(name):
        again = recordings.other[revisited]
        return z[name][revisited], represent_records(represent[name], recordings, again)

    figures.append(_retrieval("view", int(held_out.sum()), two_views, z, seed))
    figures.append(_retrieval("visit", int(revisited.sum()), two_visits, z, seed))
    ranked = ("untrained", "pretrained") if held_out.sum() > 1 else ()
    return Learned(
        figures=figures,
        effective_rank={name: effective_rank(z[name][held_out]) for name in ranked},
        dimensions={name: z[name].shape[1] for name in REPRESENTATIONS},
        held_out=int(held_out.sum()),
        patients=len(held_out),
        of_patients=recordings.of_patients,
        lead=recordings.lead,
    )


def _untrained(encoder: Encoder, seed: int) -> Encoder:
    model = build_model(encoder.config)
    x = jnp.zeros((1, encoder.preprocessing.samples, encoder.config.in_channels))
    params = jax.jit(model.init)(jax.random.key(seed), x)["params"]
    return Encoder(encoder.config, params, preprocessing=encoder.preprocessing)


def by_measuring(spec: PreprocessingSpec) -> Represent:
    """Returns `plain_features` of leads of that preprocessing as a representation."""

    def measure(signals_mv: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for x_mv in signals_mv:
            yield np.stack([plain_features(x, spec.fs) for x in in_ecg_band(x_mv, spec)])

    return measure


def by_encoder(encoder: Encoder) -> Represent:
    """Returns the embeddings of an encoder of one lead as a representation."""

    def embed(signals_mv: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for outputs in encoder.forward.stream(map(encoder_input, signals_mv)):
            yield outputs.embedding

    return embed


def represent_records(
    represent: Represent, recordings: Recordings, records: np.ndarray, view=None
) -> np.ndarray:
    """Returns what a representation makes of records, or of views of them: `[n, D]`."""

    def signals_mv() -> Iterator[np.ndarray]:
        for start in range(0, len(records), _ROWS_AT_ONCE):
            x_mv = recordings.read_mv(records[start : start + _ROWS_AT_ONCE])
            yield x_mv if view is None else view(start, x_mv)

    return np.concatenate(list(represent(signals_mv()))) if len(records) else np.empty((0, 0))


def _view_maker(recordings: Recordings, noise: np.ndarray, seed: int):
    """Returns the function (number of the view) -> (first row, x_mv [n, T]) -> views [n, T]."""
    bank = jnp.asarray(noise)  # Once: it takes hundreds of megabytes.
    lead = jnp.int32(recordings.shards.montage.id_of(recordings.lead))

    @jax.jit
    def augment(bank, number, rows, x_mv):
        keys = row_keys(seed, number, rows)
        return jax.vmap(augment_view, in_axes=(0, 0, None, None))(keys, x_mv, lead, bank)

    def view(number: int):
        def of_rows(start: int, x_mv: np.ndarray) -> np.ndarray:
            rows = start + np.arange(_ROWS_AT_ONCE)
            missing = _ROWS_AT_ONCE - len(x_mv)
            padded = np.pad(x_mv.astype(np.float32), ((0, missing), (0, 0)))
            return np.asarray(augment(bank, jnp.int32(number), rows, padded))[: len(x_mv)]

        return of_rows

    return view


def _probe(
    task: Task, labels: float, recordings: Recordings, z: Mapping[str, np.ndarray], seed: int
) -> Figure:
    """Answers a task from a share of the training patients' labels."""
    columns = recordings.annotations.columns
    figure = Figure(task.name, task.metric, labels, learnt_from=0, tested=0)
    if absent := [column for column in task.columns if column not in columns]:
        return dataclasses.replace(figure, too_few=f"no annotation of {', '.join(absent)}")
    y = task.target({column: columns[column][recordings.first] for column in task.columns})
    known, held_out = np.isfinite(y), recordings.held_out
    train, test = np.flatnonzero(~held_out & known), np.flatnonzero(held_out & known)
    count = round(labels * len(train))
    figure = dataclasses.replace(figure, learnt_from=count, tested=len(test))
    rng = np.random.default_rng([seed, round(1000 * labels)])
    choices = [
        np.sort(rng.permutation(train)[:count]) for _ in range(_CHOICES if labels < 1 else 1)
    ]
    if too_few := _too_few(task.metric, y[test], [y[chosen] for chosen in choices]):
        return dataclasses.replace(figure, too_few=too_few)
    fit, measure = {
        "R²": (probe.ridge_predictions, intervals.r2),
        "AUC": (probe.logistic_scores, auroc),
    }[task.metric]
    predictions = {
        key: [fit(a[chosen], y[chosen], a[test]) for chosen in choices] for key, a in z.items()
    }
    estimates, gains = intervals.estimate(measure, y[test], predictions, of="pretrained", seed=seed)
    return dataclasses.replace(figure, estimates=estimates, gains=gains)


def _too_few(metric, tested, learnt_from) -> str:
    """Returns why these targets answer nothing, or ""."""
    if len(tested) < MIN_TESTED:
        return f"too few ({len(tested)} patients to test on, of {MIN_TESTED} needed) to tell"
    fewest = min(len(y) for y in learnt_from)
    if fewest < MIN_LEARNT_FROM:
        return f"too few ({fewest} patients to learn from, of {MIN_LEARNT_FROM} needed) to tell"
    if metric == "AUC":
        rarer = min(min(np.sum(y == 1), np.sum(y == 0)) for y in [tested, *learnt_from])
        least = 2 if len(learnt_from) > 1 else MIN_OF_EACH_CLASS
        if rarer < least:
            return f"too few ({rarer} patients of one class, of {least} needed) to tell"
    return ""


def _retrieval(name, tested, pair_of, everyone, seed) -> Figure:
    """Looks for patients again, each dimension standardised over everyone's first recording."""
    figure = Figure(name, "recall at 1", None, learnt_from=0, tested=tested)
    if tested < MIN_TESTED:
        text = f"too few ({tested} patients to look for, of {MIN_TESTED} needed) to tell"
        return dataclasses.replace(figure, too_few=text)
    hits = {}
    for key in REPRESENTATIONS:
        middle, spread = np.nanmean(everyone[key], axis=0), np.nanstd(everyone[key], axis=0)
        a, b = (
            np.nan_to_num((z - middle) / (spread + 1e-9), nan=0, posinf=0, neginf=0)
            for z in pair_of(key)
        )
        hits[key] = [probe.found_again(a, b).astype(float)]
    estimates, gains = intervals.estimate(
        intervals.share, np.ones(tested), hits, of="pretrained", seed=seed
    )
    return dataclasses.replace(figure, estimates=estimates, gains=gains)


def to_json(learned: Learned) -> dict[str, Any]:
    """Returns the content of `learned.json`."""
    content = dataclasses.asdict(learned)
    for figure in content["figures"]:
        for part in ("estimates", "gains"):
            figure[part] = {name: e._asdict() for name, e in figure[part].items()}
    return content
