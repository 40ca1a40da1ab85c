"""10,000 damaged inputs: each is read or refused by name, nothing hangs, nothing is written."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pyedflib
import pytest
import scipy.io
import torch
from pydicom.data import get_testdata_file

from clef_jax.data.signals.spec import CLEF_V2
from clef_jax.inference.stored import windows_schema
from tests.convert.checkpoints import torch_model
from tests.data.recordings.test_segments import write_variable
from tests.embed_runs import save, tiny_encoder
from tests.shard_records import ecg, write_record

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).resolve().parents[2]
PYEDFLIB = pathlib.Path(pyedflib.__file__).parent / "data"
LEADS = ("II", "V1")


def wfdb(folder):
    write_record(folder / "r", ecg(0, leads=3)[:2], LEADS)


def wfdb_segments(folder):
    write_variable(folder)
    (folder / "m.hea").rename(folder / "s.hea")


def wfdb_flac(folder):
    with warnings.catch_warnings(action="ignore"):
        import wfdb as package

        signal = ecg(0, leads=3)[:2].T / 1000
        package.wrsamp("f", 500, ["mV"] * 2, list(LEADS), signal, fmt=["516"] * 2, write_dir=folder)


def edf(folder):
    shutil.copy(PYEDFLIB / "test_generator.edf", folder / "r.edf")


def edf_plus(folder):
    with pyedflib.EdfWriter(str(folder / "d.edf"), 2) as writer:
        for i, label in enumerate(LEADS):
            facts = {"label": label, "dimension": "mV", "sample_frequency": 500}
            limits = {"physical_min": -5, "physical_max": 5, "digital_min": -9999}
            writer.setSignalHeader(i, facts | limits | {"digital_max": 9999})
        writer.writeSamples(list(ecg(0, leads=3)[:2] / 1000))
    content = (folder / "d.edf").read_bytes()
    (folder / "d.edf").write_bytes(content.replace(b"EDF+C", b"EDF+D"))


def dicom(folder):
    shutil.copy(get_testdata_file("waveform_ecg.dcm", download=False), folder / "r.dcm")


def csv(folder):
    table = pd.DataFrame(ecg(0, leads=3)[:2].T / 1000, columns=LEADS)
    table.insert(0, "time (s)", np.arange(len(table)) / 500)
    table.to_csv(folder / "r.csv", index=False)


def npy(folder):
    np.save(folder / "r.npy", ecg(0, leads=3)[:2] / 1000)


def mat(folder):
    data = ecg(0) / 1000
    scipy.io.savemat(
        folder / "r.mat", {"ECG": {"data": data, "age": 50, "sex": "Male"}}, do_compression=True
    )


PEOPLE = {
    "path": [f"a/r{i}" for i in range(5)],
    "subject_id": list("12345"),
    "age": ["40", "50.5", "", "70", "x"],
    "sex": ["male", "F", "M", "", "female"],
    "smoker": ["yes", "no", "yes", "no", ""],
    "sbp_mmhg": [120, 140, 160, 180, 99999],
    "total_chol_mmol_l": [4, 5, 6, 7, 8],
    "hdl_mmol_l": [1.0, 1.2, 1.4, 1.6, np.nan],
    "diabetes": ["no", "no", "no", "no", "yes"],
    "risk": [1, 2, 3, 4, 5],
}


def risk(folder):
    table = pd.DataFrame(PEOPLE)
    table.drop(columns="risk").to_csv(folder / "a.csv", index=False)


def metadata(folder):
    table = pd.DataFrame(PEOPLE)
    table.to_csv(folder / "a.tsv", sep="\t", index=False)
    table.to_parquet(folder / "b.parquet")
    table.to_excel(folder / "c.xlsx", index=False)


def labels(folder):
    files = [f"r{i}.edf" for i in range(60)]
    for file in files:
        (folder / file).touch()
    table = {"file": files, "patient": range(60), "af": np.arange(60) % 2, "start_s": 0.0}
    pd.DataFrame(table).to_csv(folder / "labels.csv", index=False)


def weights(folder):
    save(tiny_encoder(), folder / "tiny")
    for path in (folder / "tiny").iterdir():
        path.rename(folder / path.name)
    (folder / "tiny").rmdir()


def torch_file(folder):
    state_dict = torch_model("clef_small").state_dict()
    torch.save({"state_dict": state_dict, "epoch": 3}, folder / "small.ckpt")


def embeddings(folder):
    schema = windows_schema([], {"fingerprint": [1.0], "settings": {}})
    columns = {
        "file": ["a", "b"], "record": ["a", "b"], "lead": ["I", "II"], "start_s": [0.0, 0.0],
        "fs": [500.0, 500.0], "quality": ["ok", "ok"],
    }  # fmt: skip
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns).cast(schema), folder / "e.parquet")


def configs(folder):
    (folder / "seed").write_bytes(bytes(range(200)))


def spec(folder):
    (folder / "spec.json").write_text(json.dumps(CLEF_V2.to_dict()))


WRITERS = {
    "wfdb": (wfdb, 900), "wfdb_segments": (wfdb_segments, 900), "wfdb_flac": (wfdb_flac, 400),
    "edf": (edf, 800), "edf_plus": (edf_plus, 800), "dicom": (dicom, 800), "csv": (csv, 700),
    "npy": (npy, 600), "mat": (mat, 700), "risk": (risk, 600), "metadata": (metadata, 500),
    "labels": (labels, 300), "shards": (None, 500), "weights": (weights, 300),
    "torch": (torch_file, 400), "embeddings": (embeddings, 300), "configs": (configs, 600),
    "spec": (spec, 400),
}  # fmt: skip
assert sum(count for _, count in WRITERS.values()) >= 10_000


@pytest.mark.parametrize("kind", WRITERS)
def test_damaged_inputs_are_read_or_refused_by_name(kind, tmp_path, request):
    writer, count = WRITERS[kind]
    folder = tmp_path / "inputs"
    folder.mkdir()
    if writer is None:
        shards = request.getfixturevalue("shards_folder")
        shutil.copytree(shards, folder, dirs_exist_ok=True)
        shutil.rmtree(folder / "parts", ignore_errors=True)
    else:
        writer(folder)
    command = [sys.executable, "-m", "tests.faults.fuzz", kind, folder, str(count), "0"]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    report = json.loads(result.stdout.splitlines()[-1])
    assert not report["wrong"], "\n".join(report["wrong"])
    assert not report["outside"]
    assert sum(report["found"].values()) == count
    assert report["found"]["refused"] > 0
