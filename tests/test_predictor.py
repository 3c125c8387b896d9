"""Answering new rows with finished runs: several texts a row, languages, answers that are written."""

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from polyprompt import Classifier, Predictor
from polyprompt import predictor as predictor_module
from polyprompt.cli.answers import Asking, Count, write_rows
from polyprompt.cli.rows import Wanted, _rows
from polyprompt.errors import DataError, StoreError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.study import run_study, study_folders
from polyprompt.models.tiny import tiny_model, tiny_tokenizer
from polyprompt.scoring.answers import answer_words
from programs import called

WORDS = ("wave", "rock", "road", "tree", "bird")


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoder")
    tiny_model("llama", scale=0.4).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def questions(tmp_path):
    """A card of questions and rows in two languages; one context is too long for a window."""
    rng = np.random.default_rng(0)
    rows = []
    for language in ("eng_Latn", "swh_Latn"):
        for i in range(5):
            words = rng.choice(WORDS, 4 + 12 * (i == 1)).tolist()
            answers = {"text": [words[1]], "answer_start": [len(words[0]) + 1]}
            row = {"id": str(i), "language": language, "question": f"what is {i}?"}
            rows.append(row | {"context": " ".join(words), "answers": answers})
    folder = tmp_path / "questions"
    folder.mkdir()
    for split in ("train", "dev", "test"):
        own = [row for row in rows if split == "test" or row["language"] == "eng_Latn"]
        pl.DataFrame(own).write_parquet(folder / f"{split}.parquet")
    card = {
        "name": "questions", "title": "Questions", "kind": "question_answering",
        "metric": "answer_f1", "layout": "{task}{question} {context}",
        "columns": {
            "id": "id", "label": "answers",
            "fields": {"question": "question", "context": "context"},
        },
        "written": {"max_pieces": 6},
    }  # fmt: skip
    path = tmp_path / "questions.yaml"
    path.write_text(yaml.safe_dump(card))
    return path, folder


def finished(task, data, backbone, output, **changes):
    value = {
        "name": "one", "task": str(task), "data": str(data), "output": str(output), "shots": 4,
        "backbone": {"name": str(backbone), "max_tokens": 64}, "parts": {"task": {"length": 3}},
        "training": {"epochs": 1, "learning_rate": 0.05, "batch_size": 2},
    }  # fmt: skip
    study = build_study(value | changes, "one")
    list(run_study(study))
    (folder,) = study_folders(study)
    return folder


def own_answers(run):
    return run.predictions().filter(pl.col("baseline").is_null())


def test_questions_are_answered_as_in_the_study(questions, decoder, tmp_path):
    card, data = questions
    run = finished(card, data, decoder, tmp_path / "runs", head={"kind": "generator", "stride": 8})
    rows = pl.read_parquet(data / "test.parquet").sort("language", "id")
    own = own_answers(run).sort("language", "id")
    assert len(set(own["answer"])) > 1
    predictor = Predictor.load(run.path)
    assert (set(predictor.fields), predictor.labels) == ({"question", "context"}, ())
    found = predictor.answer(rows.select("question", "context").to_dicts())
    assert [one.prediction for one in found] == own["answer"].to_list()
    logs = [score for (score,) in own["scores"]]
    assert [one.mean_log for one in found] == pytest.approx(logs, abs=1e-4)
    lines = [json.dumps(row) for row in rows.drop("answers").to_dicts()]
    done = called("predict", str(run.path), "-", "--format", "jsonl", text="\n".join(lines))
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["prediction"] for one in told] == own["answer"].to_list()
    assert list(told[0]) == [*rows.drop("answers").columns, "prediction", "log_probability"]
    with pytest.raises(StoreError, match="polyprompt predict"):
        Classifier.load(run.path)


def test_labels_that_are_written_are_read(toy_study, decoder, tmp_path):
    """What the untrained model writes most is the word of a label: some answers can be read."""
    head = {"kind": "generator", "max_pieces": 12, "fallback": "hill", "leading_space": False}
    changes = {"head": head, "layout": "{task:3}{text}", "training": {"epochs": 0}, "shots": 1}
    one = finished(toy_study["task"], toy_study["data"], decoder, tmp_path / "one", **changes)
    texts = [
        text for text in own_answers(one)["answer"] if answer_words(text, "") and len(text) < 11
    ]
    commonest, _ = Counter(texts).most_common(1)[0]
    head["words"] = {"sea": commonest, "hill": "hill", "town": "town"}
    run = finished(toy_study["task"], toy_study["data"], decoder, tmp_path / "two", **changes)
    own = own_answers(run)
    assert set(own["prediction"]) == {"sea", "hill"}
    assert 0 < own["unread"].sum() < len(own)
    data = pl.read_parquet(f"{toy_study['data']}/test.parquet")
    table = tmp_path / "rows.csv"
    data.select("id", "language", "text").write_csv(table)
    done = called("predict", str(run.path), str(table))
    assert done.returncode == 0, done.stderr
    told = pl.read_csv(done.stdout.encode(), schema_overrides={"id": pl.String})
    assert told.columns[3:] == ["prediction", "written", "unread", "log_probability"]
    both = own.join(told, on=["id", "language"], suffix="_new")
    assert len(both) == len(data)
    assert both["prediction"].to_list() == both["prediction_new"].to_list()
    assert both["answer"].to_list() == [one or "" for one in both["written"]]
    assert both["unread"].to_list() == both["unread_new"].to_list()


