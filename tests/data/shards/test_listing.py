"""Which recordings are taken, and that none leads out of their folder."""

import pandas as pd
import pytest

from clef_jax.data.shards.store import ShardSet
from clef_jax.tables.columns import TableError
from tests.shard_records import ecg, mimic_name, rejections, write, write_record


@pytest.mark.parametrize("path", ["../x", "files/../../x", "/etc/passwd", "", "a/../.."])
def test_a_path_that_leaves_the_folder_is_refused(mimic, tmp_path, path):
    pd.DataFrame({"path": [mimic_name("10000000", "40000000"), path]}).to_csv(
        tmp_path / "list.csv", index=False
    )
    with pytest.raises(TableError) as error:
        write(mimic, tmp_path / "out", record_list=str(tmp_path / "list.csv"))
    for part in ("list.csv", "line 3", "leaves the records folder", "refused", "relative"):
        assert part in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_link_that_leaves_the_folder_is_rejected(tmp_path):
    write_record(tmp_path / "secret/r", ecg(0))
    write_record(tmp_path / "records/a/good", ecg(1))
    write_record(tmp_path / "records/b/half", ecg(2))
    (tmp_path / "records/link").symlink_to(tmp_path / "secret")
    (tmp_path / "records/b/half.dat").unlink()
    (tmp_path / "records/b/half.dat").symlink_to(tmp_path / "secret/r.dat")
    pd.DataFrame({"path": ["link/r", "a/good", "b/half"]}).to_csv(tmp_path / "l.csv", index=False)
    write(tmp_path / "records", tmp_path / "out", record_list=str(tmp_path / "l.csv"))
    rejected = rejections(tmp_path / "out")
    assert set(rejected) == {"link/r", "b/half"}
    assert all("outside the records folder" in row["reason"] for row in rejected.values())


def test_nothing_to_read(tmp_path):
    with pytest.raises(TableError, match="holds no recording; expected WFDB, EDF or DICOM"):
        write(tmp_path, tmp_path / "out")
    with pytest.raises(TableError, match="no such folder"):
        write(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "list.csv").write_text("file,study\na,b\n")
    with pytest.raises(TableError, match=r"list\.csv: no column for a record's path.*found file"):
        write(tmp_path, tmp_path / "out", record_list=str(tmp_path / "list.csv"))


def test_duplicate_studies(mimic, tmp_path):
    listed = pd.read_csv(mimic / "record_list.csv", dtype=str).iloc[:4]
    listed.loc[4] = listed.loc[0]
    listed.loc[5] = ("10000009", "40000001", mimic_name("10000009", "40000018"))
    listed.to_csv(tmp_path / "list.csv", index=False)
    report = write(mimic, tmp_path / "out", record_list=str(tmp_path / "list.csv"))
    assert report.records_in == 6 and report.rejected == {
        "duplicate record": 1,
        "duplicate study": 1,
    }
    reasons = [row["reason"] for row in rejections(tmp_path / "out").values()]
    assert any("study 40000001 is already" in reason for reason in reasons)
    assert ShardSet(tmp_path / "out").records == 4
