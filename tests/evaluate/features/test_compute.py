"""Features computed once: which are, which are found, which are refused, and when it stops."""

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from clef_jax.data.recordings.recording import Hints
from clef_jax.evaluate.features import store
from clef_jax.evaluate.features.compute import UnreadableError, stored_features, window_key
from clef_jax.evaluate.features.store import FeatureStore, FeatureStoreError
from clef_jax.evaluate.windows.inputs import Prepared
from clef_jax.evaluate.windows.preparation import Preparation, Window
from tests.evaluate.cohorts import write_cohort

PREPARED = Prepared(Preparation(band_hz=None))


class Computing:
    """Takes the mean and the extremes of inputs, and counts these."""

    def __init__(self):
        self.count = 0

    def __call__(self, inputs):
        for x in inputs:
            self.count += 1
            yield np.stack([x.mean(axis=(1, 2)), x.min(axis=(1, 2)), x.max(axis=(1, 2))], axis=1)


def features(windows, folder, compute, about=None, reading=PREPARED):
    about = about or {"weights": "a", "reading": reading.hash}
    return stored_features(
        windows, reading, compute, folder, about, hints=Hints(), workers=0, title=""
    )


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    table = write_cohort(folder, patients=30)
    windows = [Window(f"e{i}", str(folder / f), "II", 0.0, 10.0) for i, f in enumerate(table.file)]
    return folder, windows


def test_each_window_is_computed_once_whatever_it_is_called(cohort, tmp_path):
    _, windows = cohort
    first, second = Computing(), Computing()
    some = features(windows[:20], tmp_path / "f", first)
    again = [w._replace(example=f"x{w.example}") for w in windows[::-1]] + [windows[0]]
    every = features(again, tmp_path / "f", second)
    assert first.count == 20 and second.count == 10
    np.testing.assert_array_equal(every.values[:30][::-1][:20], some.values)
    np.testing.assert_array_equal(every.values[-1], some.values[0])
    assert every.values.shape == (31, 3) and not every.unread


def test_a_missing_file_stays_one_of_all_when_the_others_are_stored(cohort, tmp_path):
    folder, windows = cohort
    lost = Window("lost", str(folder / "lost"), "II", 0.0, 10.0)
    for _ in range(2):
        found = features([*windows, lost], tmp_path / "f", Computing())
        assert [one.example for one in found.unread] == ["lost"]


def test_windows_of_several_lengths_are_computed_apart(cohort, tmp_path):
    _, windows = cohort
    mixed = [w._replace(window_s=5.0 + 5 * (i % 2)) for i, w in enumerate(windows[:6])]
    found = features(mixed, tmp_path / "f", Computing())
    alone = [features([w], tmp_path / f"f{i}", Computing()) for i, w in enumerate(mixed)]
    np.testing.assert_array_equal(found.values, np.concatenate([one.values for one in alone]))


def test_features_of_other_weights_are_refused(cohort, tmp_path):
    _, windows = cohort
    features(windows[:3], tmp_path / "a", Computing())
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with pytest.raises(FeatureStoreError, match="in another way: weights a there, b now; choose"):
        features(windows[:3], tmp_path / "b", Computing(), about={"weights": "b"})
    (part,) = (tmp_path / "a").glob("*.parquet")
    part.write_bytes(b"PAR1 nonsense")
    with pytest.raises(FeatureStoreError, match="no features as this program writes them"):
        features(windows[:3], tmp_path / "a", Computing())


def test_random_windows_belong_to_their_example_and_others_to_their_place():
    window = Window("a", "f", "II", 0.0, 10.0)
    other = window._replace(example="b")
    at_random = Prepared(Preparation(window="random"))
    assert window_key(window, PREPARED, Hints()) == window_key(other, PREPARED, Hints())
    keys = {window_key(w, at_random, Hints()) for w in (window, other)}
    keys |= {
        window_key(window._replace(**{name: value}), PREPARED, Hints())
        for name, value in (("file", "g"), ("lead", "I"), ("start_s", 1.0), ("window_s", 5.0))
    }
    assert len(keys | {window_key(window, PREPARED, Hints(fs=250.0))}) == 7


def test_a_few_unreadable_files_are_named_and_more_than_a_twentieth_stop(cohort, tmp_path):
    folder, windows = cohort
    absent = Window("absent", str(folder / "absent"), "II", 0.0, 10.0)
    found = features([*windows[:25], absent], tmp_path / "f", Computing())
    assert [one.example for one in found.unread] == ["absent"]
    assert np.isnan(found.values[25]).all() and np.isfinite(found.values[:25]).all()
    lost = [absent._replace(file=f"{absent.file}{i}") for i in range(2)]
    # What was read before it stopped is kept.
    compute, rest = Computing(), Computing()
    with pytest.raises(UnreadableError, match=r"2 of 32 windows .* more than 5%.*absent0"):
        features([*windows, *lost], tmp_path / "g", compute)
    features(windows, tmp_path / "g", rest)
    assert compute.count == 30 and rest.count == 0


def test_an_interrupted_computation_keeps_its_whole_parts(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_ROWS_PER_PART", 4)
    _, windows = cohort

    def breaking(inputs):
        for i, x in enumerate(inputs):
            if i == 10:
                raise KeyboardInterrupt
            yield x[:, :3, 0]

    with pytest.raises(KeyboardInterrupt):
        features(windows, tmp_path / "f", breaking)
    parts = sorted((tmp_path / "f").iterdir())
    assert [pq.read_metadata(part).num_rows for part in parts] == [4, 4, 2]
    rest = Computing()
    features(windows, tmp_path / "f", rest)
    assert rest.count == 20


def test_a_store_of_nothing_reads_nothing(tmp_path):
    store = FeatureStore(tmp_path / "f", {})
    store.flush()
    assert store.read({"a"}) == {} and not (tmp_path / "f").exists()
