"""Readers check every column, label and text; shipped cards and facts are in order."""

import unicodedata
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from polyprompt.data.readers import read_columns, read_table, read_task
from polyprompt.errors import ConfigError, DataError
from polyprompt.languages.catalogue import CORPUS_UNITS, catalogue, check_languages
from polyprompt.tasks.card import load_card, parse_card, shipped_cards

CARD = """
name: t
title: T
columns: {id: id, label: label, fields: {text: text}}
labels: [a, b]
"""


def folder(tmp_path: Path, **changes) -> str:
    base = {"id": ["1", "2"], "language": ["eng_Latn"] * 2, "text": ["x", "y"], "label": ["a", "b"]}
    for split in ("train", "dev", "test"):
        pl.DataFrame(base | changes).write_parquet(tmp_path / f"{split}.parquet")
    return str(tmp_path)


def read(tmp_path, card=CARD, **changes):
    return read_task(parse_card(card, "t"), folder(tmp_path, **changes), ["eng_Latn"], None)


def test_a_good_table_becomes_examples(tmp_path):
    data = read(tmp_path)
    assert [e.label for e in data.splits["test"]] == ["a", "b"]
    assert data.languages("test") == ("eng_Latn",)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label": ["a", "c"]}, "row 2: unknown label 'c'.*The task's labels: a, b"),
        ({"text": ["x", "  "]}, "row 2: the text 'text' is empty"),
        ({"text": ["x", None]}, "row 2: the text 'text' is empty"),
    ],
)
def test_a_bad_row_is_named(tmp_path, changes, words):
    with pytest.raises(DataError, match=words):
        read(tmp_path, **changes)


def test_a_missing_column_is_named_with_the_nearest(tmp_path):
    with pytest.raises(DataError, match="no column 'txt'. Did you mean 'text'"):
        read(tmp_path, CARD.replace("text: text", "text: txt"))


def test_a_language_column_of_another_name_is_not_passed_over(tmp_path):
    base = pl.DataFrame({"id": ["1"], "lang": ["fra_Latn"], "text": ["x"], "label": ["a"]})
    for split in ("train", "dev", "test"):
        base.write_parquet(tmp_path / f"{split}.parquet")
    with pytest.raises(DataError, match="no column 'language' to tell the languages apart"):
        read_task(parse_card(CARD, "t"), str(tmp_path), ["eng_Latn"], None)
    one = read_task(parse_card(CARD, "t"), str(tmp_path), ["fra_Latn"], ["fra_Latn"])
    assert one.languages("test") == ("fra_Latn",)


def test_a_task_without_a_dev_split_is_read(tmp_path):
    path = folder(tmp_path)
    card = parse_card(CARD + "local: {files: {train: train.parquet, test: test.parquet}}", "t")
    assert read_task(card, path, ["eng_Latn"], None).splits["dev"] == ()


def test_text_tables_keep_numbers_and_quotes_as_they_are(tmp_path):
    (tmp_path / "a.csv").write_text('text,label\n"say ""x"", y",007\n')
    (tmp_path / "a.tsv").write_text('text\tlabel\nsay "x"\t007\n')
    assert read_table(tmp_path / "a.csv").row(0) == ('say "x", y', "007")
    assert read_table(tmp_path / "a.tsv").row(0) == ('say "x"', "007")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", None, "There is no file"),
        ("a.csv", "", "it is empty"),
        ("a.parquet", "not parquet", "Expected a .parquet table"),
        ("a.docx", "x", "expected one of .parquet, .csv"),
    ],
)
def test_a_file_that_cannot_be_read_is_explained(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=words):
        read_table(tmp_path / name)