@pytest.fixture
def pairs(toy_study, tmp_path):
    """The toy task with its text in two halves."""
    card = yaml.safe_load(Path(toy_study["task"]).read_text())
    card["columns"]["fields"] = {"first": "first", "second": "second"}
    card["layout"] = "{task}{first} {second}"
    folder = tmp_path / "pairs"
    folder.mkdir()
    for split in ("train", "dev", "test"):
        frame = pl.read_parquet(f"{toy_study['data']}/{split}.parquet")
        halves = pl.col("text").str.slice(0, 4), pl.col("text").str.slice(4)
        halves = [
            half.fill_null("").add(".").alias(name)
            for half, name in zip(halves, ("first", "second"), strict=True)
        ]
        frame.with_columns(halves).drop("text").write_parquet(folder / f"{split}.parquet")
    path = tmp_path / "pairs.yaml"
    path.write_text(yaml.safe_dump(card))
    return path, folder


def test_rows_of_several_texts_are_labelled(pairs, tiny_folder, tmp_path):
    card, data = pairs
    run = finished(card, data, tiny_folder, tmp_path / "runs", baselines=False)
    rows = pl.read_parquet(data / "test.parquet").filter(language="eng_Latn")
    own = rows.select("id").join(
        own_answers(run).filter(language="eng_Latn"), on="id", maintain_order="left"
    )
    texts = rows.select("first", "second").to_dicts()
    assert Classifier.load(run.path).predict(texts) == own["prediction"].to_list()
    table = tmp_path / "rows.tsv"
    rows.select(pl.col("first").alias("A"), "second").write_csv(table, separator="\t")
    done = called("predict", str(run.path), str(table), "--column", "first=A")
    assert done.returncode == 0, done.stderr
    told = pl.read_csv(done.stdout.encode(), separator="\t")
    assert told["prediction"].to_list() == own["prediction"].to_list()
    for given, words in (
        ((), "has no column 'first'"),
        (("--column", "third=A"), "no field 'third'"),
        (("--column", "A"), "expected FIELD=COLUMN"),
        (("--format", "lines"), "a plain line is one text, and a row has first, second"),
        (("--text-column", "A"), "a row of this task has first, second"),
    ):
        there = tmp_path / "keep.csv"
        there.write_text("earlier")
        done = called("predict", str(run.path), str(table), *given, "-o", str(there))
        assert (done.returncode, words in done.stderr) == (1, True), done.stderr
        assert there.read_text() == "earlier"
    exchanged = ("--column", "first=second", "--column", "second=first", "--format", "csv")
    done = called("predict", str(run.path), "-", *exchanged, text="first,second\nwave,\n")
    assert "row 1: the text 'second' is empty" in done.stderr
    classifier, predictor = Classifier.load(run.path), Predictor.load(run.path)
    with pytest.raises(DataError, match="expected a mapping with first, second"):
        classifier.predict(["one text"])
    with pytest.raises(DataError, match="one mapping; expected a list"):
        classifier.predict(texts[0])
    for rows_, languages, words in (
        ([texts[0], {"first": "x"}], [], "Row 2: the text 'second' is missing"),
        ([{"first": "x", "second": 3}], [], "'second' is of the type int; expected a string"),
        (["x"], [], "Row 1: it is of the type str; expected a mapping of first, second"),
        (texts[:2], ["eng_Latn"], "2 rows and 1 languages"),
        ([{"first": "x", "second": "\ud800"}], [], "half of a surrogate pair"),
    ):
        with pytest.raises(DataError, match=words):
            predictor.answer(rows_, languages)
    assert len(predictor.answer(texts[:2], np.array(["eng_Latn", "swh_Latn"]))) == 2


