"""Cards read data sets of the Hub as they are built there: local folders with the same schemas."""

from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from polyprompt.data.readers import read_task
from polyprompt.errors import DataError
from polyprompt.tasks.card import load_card

NER = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]


def data_set(folder, configs):
    """Write a data set: tables by configuration and split."""
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f'- config_name: "{config}"', "  data_files:"]
        for split, (rows, features) in splits.items():
            path = folder / config / f"{split}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            Dataset.from_list(rows, features=features).to_parquet(path)
            lines += [f"  - split: {split}", f"    path: {config}/{split}.parquet"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return folder


def on(card, folder: Path, source: Path | None = None):
    """Let a card read from folders in the place of the Hub."""
    hub = card.hub.model_copy(update={"path": str(folder), "revision": None})
    if source is not None:
        hub = hub.model_copy(update={"source": hub.source.model_copy(update={"path": str(source)})})
    return card.model_copy(update={"hub": hub})


def tagged(names, column, *rows):
    features = Features({"tokens": List(Value("string")), column: List(ClassLabel(names=names))})
    return [{"tokens": list(words), column: list(tags)} for words, tags in rows], features


def test_named_entities_have_their_tags_by_name(tmp_path):
    split = tagged(NER, "ner_tags", (("Anna", "runs"), ("B-PER", "O")))
    folder = data_set(
        tmp_path, {c: dict.fromkeys(("train", "validation", "test"), split) for c in ("en", "sw")}
    )
    data = read_task(on(load_card("panx"), folder), None, ["eng_Latn"], ["swh_Latn"])
    (example,) = data.splits["test"]
    assert (example.language, example.words, example.tags) == (
        "swh_Latn", ("Anna", "runs"), ("B-PER", "O"),
    )  # fmt: skip


def test_one_data_set_is_learnt_from_and_another_tested(tmp_path):
    english = tagged(NER, "ner_tags", (("Anna",), ("B-PER",)))
    african = tagged([*NER, "B-DATE", "I-DATE"], "ner_tags", (("leo", "hapa"), ("B-DATE", "O")))
    source = data_set(tmp_path / "wikiann", {"en": {"train": english, "validation": english}})
    folder = data_set(
        tmp_path / "masakhaner", {"swa": {"train": african, "validation": african, "test": african}}
    )
    card = on(load_card("masakhaner"), folder, source)
    data = read_task(card, None, ["eng_Latn"], ["swh_Latn"])
    assert [e.language for e in data.splits["train"]] == ["eng_Latn"]
    assert data.splits["dev"][0].tags == ("B-PER",)
    assert data.splits["test"][0].tags == ("B-DATE", "O")
    with pytest.raises(DataError, match="has no language 'fra_Latn'.*It has: bam_Latn"):
        read_task(card, None, ["eng_Latn"], ["fra_Latn"])


def test_parts_of_speech_leave_out_what_stands_for_several_words(tmp_path):
    names = ["NOUN", "DET", "_", "ADP"]
    split = tagged(names, "upos", (("du", "de", "le", "pain"), ("_", "ADP", "DET", "NOUN")))
    folder = data_set(tmp_path, {c: {"train": split, "dev": split, "test": split} for c in ("en_ewt", "fr_pud")})  # fmt: skip
    data = read_task(on(load_card("udpos"), folder), None, ["eng_Latn"], ["fra_Latn"])
    assert data.splits["test"][0].words == ("de", "le", "pain")
    assert data.splits["test"][0].tags == ("ADP", "DET", "NOUN")


def test_pairs_have_labels_by_name_and_rows_for_ids(tmp_path):
    features = Features(
        {
            "premise": Value("string"), "hypothesis": Value("string"),
            "label": ClassLabel(names=["entailment", "neutral", "contradiction"]),
        }
    )  # fmt: skip
    rows = [
        {"premise": "a", "hypothesis": "b", "label": 2},
        {"premise": "c", "hypothesis": "d", "label": 0},
    ]
    split = rows, features
    folder = data_set(tmp_path, {c: dict.fromkeys(("train", "validation", "test"), split) for c in ("en", "sw")})  # fmt: skip
    data = read_task(on(load_card("xnli"), folder), None, ["eng_Latn"], ["eng_Latn", "swh_Latn"])
    assert [(e.language, e.id, e.label) for e in data.splits["test"]] == [
        ("eng_Latn", "0", "contradiction"), ("eng_Latn", "1", "entailment"),
        ("swh_Latn", "0", "contradiction"), ("swh_Latn", "1", "entailment"),
    ]  # fmt: skip


def test_what_is_learnt_from_is_tested_in_no_language(tmp_path):
    def rows(language):
        return [
            {
                "link": "l", "question_number": i, "flores_passage": language, "question": "q",
                **{f"mc_answer{n}": f"a{n}" for n in range(1, 5)}, "correct_answer_num": "2",
            }
            for i in range(302)
        ]  # fmt: skip

    text = (
        "link",
        "flores_passage",
        "question",
        *(f"mc_answer{n}" for n in range(1, 5)),
        "correct_answer_num",
    )
    features = Features({**{name: Value("string") for name in text}, "question_number": Value("int64")})  # fmt: skip
    folder = data_set(
        tmp_path, {c: {"test": (rows(c), features)} for c in ("eng_Latn", "fra_Latn")}
    )
    data = read_task(
        on(load_card("belebele"), folder), None, ["eng_Latn"], ["eng_Latn", "fra_Latn"]
    )
    assert [len(data.splits[s]) for s in ("train", "dev", "test")] == [200, 100, 4]
    assert {e.id for e in data.splits["test"]} == {"l/300", "l/301"}
    assert data.splits["test"][0].choices == ("a1", "a2", "a3", "a4")
    assert data.splits["test"][0].label == "2"


def test_nothing_left_to_test_is_said(tmp_path):
    row = {
        "link": "l", "question_number": "1", "flores_passage": "p", "question": "q",
        **{f"mc_answer{n}": f"a{n}" for n in range(1, 5)}, "correct_answer_num": "2",
    }  # fmt: skip
    features = Features(dict.fromkeys(row, Value("string")))
    rows = [row | {"question_number": str(i)} for i in range(300)]
    folder = data_set(tmp_path, {"eng_Latn": {"test": (rows, features)}})
    with pytest.raises(DataError, match="Nothing is left to test"):
        read_task(on(load_card("belebele"), folder), None, ["eng_Latn"], ["eng_Latn"])


def test_causes_and_effects_are_learnt_from_english(tmp_path):
    features = Features(
        {
            **dict.fromkeys(("premise", "choice1", "choice2", "question"), Value("string")),
            "idx": Value("int32"), "label": ClassLabel(names=["choice1", "choice2"]),
        }
    )  # fmt: skip
    english = ([{"premise": "p", "choice1": "x", "choice2": "y", "question": "cause", "idx": 0, "label": 1}], features)  # fmt: skip
    numbers = Features(features | {"label": Value("int64")})
    swahili = ([english[0][0] | {"label": 0}], numbers)
    source = data_set(tmp_path / "glue", {"copa": {"train": english, "validation": english}})
    folder = data_set(tmp_path / "xcopa", {"sw": {"validation": swahili, "test": swahili}})
    data = read_task(on(load_card("xcopa"), folder, source), None, ["eng_Latn"], ["swh_Latn"])
    assert data.splits["train"][0].label == "2"
    assert data.splits["test"][0].label == "1"
    assert data.splits["test"][0].choices == ("x", "y")


def answered(*rows):
    answers = {"text": List(Value("string")), "answer_start": List(Value("int32"))}
    names = ("id", "title", "context", "question")
    features = Features({**dict.fromkeys(names, Value("string")), "answers": answers})
    return [
        {
            "id": name, "title": "t", "context": f"about {found}", "question": "which?",
            "answers": {"text": [*found], "answer_start": [6] * len(found)},
        }
        for name, found in rows
    ], features  # fmt: skip


def test_squad_is_learnt_from_and_xquad_is_answered(tmp_path):
    squad = data_set(tmp_path / "squad", {"plain_text": {"train": answered(("a", ["one"]))}})
    configs = {
        f"xquad.{code}": {"validation": answered(("b", ["two", "the  two"]), ("c", ["three"]))}
        for code in ("en", "ar")
    }
    card = on(load_card("xquad"), data_set(tmp_path / "xquad", configs), squad).as_written()
    data = read_task(card, None, ["eng_Latn"], ["eng_Latn", "arb_Arab"])
    assert [one.label for one in data.splits["train"]] == ["one"]
    assert not data.splits["dev"]
    assert [(one.language, one.label) for one in data.splits["test"]] == [
        ("eng_Latn", "two\nthe two"), ("eng_Latn", "three"),
        ("arb_Arab", "two\nthe two"), ("arb_Arab", "three"),
    ]  # fmt: skip


def test_one_configuration_may_hold_all_languages(tmp_path):
    splits = {
        "train": answered(("english-1", ["one"]), ("arabic-1", ["eins"])),
        "validation": answered(("arabic-2", ["two"]), ("english-2", ["zwei"])),
    }
    folder = data_set(tmp_path / "tydiqa", {"secondary_task": splits})
    data = read_task(
        on(load_card("tydiqa"), folder).as_written(), None, ["eng_Latn"], ["arb_Arab", "eng_Latn"]
    )
    assert [one.label for one in data.splits["train"]] == ["one"]
    assert [(one.language, one.id, one.label) for one in data.splits["test"]] == [
        ("arb_Arab", "arabic-2", "two"), ("eng_Latn", "english-2", "zwei"),
    ]  # fmt: skip
