"""What a person meets: commands, their files, their errors, and the Python front door."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from polyprompt import Classifier
from polyprompt.errors import DataError, PolypromptError, StoreError
from programs import called

TEXTS = ["waves of the sea", "a wave", "sea water wave", "rock and stone", "old rock", "rock x"] * 2
LABELS = (["sea"] * 3 + ["hill"] * 3) * 2


def started(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess:
    """Run the program in a process of its own, end to end."""
    return subprocess.run(
        [sys.executable, "-m", "polyprompt.cli.main", *arguments],
        capture_output=True, text=True, input=text, check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def small(tiny_folder: Path) -> dict:
    return {
        "backbone": {"name": str(tiny_folder), "max_tokens": 64},
        "training": {"max_steps": 6, "learning_rate": 0.05},
        "layout": "{text}{task:3}",
    }


@pytest.fixture
def fitted(tiny_folder, tmp_path) -> Classifier:
    return Classifier(**small(tiny_folder)).fit(TEXTS, LABELS, output=tmp_path / "fit")


def test_help_answers_without_loading_torch():
    program = (
        "import sys; sys.argv = ['polyprompt', '--help']\n"
        "from polyprompt.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'polars', 'sklearn', 'scipy', 'pydantic', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "Usage: polyprompt" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "module", ["report.page", "analysis.summary", "scoring.score", "tasks.card"]
)
def test_reading_results_loads_no_torch(module):
    program = f"import sys, polyprompt.{module}; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_a_study_runs_checks_and_reports_from_the_command_line(toy_study, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(toy_study))
    checked = called("check", str(path))
    assert "2 runs together (0 complete); cached engine" in checked.stdout, checked.stderr
    assert not Path(toy_study["output"]).exists()
    done = called("run", str(path), "shots=2")
    assert done.returncode == 0, done.stderr
    for words in ("training: 0 of", "French", "fra_Latn", "Mean over languages, by script",
                  "Best baseline", " predict ", "YOUR.csv"):  # fmt: skip
        assert words in done.stdout, done.stdout
    report = called("report", str(Path(toy_study["output"]) / "toy"))
    assert "Mean accuracy over 4 languages" in report.stdout, report.stderr
    quiet = called("run", str(path), "shots=2", "--quiet")
    assert "training:" not in quiet.stdout


def test_faults_are_sentences_on_standard_error(toy_study, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(toy_study | {"shoots": 3}))
    done = started("run", str(path))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Did you mean 'shots'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_option_is_explained():
    done = called("fit", "x.csv", "--txt-column", "a")
    assert done.returncode == 2
    assert "No such option" in done.stderr


@pytest.mark.parametrize("name", ["tasks", "languages", "backbones", "version"])
def test_catalogues_are_printed(name):
    done = called(name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_fit_on_an_own_csv_says_what_does_not_fit(tiny_folder, tmp_path):
    path = tmp_path / "mine.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([["words", "topic"], *zip(TEXTS, LABELS, strict=True)])
    start = ["fit", str(path), "--backbone", str(tiny_folder), "--output", str(tmp_path / "run")]
    done = called(*start)
    assert "no column 'text'" in done.stderr
    assert "--text-column" in done.stderr
    done = called(*start, "--text-column", "words", "--label-column", "topic")
    assert done.returncode == 1
    assert "Set backbone.max_tokens=88 or less" in done.stderr


def test_fit_and_predict_with_the_real_backbone(real_backbone, tmp_path):
    path = tmp_path / "mine.tsv"
    rows = [f"{text}\t{label}" for text, label in zip(TEXTS, LABELS, strict=True)]
    path.write_text("\n".join(["words\ttopic", *rows]) + "\n")
    done = called(
        "fit", str(path), "--text-column", "words", "--label-column", "topic",
        "--describe", "sea=the sea", "--describe", "hill=hills and rocks",
        "--output", str(tmp_path / "run"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for words in ("Fitted 2 labels on 12 examples", "4-fold cross-validation", "zero-shot",
                  "In other languages it is usually lower", "Next: "):  # fmt: skip
        assert words in done.stdout
    answered = called(
        "predict", str(tmp_path / "run"), "-", text="Wellen im Meer\nein alter Fels\n"
    )
    assert [row["prediction"] for row in read_csv(answered.stdout)] == ["sea", "hill"]


def read_csv(text: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(text)))


def test_predict_keeps_order_and_other_columns(fitted, tmp_path):
    path = tmp_path / "in.csv"
    rows = [["id", "text", "note"], ["7", 'rock, "old"', "a"], ["3", "wave", "b,c"]] * 1
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    done = called("predict", str(fitted.folder), str(path))
    assert done.returncode == 0, done.stderr
    out = read_csv(done.stdout)
    assert [(r["id"], r["text"], r["note"]) for r in out] == [
        ("7", 'rock, "old"', "a"),
        ("3", "wave", "b,c"),
    ]
    expected = fitted.predict_proba(['rock, "old"', "wave"])
    for row, values in zip(out, expected, strict=True):
        assert float(row["probability:hill"]) == pytest.approx(values[0], abs=1e-4)
        assert row["prediction"] == fitted.labels[int(values.argmax())]


def test_predict_reads_json_lines_and_standard_input(fitted):
    lines = (
        json.dumps({"text": "wave", "n": 1}) + "\n\n" + json.dumps({"text": "rock", "n": 2}) + "\n"
    )
    done = called("predict", str(fitted.folder), "-", "--format", "jsonl", text=lines)
    out = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["n"] for r in out] == [1, 2]
    assert set(out[0]) == {"text", "n", "prediction", "probability:hill", "probability:sea"}
    plain = started("predict", str(fitted.folder), "-", text="wave\nrock\n")
    assert [r["text"] for r in read_csv(plain.stdout)] == ["wave", "rock"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "words\nx\n", "no column 'text'"),
        ("a.csv", "", "is empty"),
        ("a.csv", "text,b\nx,1\ny\n", "line 3: the row does not have 2 cells but 1"),
        ("a.jsonl", '{"text": 3}\n', "line 1: expected an object with a text"),
        ("a.jsonl", "nonsense\n", "line 1: not JSON"),
        ("a.txt", "x\n \n", "row 2: the text is empty"),
        ("none.csv", None, "Cannot read"),
    ],
)
def test_bad_input_to_predict_is_named(fitted, tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    done = called("predict", str(fitted.folder), str(tmp_path / name))
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_unusual_tables_come_back_as_they_were(fitted, tmp_path):
    (tmp_path / "a.csv").write_text(",text,n,n,prediction\n0,wave,1,2,old\n")
    out = called("predict", str(fitted.folder), str(tmp_path / "a.csv")).stdout.splitlines()
    assert out[0].startswith(",text,n,n,prediction,polyprompt:prediction,probability:hill")
    assert out[1].startswith("0,wave,1,2,old,")
    (tmp_path / "a.tsv").write_text('text\tn\n"wave\t1\nrock "x"\t2\n')
    out = called("predict", str(fitted.folder), str(tmp_path / "a.tsv")).stdout.splitlines()
    assert [line.split("\t")[:2] for line in out[1:]] == [['"wave', "1"], ['rock "x"', "2"]]
    line = json.dumps({"text": "wave", "prediction": "old"}) + "\n"
    done = called("predict", str(fitted.folder), "-", "--format", "jsonl", text=line)
    value = json.loads(done.stdout)
    assert value["prediction"] == "old"
    assert value["polyprompt:prediction"] in {"hill", "sea"}


def test_predict_may_write_over_its_input_and_keeps_what_it_answered(fitted, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text\nwave\nrock\n \n")
    done = called("predict", str(fitted.folder), str(path), "-o", str(path))
    assert done.returncode == 1
    assert "row 3: the text is empty. The 2 rows before it are written" in done.stderr
    assert [row["text"] for row in read_csv(path.read_text())] == ["wave", "rock"]
    done = called("predict", str(fitted.folder), str(path), "-o", str(tmp_path / "a.csv" / "b"))
    assert "Cannot write" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("a.csv", b"text\nl\xe4uft\n", "is not UTF-8 text"), ("a.xlsx", b"PK", "export it as CSV")],
)
def test_files_that_are_no_text_are_explained(fitted, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    done = called("predict", str(fitted.folder), str(tmp_path / name))
    assert done.returncode == 1
    assert words in done.stderr


def test_arrays_are_examples_and_a_single_string_is_not(tiny_folder, fitted):
    again = Classifier(**small(tiny_folder)).fit(np.array(TEXTS), np.array(LABELS))
    assert again.predict(np.array(["wave"]))[0] in {"hill", "sea"}
    with pytest.raises(DataError, match="texts is one string"):
        again.predict("wave")
    with pytest.raises(DataError, match="the label is of the type int"):
        Classifier(**small(tiny_folder)).fit(["a", "b"], [0, 1])


def test_an_unknown_setting_of_a_classifier_is_named():
    with pytest.raises(PolypromptError, match="A fit has no setting layuot. Did you mean 'layout'"):
        Classifier(layuot="{text}")


def test_an_interrupted_refit_is_not_a_complete_run(tiny_folder, fitted, monkeypatch):
    from polyprompt.experiments import fitting

    def stop(*_):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(fitting, "train_group", stop)
    with pytest.raises(KeyboardInterrupt):
        Classifier(**small(tiny_folder)).fit(TEXTS, LABELS[::-1], output=fitted.folder)
    with pytest.raises(StoreError, match="no complete run"):
        Classifier.load(fitted.folder)


def test_a_classifier_answers_saves_and_loads(fitted):
    assert fitted.labels == ("hill", "sea")
    texts = ["a wave", "old rock", "tall hill"]
    probabilities = fitted.predict_proba(texts)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    again = Classifier.load(fitted.folder)
    np.testing.assert_allclose(again.predict_proba(texts), probabilities, atol=1e-6)
    assert again.predict(texts) == fitted.predict(texts)
    assert set(fitted.predict(texts)) <= {"sea", "hill"}
    assert fitted.predict([]) == []


def test_a_fit_is_scored_on_what_each_fold_has_not_seen(fitted):
    from polyprompt.experiments.store import RunFolder

    run = RunFolder(fitted.folder)
    own = run.predictions().filter(run.predictions()["baseline"].is_null())
    assert own.height == len(TEXTS)
    assert run.record()["scores_from"] == "4-fold cross-validation"
    assert {"closed_form", "zero_shot"} <= set(run.scores()["baseline"].drop_nulls())


def test_one_example_per_label_fits_without_an_estimate(tiny_folder, tmp_path):
    from polyprompt.cli.people import fit_summary
    from polyprompt.experiments.store import RunFolder

    one = Classifier(**small(tiny_folder)).fit(
        ["wave", "rock"], ["a", "b"], output=tmp_path / "one"
    )
    assert one.predict(["wave"])[0] in {"a", "b"}
    assert any("is unknown" in line for line in fit_summary(RunFolder(tmp_path / "one")))


def test_a_study_s_run_is_a_classifier_too(toy_study):
    from polyprompt.experiments.config import build_study
    from polyprompt.experiments.study import run_study, study_folders

    study = build_study(toy_study, "toy")
    for _ in run_study(study):
        pass
    folder = study_folders(study)[0]
    table = folder.predictions().filter(
        folder.predictions()["baseline"].is_null()
        & (folder.predictions()["language"] == "swh_Latn")
    )
    import polars as pl

    test = pl.read_parquet(Path(toy_study["data"]) / "test.parquet")
    texts = table.join(test, on=["language", "id"])["text"].to_list()
    assert Classifier.load(folder.path).predict(texts) == table["prediction"].to_list()


@pytest.mark.parametrize(
    ("texts", "labels", "words"),
    [
        ([], [], "no examples"),
        (["a"], ["x", "y"], "1 texts and 2 labels"),
        (["a", " "], ["x", "y"], "Row 2: the text is empty"),
        (["a", "b"], ["x", ""], "Row 2: the label is empty"),
        (["a", "b"], ["x", "x"], "only the label 'x'"),
    ],
)
def test_bad_examples_are_refused(tiny_folder, texts, labels, words):
    with pytest.raises(DataError, match=words):
        Classifier(**small(tiny_folder)).fit(texts, labels)


def test_a_classifier_before_fit_says_so():
    with pytest.raises(StoreError, match="has not been fitted"):
        Classifier().predict(["x"])


def test_a_damaged_run_is_explained(fitted):
    (fitted.folder / "parts" / "task.safetensors").write_bytes(b"x")
    with pytest.raises(PolypromptError, match="cannot be read"):
        Classifier.load(fitted.folder)
