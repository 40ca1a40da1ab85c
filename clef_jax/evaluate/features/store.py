"""Features of examples on disk, so that another set of labels costs no encoder pass."""

import json
import pathlib
import time
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clef_jax.errors import ClefError
from clef_jax.files import clear_temporaries, replacing

_ROWS_PER_PART = 4096
_SECONDS_PER_PART = 30.0
_ABOUT = b"clef_jax"


class FeatureStoreError(ClefError):
    """Stored features that were made in another way, or are damaged; it says what to do."""


class FeatureStore:
    """Rows of features by the hash of their example, in files that appear whole.

    A kill loses no more than half a minute of them.
    """

    def __init__(self, folder: pathlib.Path, about: Mapping[str, Any]):
        """Opens the rows that a folder holds, or begins there.

        Args:
            folder: Where they lie; nothing else does.
            about: JSON record of what the features are of and how they were made.

        Raises:
            FeatureStoreError: The folder holds features made in another way.
        """
        self._folder = folder
        self._about = json.loads(json.dumps(dict(about)))
        clear_temporaries(folder)
        self._parts = sorted(folder.glob("part-*.parquet"))
        for part in self._parts:
            self._require_same(part)
        self._keys: list[str] = []
        self._rows: list[np.ndarray] = []
        self._since = time.monotonic()

    def read(self, keys: Collection[str]) -> dict[str, np.ndarray]:
        """Returns the float32 `[D]` that are there of some examples, by their hashes."""
        wanted = pa.array(keys, pa.string())
        found: dict[str, np.ndarray] = {}
        for part in self._parts:
            table = pq.read_table(part)
            table = table.filter(pc.is_in(table["example"], wanted))
            values = table["features"].combine_chunks().flatten().to_numpy()
            found |= zip(table["example"].to_pylist(), _rows(values, len(table)), strict=True)
        return found

    def add(self, key: str, row: np.ndarray) -> None:
        """Adds the features `[D]` of an example."""
        self._keys.append(key)
        self._rows.append(row)
        late = time.monotonic() - self._since > _SECONDS_PER_PART
        if late or len(self._rows) >= _ROWS_PER_PART:
            self.flush()

    def flush(self) -> None:
        """Writes what was added."""
        self._since = time.monotonic()
        if not self._rows:
            return
        rows = np.stack(self._rows).astype(np.float32)
        element = pa.field("element", pa.float32())
        features = pa.FixedSizeListArray.from_arrays(
            pa.array(rows.reshape(-1)), type=pa.list_(element, rows.shape[1])
        )
        table = pa.table({"example": pa.array(self._keys, pa.string()), "features": features})
        table = table.replace_schema_metadata({_ABOUT: json.dumps(self._about).encode()})
        self._folder.mkdir(parents=True, exist_ok=True)
        last = int(self._parts[-1].stem.split("-")[1]) if self._parts else 0
        part = self._folder / f"part-{last + 1:05d}.parquet"
        with replacing(part) as temporary:
            pq.write_table(table, temporary)
        self._parts.append(part)
        self._keys, self._rows = [], []

    def _require_same(self, part: pathlib.Path) -> None:
        remedy = f"remove {self._folder}, and they are computed again"
        try:
            about = json.loads((pq.read_schema(part).metadata or {})[_ABOUT])
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise FeatureStoreError(
                f"{part}: no features as this program writes them "
                f"({type(error).__name__}: {error}); {remedy}"
            ) from None
        if differing := [name for name in self._about if about.get(name) != self._about[name]]:
            raise FeatureStoreError(
                f"{part}: its features were made in another way: "
                + ", ".join(
                    f"{name} {about.get(name)} there, {self._about[name]} now" for name in differing
                )
                + f"; choose another --out, or {remedy}"
            )


def _rows(values: np.ndarray, count: int) -> np.ndarray:
    return values.reshape(count, -1) if count else values.reshape(0, 0)
