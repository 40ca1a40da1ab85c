"""`clef-jax tasks`: all that a newcomer needs, and what is there."""

import shutil

from clef_jax.cli import main as cli


def test_all_tasks_are_listed(capsys, real_data):
    assert cli.main(["tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["task", "kind", "classes", "access", "download"]
    assert len(lines) == 1 + 18 + 2
    assert lines[1].split() == ["ptbxl/diagnostic", "multilabel", "44", "open", "3.2", "GB"]
    assert cli.main(["tasks", "--root", str(real_data)]) == 0
    output = capsys.readouterr().out
    assert output.count(" found\n") == 6 and output.count(" missing\n") == 12
    assert "music         Holter_ECG, subject-info.csv or outcomes.csv" in output


def test_a_task_says_how_to_get_it_and_what_is_there(capsys, real_data):
    assert cli.main(["tasks", "ptbxl/superdiagnostic", "--root", str(real_data)]) == 0
    output = capsys.readouterr().out
    assert "wget -r -N -c -np https://physionet.org/files/ptb-xl/1.0.3/" in output
    assert "train         223 examples, 213 patients; CD 37, HYP 15, MI 34, NORM 144" in output
    assert "(Q1)" in output and "doi:10.1038/s41597-020-0495-6" in output
    assert cli.main(["tasks", "aurorabp", "--root", str(real_data)]) == 0
    output = capsys.readouterr().out
    assert output.count("aurorabp@microsoft.com") == 2 and "on request" in output
    assert "missing       measurements_auscultatory, participants.tsv" in output
    assert max(map(len, output.splitlines())) <= 100


def test_a_dataset_that_is_not_whole_is_told(capsys, real_data, tmp_path):
    for name in ("ptbxl_database.csv", "scp_statements.csv"):
        shutil.copy(real_data / "ptb-xl" / name, tmp_path)
    (tmp_path / "records500").mkdir()
    assert cli.main(["tasks", "ptbxl/form", "--root", str(tmp_path), "--preset", "reference"]) == 0
    assert "not usable    ptbxl/form: 84 of 84 recordings are not in" in capsys.readouterr().out
    assert cli.main(["tasks", "ptbxl/forms"]) == 1
    assert "clef-jax tasks: no task 'ptbxl/forms'; the nearest are" in capsys.readouterr().err
