"""Splits of patients where a dataset has none: disjoint, balanced by label, told by a seed."""

import numpy as np
import pandas as pd

from clef_jax.evaluate.tasks.examples import SPLITS

SHARES = (0.7, 0.1, 0.2)
SEED = 0
_BINS = 5


def strata_of(labels: pd.DataFrame, kind: str) -> np.ndarray:
    """Returns which strata each row is in, bool `[rows, strata]`.

    Of labels each is a stratum of its positives; of classes each class, of yes and no both; of a
    quantity each fifth of its values. What is unknown is in none.

    Args:
        labels: The label columns.
        kind: As of `TaskInfo`.
    """
    if kind == "multilabel":
        return labels.to_numpy() == 1
    values = labels.to_numpy(np.float64)[:, 0]
    if kind == "regression":
        known = values[np.isfinite(values)]
        edges = np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1]) if known.size else []
        values = np.where(np.isfinite(values), np.searchsorted(edges, values), np.nan)
    classes = np.unique(values[np.isfinite(values)])
    return values[:, None] == classes


def split_patients(
    patient: pd.Series, strata: np.ndarray, *, seed: int = SEED, shares=SHARES
) -> np.ndarray:
    """Splits patients so that each stratum is shared out like the whole.

    The rarest stratum is shared out first, each of its patients to the split that lacks most of it
    (iterative stratification; Sechidis et al., ECML 2011). A patient is in a stratum that any of
    his rows is in. The order of the rows does not matter. Of three patients or more nobody's split
    is empty.

    Args:
        patient: `[rows]`, identifiers.
        strata: bool `[rows, strata]`.
        seed: Of the order in which equal patients are dealt.
        shares: Of the patients, for each of `SPLITS`; sum 1.

    Returns:
        object `[rows]`, names of `SPLITS`.
    """
    patients, code = np.unique(patient.to_numpy(str), return_inverse=True)
    member = np.zeros((len(patients), strata.shape[1]), bool)
    np.logical_or.at(member, code, strata)
    order = np.random.default_rng(seed).permutation(len(patients))
    assigned = _deal(member[order], np.asarray(shares))
    _fill_empty(member[order], assigned)
    split = np.empty(len(patients), np.int64)
    split[order] = assigned
    return np.array(SPLITS, object)[split[code]]


def _deal(member: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Returns the split of each patient `[patients]`, in the order given."""
    wanted = shares * len(member)
    wanted_of = np.outer(member.sum(axis=0), shares)
    assigned = np.full(len(member), -1)
    while True:
        left = (member & (assigned < 0)[:, None]).sum(axis=0)
        if not left.any():
            break
        stratum = np.argmin(np.where(left > 0, left, len(member) + 1))
        for one in np.flatnonzero(member[:, stratum] & (assigned < 0)):
            # Who lacks most of the stratum; of equals who lacks most as against its share.
            lacking = np.round(wanted_of[stratum], 9)
            best = np.flatnonzero(lacking == lacking.max())
            to = best[np.argmax((wanted / shares)[best])]
            assigned[one] = to
            wanted[to] -= 1
            wanted_of[member[one], to] -= 1
    for one in np.flatnonzero(assigned < 0):
        to = np.argmax(wanted)
        assigned[one] = to
        wanted[to] -= 1
    return assigned


def _fill_empty(member: np.ndarray, assigned: np.ndarray) -> None:
    """Gives an empty split a patient of train, one whose strata train keeps others of if it can."""
    for split in range(1, len(SPLITS)):
        train = np.flatnonzero(assigned == 0)
        if (assigned == split).any() or len(train) < 2:
            continue
        alone = member[train].sum(axis=0) == 1
        losses = (member[train] & alone).sum(axis=1)
        assigned[train[np.argmin(losses)]] = split
