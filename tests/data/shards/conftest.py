import pandas as pd
import pytest

from tests.shard_records import ecg, mimic_name, write_record


@pytest.fixture(scope="session")
def mimic(tmp_path_factory):
    """24 recordings of 12 patients in MIMIC-IV-ECG's layout, with its record list."""
    folder = tmp_path_factory.mktemp("mimic")
    rows = []
    for i in range(24):
        subject, study = f"1000{i // 2:04d}", f"4000{i:04d}"
        write_record(folder / mimic_name(subject, study), ecg(i))
        rows.append((subject, study, mimic_name(subject, study)))
    pd.DataFrame(rows, columns=["subject_id", "study_id", "path"]).to_csv(
        folder / "record_list.csv", index=False
    )
    return folder
