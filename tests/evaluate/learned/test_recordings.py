"""Which recordings a report looks at."""

import numpy as np

from clef_jax.data.shards.plan import WriteOptions
from clef_jax.data.shards.store import ShardSet
from clef_jax.evaluate.learned.recordings import choose_recordings
from tests.shard_records import ecg, write, write_record


def test_another_window_of_a_recording_is_no_other_visit(tmp_path):
    for i, (name, patient) in enumerate([("a", "p"), ("b", "p"), ("c", "q")]):
        steps = np.concatenate([ecg(10 * i + j) for j in range(3)], axis=1)
        write_record(tmp_path / "in" / name, steps, comments=[f"Patient: {patient}"])
    write(tmp_path / "in", tmp_path / "out", options=WriteOptions(all_windows=True))
    shards = ShardSet(tmp_path / "out")
    chosen = choose_recordings(shards, shards.annotations, lead="II", max_patients=9)
    assert list(shards.record[chosen.first]) == ["a", "c"]
    assert not shards.start_s[chosen.first].any()
    assert shards.record[chosen.other[0]] == "b" and chosen.other[1] == -1