def test_each_row_is_read_in_its_own_language(toy_study, tiny_folder, tmp_path):
    asked = {"default": "Topic", "swh_Latn": "Mada ya habari"}
    changes = {"layout": "{instruction}: {text}{task:3}", "instructions": asked, "baselines": False}
    run = finished(toy_study["task"], toy_study["data"], tiny_folder, tmp_path / "runs", **changes)
    data = pl.read_parquet(f"{toy_study['data']}/test.parquet").sort("id")
    own = data.select("id", "language").join(
        own_answers(run), on=["id", "language"], maintain_order="left"
    )
    table = tmp_path / "rows.csv"
    data.select("id", "language", "text").write_csv(table)
    done = called("predict", str(run.path), str(table), "--language-column", "language")
    assert done.returncode == 0, done.stderr
    told = pl.read_csv(done.stdout.encode())
    scores = np.array(own["scores"].to_list(), dtype=float)
    expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    labels = [name.partition(":")[2] for name in told.columns if name.startswith("probability:")]
    there = told.select(pl.selectors.starts_with("probability:")).to_numpy()
    assert labels == run.record()["labels"]
    np.testing.assert_allclose(there, expected, atol=2e-5)
    english = called("predict", str(run.path), str(table), "--language", "eng_Latn").stdout
    assert english != done.stdout
    missing = called("predict", str(run.path), str(table), "--language-column", "tongue")
    assert "has no column 'tongue'" in missing.stderr
    assert "Name it with --language-column" in missing.stderr


def test_a_row_in_a_language_without_words_ends_it_behind_the_rows_before(
    toy_study, tiny_folder, tmp_path
):
    data = pl.read_parquet(f"{toy_study['data']}/test.parquet")
    asked = {code: f"Topic {code[0]}" for code in data["language"].unique()}
    changes = {"layout": "{instruction}: {text}{task:3}", "instructions": asked, "baselines": False}
    run = finished(toy_study["task"], toy_study["data"], tiny_folder, tmp_path / "runs", **changes)
    lines = ["language,text", "eng_Latn,a wave", "zul_Latn,b rock", "eng_Latn,c"]
    args = ("predict", str(run.path), "-", "--format", "csv", "--language-column", "language")
    done = called(*args, text="\n".join(lines))
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    assert "row 2: " in done.stderr
    assert "'zul_Latn' is none of them" in done.stderr
    assert "The 1 rows before it are written" in done.stderr
    with pytest.raises(DataError, match="Row 1: .*name it"):
        Predictor.load(run.path).answer([{"text": "a"}])
    rows = [{"language": None, "text": "a"}, {"language": " ", "text": "b"}, {"text": "c"}]
    lines = "\n".join(map(json.dumps, rows))
    args = ("predict", str(run.path), "-", "--format", "jsonl", "--language-column", "language")
    done = called(*args, "--language", "eng_Latn", text=lines)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 3), done.stderr
    done = called(*args, "--language", "zul_Latn", text=lines)
    assert "'zul_Latn' is none of them" in done.stderr


class Broken:
    """Lines of which the last breaks the reading off."""

    def __init__(self, lines, error):
        self._lines, self._error = lines, error

    def __iter__(self):
        yield from self._lines
        raise self._error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RecursionError()])
def test_what_was_read_is_answered_when_somebody_breaks_it_off(
    toy_study, tiny_folder, tmp_path, error
):
    run = finished(
        toy_study["task"], toy_study["data"], tiny_folder, tmp_path / "runs", baselines=False
    )
    wanted = Wanted({"text": "text"})
    rows = _rows(Broken(["a\n", "b\n", "c\n"], error), "lines", wanted, "here")
    stream = io.StringIO()
    asking = Asking(Predictor.load(run.path))
    assert write_rows(rows, asking, stream) == (Count(written=3), error)
    assert len(stream.getvalue().splitlines()) == 4


def test_a_language_is_looked_up_once(toy_study, tiny_folder, tmp_path, monkeypatch):
    run = finished(
        toy_study["task"], toy_study["data"], tiny_folder, tmp_path / "runs", baselines=False
    )
    asked = []
    monkeypatch.setattr(predictor_module, "check_language", lambda _, code: asked.append(code))
    predictor = Predictor.load(run.path)
    predictor.answer([{"text": "a"}] * 3, ["eng_Latn", "swh_Latn", "eng_Latn"])
    assert asked == ["eng_Latn", "swh_Latn"]


def test_names_that_a_row_has_are_not_written_over(toy_study, tiny_folder, tmp_path):
    run = finished(
        toy_study["task"], toy_study["data"], tiny_folder, tmp_path / "runs", baselines=False
    )
    row = {"text": "a", "prediction": 1, "polyprompt:prediction": 2}
    done = called("predict", str(run.path), "-", "--format", "jsonl", text=json.dumps(row))
    told = json.loads(done.stdout)
    assert (told["prediction"], told["polyprompt:prediction"]) == (1, 2)
    assert told["polyprompt:polyprompt:prediction"] in run.record()["labels"]


def test_nothing_is_answered_with_nothing(toy_study, tiny_folder, tmp_path):
    run = finished(
        toy_study["task"], toy_study["data"], tiny_folder, tmp_path / "runs", baselines=False
    )
    assert Predictor.load(run.path).answer([]) == []
