"""Answering new rows with finished runs: several texts a row, languages, answers that are written."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from polyprompt import Classifier, Predictor
from polyprompt.errors import ConfigError, DataError, StoreError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.study import run_study, study_folders
from polyprompt.models.tiny import tiny_model, tiny_tokenizer
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
    words = {"sea": "sea", "hill": "hill", "town": "town"}
    head = {"kind": "generator", "max_pieces": 6, "fallback": "hill", "words": words}
    changes = {"head": head, "layout": "{task:3}{text}"}
    run = finished(toy_study["task"], toy_study["data"], decoder, tmp_path / "runs", **changes)
    own = own_answers(run).filter(language="swh_Latn")
    data = pl.read_parquet(f"{toy_study['data']}/test.parquet").filter(language="swh_Latn")
    table = tmp_path / "rows.csv"
    data.select("id", "text").write_csv(table)
    done = called("predict", str(run.path), str(table))
    assert done.returncode == 0, done.stderr
    told = pl.read_csv(done.stdout.encode(), schema_overrides={"id": pl.String})
    assert told.columns == ["id", "text", "prediction", "written", "log_probability"]
    both = own.join(told, on="id", suffix="_new")
    assert len(both) == len(data)
    assert both["prediction"].to_list() == both["prediction_new"].to_list()
    assert both["answer"].to_list() == [one or "" for one in both["written"]]


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
    ):
        done = called("predict", str(run.path), str(table), *given)
        assert (done.returncode, words in done.stderr) == (1, True), done.stderr
    with pytest.raises(DataError, match="expected a mapping with first, second"):
        Classifier.load(run.path).predict(["one text"])
    with pytest.raises(DataError, match="Row 2: the text 'second' is missing"):
        Predictor.load(run.path).answer([texts[0], {"first": "x"}])


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
    with pytest.raises(ConfigError, match="name it"):
        Predictor.load(run.path).answer([{"text": "a"}])


def test_nothing_is_answered_with_nothing(toy_study, tiny_folder, tmp_path):
    run = finished(
        toy_study["task"], toy_study["data"], tiny_folder, tmp_path / "runs", baselines=False
    )
    assert Predictor.load(run.path).answer([]) == []