def test_own_columns_are_looked_for_by_name(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("txt,label\nhello,a\n")
    with pytest.raises(DataError, match=r"no column 'text'. Did you mean 'txt'.*--text-column"):
        read_columns(path, "text", "label")
    assert read_columns(path, "txt", "label") == (["hello"], ["a"])


def test_a_hub_data_set_is_read_language_by_language(tmp_path):
    for language in ("eng_Latn", "fra_Latn"):
        for split in ("train", "validation", "test"):
            place = tmp_path / "data" / language
            place.mkdir(parents=True, exist_ok=True)
            text = f"index_id\tcategory\ttext\n1\tsports\t{split} of {language}\n"
            (place / f"{split}.tsv").write_text(text)
    lines = ["---", "configs:"]
    for language in ("eng_Latn", "fra_Latn"):
        lines += [f"- config_name: {language}", '  sep: "\\t"', "  data_files:"]
        for split in ("train", "validation", "test"):
            lines += [f"  - split: {split}", f"    path: data/{language}/{split}.tsv"]
    (tmp_path / "README.md").write_text("\n".join([*lines, "---", ""]))
    card = load_card("sib200")
    card = card.model_copy(update={"hub": card.hub.model_copy(update={"path": str(tmp_path)})})
    data = read_task(card, None, ["eng_Latn"], ["eng_Latn", "fra_Latn"])
    assert [e.fields["text"] for e in data.splits["test"]] == [
        "test of eng_Latn",
        "test of fra_Latn",
    ]
    assert data.splits["dev"][0].fields["text"] == "validation of eng_Latn"
    assert data.splits["dev"][0].id == "1"


def test_a_hub_data_set_without_a_network_says_what_to_do():
    with pytest.raises(DataError, match="data=FOLDER"):
        read_task(load_card("sib200"), None, ["eng_Latn"], ["eng_Latn"])


@pytest.mark.parametrize("name", shipped_cards())
def test_every_shipped_card_names_licence_source_and_descriptions(name):
    card = load_card(name)
    assert card.name == name
    assert card.licence
    assert card.citation
    if card.kind == "classification":
        assert set(card.label_descriptions) == set(card.labels)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("labels: [a, b]", "labels: [a, a]"), "a label stands there twice"),
        (("labels: [a, b]", "labels: [a]"), "labels"),
        (("title: T", "titel: T"), "titel.*Did you mean 'title'"),
        (("title: T", "title: T\nlabel_descriptions: {a: x, c: y}"), "there is no label 'c'"),
        (
            ("title: T", "title: T\nlabel_words: {xglm: {a: x}}"),
            "nothing is given for the label 'b'",
        ),
    ],
)
def test_a_faulty_card_says_what_is_wrong(change, words):
    with pytest.raises(ConfigError, match=f"(?s){words}"):
        parse_card(CARD.replace(*change) + "parallel: true\n", "t")


def test_sample_topics_is_whole_and_its_splits_share_nothing():
    card = load_card("sample_topics")
    data = read_task(card, None, ["eng_Latn"], None)
    assert Counter(e.label for e in data.splits["train"]) == dict.fromkeys(card.labels, 12)
    assert Counter(e.label for e in data.splits["dev"]) == dict.fromkeys(card.labels, 4)
    languages = data.languages("test")
    assert len(languages) >= 30
    assert len({catalogue()[code].family for code in languages}) >= 12
    assert len({code.split("_")[1] for code in languages}) >= 15
    english = {e.id: e.label for e in data.of("test", ["eng_Latn"])}
    for code in languages:
        items = data.of("test", [code])
        assert {e.id: e.label for e in items} == english
        assert len({e.fields["text"] for e in items}) == 35
    texts = [e.fields["text"] for e in data.splits["test"]]
    assert all(unicodedata.is_normalized("NFC", text) for text in texts)
    apart = [{e.fields["text"] for e in data.splits[s]} for s in ("train", "dev", "test")]
    assert not apart[0] & apart[1] | apart[0] & apart[2] | apart[1] & apart[2]
    assert "not checked by native speakers" in card.caution


def test_sample_topics_holds_no_sentence_of_sib200(sib200):
    ours = read_task(load_card("sample_topics"), None, ["eng_Latn"], None)
    mine = {e.fields["text"].casefold() for split in ours.splits.values() for e in split}
    for split in ("train", "dev", "test"):
        theirs = pl.read_parquet(sib200 / f"{split}.parquet")["text"]
        assert not mine & {text.casefold() for text in theirs}


def test_the_catalogue_holds_all_languages_of_sib200(sib200):
    known = catalogue()
    assert len(known) == 205
    codes = pl.read_parquet(sib200 / "test.parquet")["language"].unique().to_list()
    assert set(codes) <= set(known)


def test_language_facts_agree_with_the_papers_table(sib200):
    table = pl.read_csv(sib200.parent / "reference" / "languages.csv")
    for row in table.iter_rows(named=True):
        language = catalogue()[row["sib200_code"]]
        assert language.script == row["script"]
        assert language.corpora["bloom"].seen == bool(row["bloom_supported"])
        assert language.corpora["xglm"].seen == bool(row["xglm_supported"])
        assert language.corpora["bloom"].amount == row["bloom_roots_bytes"]
        assert language.corpora["xglm"].amount == row["xglm_tokens"]


def test_facts_are_in_their_ranges():
    for language in catalogue().values():
        assert language.name
        assert language.code == f"{language.iso639_3}_{language.script}"
        assert language.latitude is None or -90 <= language.latitude <= 90
        assert language.longitude is None or -180 <= language.longitude <= 180
        assert set(language.corpora) == set(CORPUS_UNITS)
    assert len({language.name for language in catalogue().values()}) == 205


def test_unknown_languages_are_all_named():
    with pytest.raises(ConfigError, match=r"(?s)'swa_Latn'.*'xxx'"):
        check_languages(["swa_Latn", "eng_Latn", "xxx"], catalogue(), "the catalogue")
