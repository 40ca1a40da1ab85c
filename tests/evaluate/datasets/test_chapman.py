"""Chapman: counts of the published tables, Q15, and labels beside the headers' own codes."""

import pytest

from clef_jax.data.recordings import open_recording
from clef_jax.evaluate.datasets import chapman
from clef_jax.evaluate.datasets.folders import DatasetError, find_needs
from clef_jax.evaluate.datasets.suite import TASKS
from clef_jax.tables.columns import TableError
from tests.evaluate.datasets.native import write_chapman

POSITIVES = """AQW 433/46/112, UW 45/3/10, SR 5154/571/1404, WPW 34/5/14, 2AVB 31/3/4, AT 115/15/42,
VB 665/82/169, ARS 365/53/114, STTC 610/81/186, SA 2075/217/536, STE 295/30/93, VPB 174/20/43,
TWO 806/85/232, STTU 97/14/36, ALS 641/70/210, APB 497/52/136, 2AVB1 13/2/1, PRIE 20/1/8,
CCR 87/16/38, CR 141/25/50, AF 3383/383/987, AVB 662/82/169, QTIE 137/16/32, LBBB 143/24/42,
VEB 15/1/5, SVT 434/51/128, RBBB 394/46/93, 1AVB 510/66/126, STDD 307/29/91, MI 36/6/15,
AFIB 992/124/297, TWC 3288/389/968, PWC 73/3/11, ERV 180/18/68, RVH 20/4/5, LVH 83/8/22,
ST 4553/504/1281, JEB 17/3/5"""
Q15 = {
    "AF": (4753, 3340), "ST": (6338, 5154), "SA": (2828, 2107), "VB": (916, 3), "AVB": (913, 176),
    "CR": (216, 75), "2AVB": (38, 22),
}  # fmt: skip
SNOMED = {"164889003": "AFIB", "59118001": "RBBB", "164934002": "TWC", "426177001": "SB"}


@pytest.fixture(scope="module")
def tables(real_data):
    needs = find_needs(real_data, chapman.NEEDS, chapman.TABLES)
    return chapman.read_tables(needs)


def test_counts_of_the_published_tables(tables):
    assert tables["split"].value_counts().to_dict() == {
        "train": 16546, "validation": 1860, "test": 4620
    }  # fmt: skip
    assert len(chapman.LABELS) == 38
    found = tables.groupby("split")[list(chapman.LABELS)].sum().astype(int)
    for one in POSITIVES.replace("\n", " ").split(","):
        label, counts = one.split()
        expected = dict(zip(("train", "validation", "test"), counts.split("/"), strict=True))
        assert found[label].astype(str).to_dict() == expected, label


def test_seven_columns_are_wrong(real_data, tables):
    assert chapman.wrong_columns(str(real_data)) == Q15
    labels = chapman.stated(tables)
    assert ((tables["AF"] == 1) & (labels["AFIB"] == 1)).sum() == 1413
    # So that `clean` leaves VB out.
    assert labels["VB"].groupby(tables["split"]).sum()["test"] == 0
    # Told by another way: by a search for whole words.
    for label in chapman.LABELS:
        found = tables["diagnose"].str.contains(rf"(?:^|,){label}(?:,|$)", regex=True)
        assert (found == (labels[label] == 1)).all(), label
    unlabelled = tables[list(chapman.LABELS)].sum(axis=1) == 0
    assert tables["split"][unlabelled].value_counts().to_dict() == {"train": 1, "validation": 1}


def test_labels_agree_with_the_headers_of_two_records(real_data, tables):
    rows = tables.set_index(tables["ecg_path"].str[-11:-4])
    assert "JS00004" not in rows.index
    for name, statements in (("JS00001", "AFIB,RBBB,TWC"), ("JS00002", "SB,TWC")):
        file = rows.loc[name, "ecg_path"].removeprefix("/chapman/")
        folder = find_needs(real_data, chapman.NEEDS)["WFDBRecords"].removesuffix("WFDBRecords")
        header = open_recording(f"{folder}{file.removesuffix('.mat')}").header
        dx = next(c for c in header.comments if c.startswith("Dx:"))
        codes = dx.removeprefix("Dx:").strip().split(",")
        assert {SNOMED[code] for code in codes} == set(statements.split(","))
        assert rows.loc[name, "diagnose"] == statements
        assert rows.loc[name, "split"] == "train"
        labels = chapman.stated(rows.loc[[name]]).iloc[0]
        assert set(labels.index[labels == 1]) == set(statements.split(",")) - {"SB"}


def test_a_partial_download_is_told(real_data):
    with pytest.raises(DatasetError, match=r"23,024 of 23,026 recordings .*wget -r"):
        TASKS["chapman"].examples(str(real_data), "clean", "II")


def test_presets_of_a_native_folder(tmp_path):
    write_chapman(tmp_path, {
        "train": [(1, "AFIB,TWC"), (2, "SB"), (3, "AF,RBBB")],
        "val": [(4, "AFIB")],
        "test": [(5, "AF"), (6, "TWC"), (7, "AFIB,RBBB")],
    })  # fmt: skip
    reference = TASKS["chapman"].examples(str(tmp_path), "reference", "II")
    clean = TASKS["chapman"].examples(str(tmp_path), "clean", "aVR")
    assert reference.labels == chapman.LABELS and clean.labels == ("AF", "RBBB", "AFIB", "TWC")
    assert reference.table["AF"].tolist() == [1, 0, 1, 1, 1, 0, 1]
    assert clean.table["AF"].tolist() == [0, 0, 1, 0, 1, 0, 0]
    assert clean.table["AFIB"].tolist() == [1, 0, 0, 1, 0, 0, 1]
    assert clean.table["lead"].eq("aVR").all() and "age" not in clean.table
    assert "AF 5 / 2" in clean.notes[0] and clean.table["patient"].iloc[0] == "JS00001"
    assert clean.split_hash == reference.split_hash
    assert open_recording(f"{clean.root}/{clean.table['file'].iloc[0]}").header.samples == 5000
    assert TASKS["chapman"].preparation("reference").minmax_record
    path = tmp_path / "tables" / "chapman_val.csv"
    path.write_text(path.read_text().replace(",0\n", ",2\n"))
    with pytest.raises(TableError, match="chapman_val.csv: column JEB holds other than 0 and 1"):
        TASKS["chapman"].examples(str(tmp_path), "clean", "II")
