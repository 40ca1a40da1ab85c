"""The page: its numbers are those of the tables, it needs no network, and nothing breaks it."""

import math
import re

import pandas as pd
import pytest

from clef_jax.cli import main as cli
from clef_jax.evaluate.report import write
from clef_jax.evaluate.report.answers import read_answers
from clef_jax.evaluate.report.sections import make_section
from clef_jax.evaluate.report.verdict import judge
from clef_jax.evaluate.report.words import METRIC_NAMES
from tests.evaluate.report.pages import Page
from tests.predicted import LABELS
from tests.runs_of_evaluation import MODELS, task, write_run

IN_UNITS = {"mae", "rmse", "bias", "loa_low", "loa_high"}


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A run of all kinds of tasks with its page, of all fractions together."""
    folder = tmp_path_factory.mktemp("report")
    arguments = {"models": MODELS[:2], "patients": 25}
    tasks = {
        kind: task(kind, seed=seed, fractions=(1.0,), **arguments)
        for seed, kind in enumerate(LABELS)
    }
    tasks["regression"] = task("regression", seed=9, **arguments)
    run = write_run(folder / "R", tasks, resamples=20, permutations=20)
    assert cli.main(["report", str(run), "--out", str(folder / "report.html")]) == 0
    return run, (folder / "report.html").read_text("utf-8"), (folder / "report.md").read_text()


def written(row):
    digits = 2 if row["metric"] in IN_UNITS else 3
    if not math.isfinite(row["value"]):
        return "–"
    if not math.isfinite(row["low"]):
        return f"{row['value']:.{digits}f} [unknown]"
    return f"{row['value']:.{digits}f} [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"


def of_task(table, name):
    return table[(table["task"] == name) & (table["fraction"] == 1)]


def sections(page_text):
    """Returns {task: its part of the page}."""
    parts = re.findall(r"<section.*?</section>", page_text, re.DOTALL)
    return {re.search(r"<h2>(.*?) ·", part)[1]: part for part in parts}


def test_every_number_is_that_of_the_results(reported):
    run, page, _ = reported
    results = pd.read_parquet(run / "results.parquet")
    for name, part in sections(page).items():
        rows = of_task(results, name)
        rows = rows[rows["seed"] == -1]
        tables = Page(part)
        shown = {}
        for heading, has_label in (("All models", False), ("Labels", True)):
            for found, (header, *body) in tables.tables:
                if found == heading:
                    for cells in body:
                        row = dict(zip(header, cells, strict=True))
                        label = row["Label"] if has_label else row["Labels"]
                        shown[row["Model"], "" if label == "all" else label] = row
        assert len(shown) == len(rows[["model", "mode", "label"]].drop_duplicates())
        for _, row in rows.iterrows():
            cells = shown[f"{row['model']} ({row['mode']})", row["label"]]
            assert cells[METRIC_NAMES[row["metric"]]] == written(row)
            assert cells["n"] == f"{row['n']:,}" and cells["Flag"] == row["flag"]


def test_differences_are_those_of_the_comparisons(reported):
    run, page, _ = reported
    comparisons = pd.read_parquet(run / "comparisons.parquet")
    for name, part in sections(page).items():
        wanted = of_task(comparisons, name)
        header, *body = Page(part).table("Differences")
        for cells in body:
            row = dict(zip(header, cells, strict=True))
            label = "" if row["Label"] == "all" else row["Label"]
            (metric,) = [m for m, told in METRIC_NAMES.items() if told == row["Metric"]]
            found = wanted[
                (wanted["model_a"] + " (" + wanted["mode"] + ")" == row["First"])
                & (wanted["model_b"] == row["Second"])
                & (wanted["metric"] == metric)
                & (wanted["label"] == label)
            ].iloc[0]
            digits = 2 if metric in IN_UNITS else 3
            bounds = (f"{found[bound]:+.{digits}f}" for bound in ("difference", "low", "high"))
            assert row["First less second"] == "{} [{}, {}]".format(*bounds)
            if math.isfinite(found["p"]):
                p = float(row["p"].removeprefix("<"))
                assert p == pytest.approx(found["p"], abs=0.006)
            else:
                assert row["p"] == "not tested"
        macros = [cells for cells in body if cells[header.index("Label")] == "all"]
        assert len(macros) == (wanted["label"] == "").sum()


def test_first_page_answers_for_each_task(reported):
    run, page, markdown = reported
    results = pd.read_parquet(run / "results.parquet")
    header, *body = Page(page).tables[0][1]
    assert [cells[0].split(" ·")[0] for cells in body] == sorted(results["task"].unique())
    for cells in body:
        row = dict(zip(header, cells, strict=True))
        rows = of_task(results, row["Task"].split(" ·")[0]).query("label == '' and seed == -1")
        metric = "mae" if "regression" in row["Task"] else "auroc"
        rows = rows[rows["metric"] == metric].set_index("model")
        assert row["Best model"] == "clef_small (probe)"
        assert row["Score"].endswith(written(rows.loc["clef_small"]))
        bars = rows.drop(index="clef_small")
        best = bars["value"].idxmin() if metric == "mae" else bars["value"].idxmax()
        assert row["Bar"].startswith(best) and row["Bar's score"] == written(bars.loc[best])
        cell = row["Bar's score"].replace("[", r"\[").replace("]", r"\]")
        assert f"| {cell} |" in markdown and row["Difference"][0] in "+-"


def test_confusion_counts_every_test_example(reported):
    run, page, _ = reported
    predictions = pd.read_parquet(run / "predictions.parquet")
    rows = of_task(predictions, "simulated/multiclass").query(
        "model == 'clef_small' and split == 'test'"
    )
    wide = rows.pivot(index="example", columns="label", values=["target", "score"])
    counts = pd.crosstab(wide["target"].idxmax(axis=1), wide["score"].idxmax(axis=1))
    header, *body = Page(page).table("Confusion of clef_small (probe)")
    for true, *cells in body:
        for label, cell in zip(header[1:], cells, strict=True):
            said = label.removeprefix("as ")
            expected = counts.loc[true, said] if said in counts.columns else 0
            assert int(cell.split(" (")[0]) == expected


def test_page_is_one_file_that_asks_nobody(reported):
    _, page, _ = reported
    read = Page(page)
    assert len(page.encode()) < 5_000_000
    assert all(found.startswith(("#", "data:image/png")) for found in read.references)
    assert not re.search(r"https?:|@import|//[a-z]", page)
    assert set(re.findall(r"url\((.)", page)) <= {"#"}
    used = [found.removeprefix("#") for found in read.references if found[0] == "#"]
    used += re.findall(r"url\(#([^)]+)\)", page)
    assert set(used) <= set(read.ids)
    kinds = [tag for tag, _ in read.met]
    assert kinds.count("script") == 1 and kinds.count("svg") == kinds.count("figure") > 15
    assert all(found["aria-label"] for tag, found in read.met if tag == "svg")


def test_it_says_what_it_rests_on(reported):
    _, page, _ = reported
    part = sections(page)["simulated/regression"]
    told = dict(
        zip(re.findall(r"<dt>(.*?)</dt>", part), re.findall(r"<dd>(.*?)</dd>", part), strict=True)
    )
    assert told["weights of clef_small (probe)"] == "f1n6e7"
    assert told["preparation"] == "clean" and told["split hash"] == "5p117"
    assert "patients 25" in told["test"] and told["commands"].startswith("clef-jax evaluate")
    assert told["versions"] == "clef_jax 0.2.0" and "1 lines" in told["errors"]
    assert told["test patients among those pretrained on"] == "clef_small 0 of 60"
    assert "MAE, mmHg" in part


def test_few_test_patients_are_said_to_prove_the_pipeline_only(reported):
    _, page, markdown = reported
    told = sections(page)
    assert all("prove that the pipeline runs" in part for part in told.values())
    assert "of 25 patients are few" in told["simulated/binary"]
    assert "4 of 4 tasks were tested on so few" in page
    assert markdown.count("prove that the pipeline runs") == 4


def only_section(run):
    (answers,) = read_answers([str(run)])
    return make_section(answers, judge(answers, len(answers.comparisons)), "only")


def test_many_test_patients_are_believed(tmp_path):
    tasks = {"binary": task("binary", models=MODELS[:2], patients=110, fractions=(1.0,))}
    section = only_section(write_run(tmp_path / "R", tasks, resamples=50, permutations=50))
    assert section.verdict == "above its bar" and not section.doubts
    assert section.sentence.endswith("above its bar.")


def test_labels_that_were_not_trained_are_named(tmp_path):
    tasks = {"multilabel": task("multilabel", models=MODELS[:2], patients=20, fractions=(1.0,))}
    run = write_run(tmp_path / "R", tasks, resamples=10, permutations=10)
    results = pd.read_parquet(run / "results.parquet")
    untrained = results[results["seed"] == -1].iloc[[0]].assign(label="WPW", flag="untrainable")
    blank = dict.fromkeys(("value", "low", "high", "n", "positives", "prevalence"))
    pd.concat([results, untrained.assign(**blank)]).to_parquet(run / "results.parquet")
    (labels,) = (table for table in only_section(run).tables if table.title == "Labels")
    rows = [dict(zip(labels.columns, row.cells, strict=True)) for row in labels.rows]
    (row,) = (row for row in rows if row["Label"] == "WPW")
    assert row["Flag"] == "untrainable" and row["AUROC"] == row["n"] == row["Positives"] == "–"
    assert all(row["n"].isdecimal() for row in rows if row["Label"] != "WPW")


HOSTILE = (
    "<script>alert(1)</script>",
    r"$\frac{",
    '"><img src=x onerror=alert(1)>',
    "two\nlines\x00|and `code`",
    "名前 {{ 7 * 7 }}",
)


def test_names_cannot_break_the_page(tmp_path):
    models = [(name, "probe", 3.0 - k) for k, name in enumerate(HOSTILE[:2])]
    predictions = task("multilabel", models=models, labels=HOSTILE, patients=20, fractions=(1.0,))
    predictions["site"] = HOSTILE[0]
    predictions.loc[predictions["patient"].str[-1] == "1", "site"] = HOSTILE[1]
    run = write_run(
        tmp_path / "R",
        {"multilabel": predictions.assign(task=HOSTILE[2])},
        resamples=10,
        permutations=10,
        citation=HOSTILE[0],
        notes=list(HOSTILE),
    )
    write.write_report([str(run)], tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    kinds = [tag for tag, _ in page.met]
    assert kinds.count("script") == 1 and "img" not in kinds
    assert not any("onerror" in attributes for _, attributes in page.met)
    shown = {cells[0] for cells in page.table("Labels")[1:]}
    assert {HOSTILE[0], HOSTILE[1], HOSTILE[4]} <= shown
    assert "two\N{REPLACEMENT CHARACTER}lines\N{REPLACEMENT CHARACTER}|and `code`" in shown
    markdown = (tmp_path / "report.md").read_text("utf-8")
    assert "<script>" not in markdown.replace("\\<", "")
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {10, 12}


def test_page_stays_small_and_says_what_it_left_out(tmp_path, monkeypatch):
    tasks = {"regression": task("regression", models=MODELS[:2], patients=15, fractions=(1.0,))}
    run = write_run(tmp_path / "R", tasks, resamples=10, permutations=10)
    (whole,) = write.write_report([str(run)], tmp_path / "a.html")
    size = (tmp_path / "a.html").stat().st_size
    monkeypatch.setattr(write, "_MOST_BYTES", size - 12_000)
    (cut,) = write.write_report([str(run)], tmp_path / "b.html")
    assert 0 < len(cut.figures) < len(whole.figures)
    assert "figures are left out" in (tmp_path / "b.html").read_text("utf-8")
    assert (tmp_path / "b.html").stat().st_size < size - 8_000
