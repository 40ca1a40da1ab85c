"""The report of what an encoder has learned, and the script that prints it."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from matplotlib import image

from clef_jax.checkpoints.encoder import save_encoder
from clef_jax.data.annotations.join import MetadataTable, RiskTable
from clef_jax.data.annotations.splits import is_validation_patient
from clef_jax.data.demo import cohort
from clef_jax.data.noise.simulated import simulate_noise_bank
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.shards.write import write_shards
from clef_jax.data.signals.leads import STANDARD_LEADS
from clef_jax.data.signals.spec import CLEF_V2, ECGFOUNDER
from clef_jax.evaluate.learned.figures import (
    LABEL_SHARES,
    REPRESENTATIONS,
    Figure,
    Learned,
    to_json,
    what_was_learned,
)
from clef_jax.evaluate.learned.intervals import Estimate
from clef_jax.evaluate.learned.recordings import ReportError, choose_recordings
from clef_jax.evaluate.learned.report import plot_learned, sentences
from clef_jax.evaluate.learned.tasks import TASKS
from clef_jax.inference import Encoder
from clef_jax.models import ResNeXt1DConfig, build_model
from clef_jax.risk.table import compute_risk_table
from clef_jax.tables.files import read_table, write_table
from tests.parameters import drawn

ROOT = pathlib.Path(__file__).resolve().parents[3]
# Of the encoder's kind, and compiled in a second.
TINY = ResNeXt1DConfig("tiny", 8, 1.0, stage_widths=(8, 16), stage_blocks=(1, 1), group_width=4)


def _encoder(seed):
    return Encoder(TINY, drawn(build_model(TINY), np.zeros((1, 64, 1), np.float32), seed))


@pytest.fixture(scope="module")
def noise():
    return simulate_noise_bank(0, 30, 500.0).signal


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """150 patients, half of them held out, of whom half came back."""
    folder = tmp_path_factory.mktemp("reported")
    cohort.write_simulated_cohort(folder / "cohort", 150, seed=3)
    metadata = str(folder / "cohort" / "metadata.csv")
    write_table(
        compute_risk_table(read_table(metadata), region="moderate"), str(folder / "risk.parquet")
    )
    write_shards(
        folder / "cohort",
        folder / "shards",
        record_list=str(folder / "cohort" / "record_list.csv"),
        metadata=MetadataTable(metadata),
        risk=RiskTable(str(folder / "risk.parquet")),
        validation_fraction=0.5,
        workers=1,
        progress=False,
    )
    return ShardSet(folder / "shards")


@pytest.fixture(scope="module")
def learned(shards, noise):
    recordings = choose_recordings(shards, shards.annotations, lead="II", max_patients=1000)
    return what_was_learned(_encoder(0), recordings, noise, seed=0)


def test_every_patient_is_looked_at_once(shards):
    found = choose_recordings(shards, shards.annotations, lead="V3", max_patients=1000)
    patients = shards.patient_code[found.first]
    assert sorted(patients) == list(range(150))
    for first, other, held_out in zip(found.first, found.other, found.held_out, strict=True):
        own = np.flatnonzero(shards.patient_code == shards.patient_code[first])
        assert first == own[0]
        assert other == (own[1] if len(own) > 1 else -1)
        assert held_out == shards.annotations.is_validation[first]
    slot = STANDARD_LEADS.index("V3")
    expected = shards.read([7], [slot])[0] * shards.scale_mv[7, slot]
    np.testing.assert_allclose(found.read_mv(np.array([7]))[0], expected)


def test_more_patients_than_wanted_are_a_seeded_choice(shards):
    def chosen(seed):
        found = choose_recordings(shards, shards.annotations, lead="II", max_patients=40, seed=seed)
        assert found.of_patients == 150
        return found.first.tolist()

    assert len(chosen(0)) == 40
    assert chosen(0) == chosen(0) != chosen(1)
    assert max(chosen(0)) > 150  # Not the first of the index.


def test_records_without_the_lead_are_not_looked_at(shards_folder):
    shards = ShardSet(shards_folder)
    shards.lead_ids[shards.lead_ids == STANDARD_LEADS.index("II")] = -1
    with pytest.raises(ReportError, match="no record has lead II"):
        choose_recordings(shards, shards.annotations, lead="II", max_patients=10)
    shards = ShardSet(shards_folder)
    first = choose_recordings(shards, shards.annotations, lead="II", max_patients=1000).first
    lacking = first[0]
    shards.lead_ids[lacking, 1] = -1
    found = choose_recordings(shards, shards.annotations, lead="II", max_patients=1000)
    assert lacking not in found.first
    assert lacking not in found.other


@pytest.mark.slow
def test_an_untrained_encoder_beside_itself_gains_nothing(learned):
    answered = [figure for figure in learned.figures if not figure.too_few]
    assert {figure.name for figure in answered} == {"age", "sex", "risk", "view", "visit"}
    for figure in answered:
        assert figure.estimates.keys() == set(REPRESENTATIONS)
        assert figure.gains["untrained"] == (0, 0, 0)
        for e in figure.estimates.values():
            assert e.low <= e.high
    ranks = learned.effective_rank
    assert ranks["pretrained"] == ranks["untrained"]
    assert 1 <= ranks["pretrained"] <= 16


@pytest.mark.slow
def test_a_task_whose_labels_nobody_gave_says_so(shards, noise):
    columns = {k: v for k, v in shards.annotations.columns.items() if k != "age"}
    unaged = dataclasses.replace(shards.annotations, columns=columns)
    recordings = choose_recordings(shards, unaged, lead="II", max_patients=80)
    found = what_was_learned(_encoder(0), recordings, noise, seed=0)
    for figure in found.figures:
        assert (figure.too_few == "no annotation of age") == (figure.name == "age")
    assert "Age from 100% of the labels (0 patients): no annotation of age." in sentences(found)


@pytest.mark.slow
def test_figures_say_how_many_they_are_about(shards, learned):
    held_out = len(set(shards.patient_code[shards.annotations.is_validation]))
    codes, counts = np.unique(
        shards.patient_code[shards.annotations.is_validation], return_counts=True
    )
    by = {(figure.name, figure.labels): figure for figure in learned.figures}
    assert len(by) == len(TASKS) * len(LABEL_SHARES) + 2
    assert learned.held_out == held_out == len(codes)
    assert by["age", 1.0].tested == by["view", None].tested == held_out
    assert by["age", 1.0].learnt_from == 150 - held_out
    assert by["age", 0.01].learnt_from == 1
    assert by["age", 0.01].too_few == "too few (1 patients to learn from, of 10 needed) to tell"
    assert by["risk", 1.0].tested < held_out  # Some have no known risk.
    assert by["visit", None].tested == np.sum(counts > 1)


@pytest.mark.slow
def test_a_patient_is_found_by_an_identical_recording(shards, noise):
    recordings = choose_recordings(shards, shards.annotations, lead="II", max_patients=1000)
    same = dataclasses.replace(
        recordings, other=np.where(recordings.other >= 0, recordings.first, -1)
    )
    found = what_was_learned(_encoder(0), same, noise)
    visit = next(figure for figure in found.figures if figure.name == "visit")
    for e in visit.estimates.values():
        assert e == (1, 1, 1)


@pytest.mark.slow
def test_without_held_out_patients_there_is_nothing_to_tell(shards_folder, noise, tmp_path):
    shards = ShardSet(shards_folder)
    shards.annotations.is_validation[:] = False
    found = what_was_learned(
        _encoder(0),
        choose_recordings(shards, shards.annotations, lead="II", max_patients=20),
        noise,
    )
    # Of tasks of further columns these shards have no annotation.
    known = {"age", "sex", "risk", "view", "visit"}
    for figure in found.figures:
        assert figure.too_few.startswith("too few (0 patients") == (figure.name in known)
    opening, *lines = sentences(found)
    assert opening.startswith("Lead II of 20 patients, chosen at random among 40, 0 of them held")
    for line, figure in zip(lines, [*found.figures, None], strict=True):
        assert "too few (0 patients" in line or figure.name not in known
    plot_learned(found, tmp_path / "learned.png")


def test_an_encoder_of_several_leads_is_refused(shards, noise):
    several = Encoder(dataclasses.replace(TINY, in_channels=12), _encoder(0).params)
    with pytest.raises(ReportError, match="12 leads at once"):
        what_was_learned(
            several, choose_recordings(shards, shards.annotations, lead="I", max_patients=9), noise
        )


def test_an_encoder_of_another_preprocessing_is_refused(shards, noise):
    other = Encoder(TINY, _encoder(0).params, preprocessing=ECGFOUNDER)
    message = "is not the encoder's: spike_mv 15.0 instead of None, gaps linear instead of zeros"
    with pytest.raises(ReportError, match=message):
        what_was_learned(
            other, choose_recordings(shards, shards.annotations, lead="I", max_patients=9), noise
        )


@pytest.mark.slow
def test_each_figure_has_its_sentence_and_picture(learned, tmp_path):
    lines = sentences(learned)
    assert len(lines) == len(learned.figures) + 2
    for line, figure in zip(lines[1:-1], learned.figures, strict=True):
        if figure.too_few:
            assert line.endswith(f"{figure.too_few}.")
        else:
            assert f"on {figure.tested} patients" in line
            told = "makes no difference that so few patients could show" in line
            assert told != line.endswith("so this tells nothing.")
    plot_learned(learned, tmp_path / "plots" / "learned.png")
    assert image.imread(tmp_path / "plots" / "learned.png").std() > 0
    content = json.loads(json.dumps(to_json(learned)))
    assert content["figures"][2]["estimates"]["plain"].keys() == {"value", "low", "high"}


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.3, "helps"), (-0.3, -0.1, "harms"), (-0.1, 0.3, "makes no difference")],
)
def test_sentences_follow_the_intervals(low, high, verdict):
    ranks, dimensions = dict.fromkeys(REPRESENTATIONS, 4.0), dict.fromkeys(REPRESENTATIONS, 16)
    learned = Learned(
        [], ranks, dimensions, held_out=300, patients=1200, of_patients=1200, lead="I"
    )
    middle = (low + high) / 2
    figure = Figure(
        "age", "R²", 1.0, learnt_from=900, tested=300,
        estimates={name: Estimate(0.5, 0.4, 0.6) for name in REPRESENTATIONS},
        gains={name: Estimate(middle, low, high) for name in ("plain", "untrained")},
    )  # fmt: skip
    _, line, _ = sentences(dataclasses.replace(learned, figures=[figure]))
    assert line.startswith("Age from 100% of the labels (900 patients), R² on 300 patients: ")
    assert f"Pretraining {verdict}" in line
    unread = {name: Estimate(0.1, -0.2, 0.3) for name in REPRESENTATIONS}
    figure = dataclasses.replace(figure, estimates=unread)
    _, line, _ = sentences(dataclasses.replace(learned, figures=[figure]))
    assert line.endswith("None is above chance (0) for certain, so this tells nothing.")


def _report(*arguments, prelude="pass"):
    script = str(ROOT / "tools" / "report_learned.py")
    run = f"import runpy, sys; {prelude}; sys.argv = {[script, *map(str, arguments)]}; "
    run += "runpy.run_path(sys.argv[0], run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", run],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


@pytest.mark.slow
@pytest.mark.parametrize(("config", "fraction"), [({}, 0.3), ({"validation_fraction": 0.6}, 0.6)])
def test_few_records_are_too_few_to_tell(shards_folder, tmp_path, config, fraction):
    """Those held out by the encoder's run or, as a converted one has none, by the shards."""
    meta = {"model": dataclasses.asdict(TINY), "preprocessing": CLEF_V2.to_dict()}
    meta |= {"config": config} if config else {}
    save_encoder(tmp_path / "encoder", jax.device_get(_encoder(1).params), meta)
    done = _report("--workdir", tmp_path / "encoder", "--shards", shards_folder, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    patients = set(ShardSet(shards_folder).patient)
    tested = sum(is_validation_patient(patient, fraction) for patient in patients)
    lines = done.stdout.splitlines()
    assert f"too few ({tested} patients to test on, of 30 needed) to tell" in lines[3]
    assert f"too few ({tested} patients to look for, of 30 needed) to tell" in lines[-4]
    figures = json.loads((tmp_path / "learned.json").read_text())["figures"]
    assert not any(figure["estimates"] for figure in figures)
    assert (tmp_path / "plots" / "learned.png").is_file()


@pytest.mark.slow
def test_other_patients_than_the_run_s_are_not_held_out(shards_folder, tmp_path):
    shards = ShardSet(shards_folder)
    meta = {"model": dataclasses.asdict(TINY), "preprocessing": CLEF_V2.to_dict(), "config": {}}
    meta |= {"shards": shards.fingerprint, "annotations": shards.annotations.fingerprints(())}
    save_encoder(tmp_path / "encoder", jax.device_get(_encoder(1).params), meta)
    done = _report("--workdir", tmp_path / "encoder", "--shards", shards_folder,
                   "--validation_fraction", 0.6, "--out", tmp_path / "out")  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{shards_folder}: other patients are held out now" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_missing_scikit_learn_is_named_with_its_remedy(tmp_path):
    done = _report(
        "--workdir", tmp_path, "--shards", tmp_path, prelude="sys.modules['sklearn'] = None"
    )
    assert done.returncode == 1
    assert "need scikit-learn: pip install '.[eval]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_folder_without_a_checkpoint_is_an_error_in_words(shards_folder, tmp_path):
    done = _report("--workdir", tmp_path, "--shards", shards_folder)
    assert done.returncode == 1
    assert "no checkpoint here" in done.stderr
    assert "Traceback" not in done.stderr
