"""The report of whole studies: what was recorded, several settings, files beside it."""

import json
import re

import polars as pl
import pytest

from polyprompt import StudyResults
from polyprompt.analysis.confidence import confidence_by_language
from polyprompt.errors import ConfigError, StoreError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.reports import write_reports
from polyprompt.experiments.results import gather, ordered
from polyprompt.experiments.study import run_study, study_folders
from polyprompt.models.tiny import tiny_model, tiny_tokenizer
from programs import called
from test_languages import language_study
from test_report import check


def finished(settings, **changes):
    study = build_study(settings | changes, "toy")
    for _ in run_study(study):
        pass
    return study_folders(study)


def report_of(folders, formats=()):
    study = folders[0].path.parent
    settings = ordered(study, gather(folders))
    return write_reports(study, "A title", settings, formats)


def test_what_was_recorded_is_drawn(toy_study):
    parts = ["states", "attention", "prompt_path", "epochs"]
    folders = finished(toy_study, record=parts, record_items=12)
    html = report_of(folders)["report"].read_text()
    check(html)
    for title in ("Alignment of", "attention of the answer goes", "paths of prompts"):
        assert title in html
    assert "translations paired at random" in html


def test_settings_are_set_beside_one_another(toy_study, tmp_path):
    grid = {"shots": [2, 4], "seed": [0, 1]}
    folders = finished(toy_study, grid=grid, output=str(tmp_path / "several"))
    paths = report_of(folders, ["svg"])
    html = paths["report"].read_text()
    check(html)
    for title in (
        "Average against shots",
        "What changes against shots=2",
        "Languages and settings",
    ):
        assert title in html
    assert "shots=4 – shots=2, by branch" in html
    assert "2 runs" not in html
    index = pl.read_csv(paths["tables"] / "index.tsv", separator="\t")
    assert len(list(paths["tables"].glob("*.csv"))) == index.height
    assert any("shots=4" in part for part in index["part"])
    figures = pl.read_csv(paths["figures"] / "index.tsv", separator="\t")
    assert {path.stem for path in paths["figures"].glob("*.svg")} == set(figures["figure"]) or (
        {path.stem for path in paths["figures"].glob("*.svg")} == set(figures["file"])
    )
    table = next(paths["tables"].glob("*accuracy_per_language.csv"))
    assert pl.read_csv(table).columns[:4] == ["language", "prompt", "95 % interval", "n"]


def test_settings_of_several_tasks_are_not_called_better_or_worse(toy_study, toy_task, tmp_path):
    import yaml

    card = yaml.safe_load(toy_task[0].read_text()) | {"name": "other", "metric": "macro_f1"}
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(card))
    tasks = [str(toy_task[0]), str(other)]
    folders = finished(toy_study, grid={"task": tasks, "seed": [0]})
    html = report_of(folders)["report"].read_text()
    check(html)
    assert "Highest mean" not in html
    assert "by branch" not in html
    assert "several tasks, data or metrics" in html


def test_the_report_says_what_is_missing(toy_study):
    folders = finished(toy_study)
    (folders[1].path / "scores.parquet").unlink()
    study = folders[0].path.parent
    done = called("report", str(study))
    assert done.returncode == 0, done.stderr
    text = re.sub(r"<[^>]+>", " ", (study / "report.html").read_text())
    assert "1 of 2 runs are missing" in text


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--figures", "gif"), "no figures as gif; there are: svg, png, pdf"),
        (("--reference", "shots=3"), "There is no setting 'shots=3' to compare with"),
    ],
)
def test_a_wrong_option_says_what_there_is(toy_study, args, words):
    folders = finished(toy_study, grid={"shots": [2, 4]})
    done = called("report", str(folders[0].path.parent), *args)
    assert done.returncode in {1, 2}
    assert words in " ".join(done.stderr.split())


def test_probabilities_are_set_beside_what_comes_true(toy_study):
    folders = finished(toy_study)
    paths = report_of(folders, ["svg"])
    html = paths["report"].read_text()
    check(html)
    text = " ".join(re.sub(r"<[^>]+>", " ", html).split())
    assert "No run was calibrated" in text
    assert "as it was" not in text
    assert (paths["figures"] / "setting1_reliability.svg").is_file()
    known = {"temperature": 1.5, "fitted": 1.8, "n": 80, "loss_before": 1.0, "loss_after": 0.9,
             "error_before": 0.2, "error_after": 0.1}  # fmt: skip
    (folders[0].path / "calibration.json").write_text(json.dumps(known))
    table = next(report_of(folders, ["svg"])["tables"].glob("*expected_calibration_error*.csv"))
    shown = pl.read_csv(table)
    assert "1 of 2 runs was calibrated" in paths["report"].read_text()
    labels = folders[0].record()["labels"]
    of_runs = [
        confidence_by_language(run.predictions(), labels, temperature)
        for run, temperature in zip(folders, (1.5, 1.0), strict=True)
    ]
    for one, other in zip(*of_runs, strict=True):
        (row,) = shown.filter(pl.col("code") == one.language).to_dicts()
        assert row["calibrated"] == pytest.approx(50 * (one.error + other.error), abs=0.06)


def test_options_that_runs_of_languages_do_not_have_are_refused(texts_folder, tmp_path):
    tiny_model("llama").save_pretrained(tmp_path / "decoder")
    tiny_tokenizer().save_pretrained(tmp_path / "decoder")
    training = {"max_steps": 1, "batch_size": 8, "learning_rate": 0.03}
    study = language_study(tmp_path / "decoder", texts_folder, tmp_path, training=training)
    list(run_study(study))
    for args in (("--figures", "svg"), ("--reference", "x")):
        done = called("report", str(study.folder), *args)
        assert done.returncode == 2
        assert f"{args[0]} is for studies of a task" in done.stderr
    assert called("report", str(study.folder)).returncode == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_do_not_keep_the_report_back(toy_study, value):
    folders = finished(toy_study)
    path = folders[0].path / "predictions.parquet"
    table = pl.read_parquet(path).with_row_index()
    broken = pl.col("baseline").is_null() & (pl.col("index") % 2 == 0)
    spoilt = pl.when(broken).then(pl.col("scores").list.eval(pl.element() * value))
    table.with_columns(spoilt.otherwise(pl.col("scores"))).drop("index").write_parquet(path)
    html = report_of(folders)["report"].read_text()
    check(html)
    assert "Probabilities" in html


def test_what_is_no_study_says_so(toy_study):
    folders = finished(toy_study)
    study = folders[0].path.parent
    assert "is one run" in called("report", str(folders[0].path)).stderr
    with pytest.raises(StoreError, match="No run of this study is complete yet"):
        StudyResults.load(study.parent)
    results = StudyResults.load(study)
    with pytest.raises(ConfigError, match="No figures as gif; there are: svg, png, pdf"):
        results.write_report(["gif"])
    assert results.write_report().is_file()
    assert results.languages()["setting"].unique().to_list() == ["All runs"]
    assert results.scores()["run"].n_unique() == 2
