"""The original's way to a batch: every item read, filtered and augmented anew, in PyTorch."""

import numpy as np
import torch
import wfdb
from scipy import signal
from torch.utils.data import DataLoader, Dataset, RandomSampler

from clef_jax.data.signals.leads import NOISE_LEADS, canonical_lead
from clef_jax.data.signals.spec import CLEF_V2

_SAME_LEAD_PROBABILITY = 0.8
_ZEROED_PROBABILITY = 0.2
_NOISE_SD_MV = 0.1


class ReadEveryTime(Dataset):
    """Two augmented views of each record, each from a reading of its own of the WFDB files.

    Args:
        paths: Records of 500 Hz, without suffix.
        risk: Their risks `[n]`.
        noise: The noise bank's signal `[4, 15, M]`.
    """

    def __init__(self, paths: list[str], risk: np.ndarray, noise: np.ndarray):
        self._paths, self._risk, self._noise = paths, risk, noise
        self._filter = signal.butter(5, [0.67 / 250, 40 / 250], btype="band")

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor, float]:
        """Returns the views, float32 `[1, T]` each, and the risk."""
        rng = np.random.default_rng()
        first, second = rng.random(2)
        if rng.random() < _SAME_LEAD_PROBABILITY:
            second = first
        path = self._paths[i]
        return self._view(path, first, rng), self._view(path, second, rng), float(self._risk[i])

    def _view(self, path: str, lead: float, rng: np.random.Generator) -> torch.Tensor:
        """Returns a view of the record's lead at the fraction `lead` of all its leads."""
        record = wfdb.rdrecord(path)
        lead = int(lead * record.n_sig)
        x = signal.filtfilt(*self._filter, record.p_signal[: CLEF_V2.samples, lead])
        if kind := rng.integers(1 + len(self._noise)):
            row = NOISE_LEADS.index(canonical_lead(record.sig_name[lead]))
            start = rng.integers(self._noise.shape[-1] - x.size + 1)
            noise = self._noise[kind - 1, row, start : start + x.size]
            x = x + noise * (_NOISE_SD_MV / noise.std())
        if rng.random() < _ZEROED_PROBABILITY:
            length = rng.integers(x.size // 10, 3 * x.size // 10)
            start = rng.integers(x.size - length)
            x[start : start + length] = 0
        return torch.from_numpy(((x - x.mean()) / (x.std() + 1e-8)).astype(np.float32))[None]


def make_loader(dataset: Dataset, batch_size: int, *, workers: int, batches: int) -> DataLoader:
    """Returns so many shuffled batches, read by `workers` processes, or by this one if there are 0.

    The processes outlive an epoch: starting them, with PyTorch to import, takes seconds.
    """
    return DataLoader(
        dataset,
        batch_size,
        sampler=RandomSampler(dataset, num_samples=batches * batch_size),
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        persistent_workers=workers > 0,
    )
