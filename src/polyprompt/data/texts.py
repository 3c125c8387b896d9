"""Reads unlabelled texts of languages: text files, tables, or a data set of the Hub as a stream.

Of ten texts one is held out for choosing the state that is kept, and one for what is measured.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import polars as pl

from polyprompt.data.splits import TaskData
from polyprompt.errors import DataError, listing, nearest
from polyprompt.languages.catalogue import catalogue, check_languages
from polyprompt.records import Example
from polyprompt.tasks.card import TaskCard

HELD_OUT = {4: "dev", 9: "test"}
"""Which of ten texts are held out."""

LEAST_CHARACTERS = 10
"""Shorter paragraphs of a streamed article are left out."""


def text_files(data: str | None, card: TaskCard) -> dict[str, Path]:
    """Name the files of texts.

    Args:
        data: Files or folders, one a line; of a folder, its files of text and tables count.
        card: For the message.

    Raises:
        DataError: There is no such place, or it holds no texts.
    """
    places = [Path(line.strip()).expanduser() for line in (data or "").splitlines() if line.strip()]
    files = [path for place in places for path in _files_at(place, card)]
    return {str(path): path for path in files}


def _files_at(place: Path, card: TaskCard) -> list[Path]:
    """Name the files of texts at a place; in a folder, files of text must name a language.

    Raises:
        DataError: There is no such place, or it holds no texts.
    """
    if not place.exists():
        raise DataError(f"There is no file or folder {place} (data=…).")
    kinds = {True: (".txt", *_TABLES), False: _TABLES}
    there = [place] if place.is_file() else sorted(place.iterdir())
    found = [
        path
        for path in there
        if path.suffix.lower() in kinds[path == place or path.stem in catalogue()]
    ]
    if not found:
        raise DataError(
            f"{place} (data=…) holds no texts. Expected text files with a text a line, named "
            f"LANGUAGE.txt, or tables ({', '.join(_TABLES)}) with a column "
            f"'{card.columns.fields['text']}'."
        )
    return found


_TABLES = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson")


def read_texts(
    card: TaskCard,
    data: str | None,
    source: Sequence[str],
    targets: Sequence[str] | None,
    most: int | None,
    wanted: int | None,
    evaluate: Literal["test", "dev", "both"] = "test",
) -> TaskData:
    """Read texts: those to learn from in the source languages, those to measure in the targets.

    Args:
        card: Of the kind ``language``.
        data: As in ``text_files``; None for the Hub.
        source: Languages that are learnt.
        targets: Languages that are measured; None for the source languages.
        most: Most texts of a language that are measured, from the beginning; None for all.
        wanted: Texts of a language that are learnt from, so that a stream can end; None for all.
        evaluate: Which of the held-out texts are measured; those for choosing stand in the place of
            the others, or beside them.

    Raises:
        ConfigError: A language has no texts.
        DataError: A file cannot be read, or there are too few texts.
    """
    languages = tuple(dict.fromkeys([*source, *(targets or source)]))
    if data is not None:
        texts, origin = _local_texts(card, data, languages), ", ".join(data.split("\n"))
    else:
        texts, origin = _streamed_texts(card, languages, wanted, most)
    divided = {language: _divided(own, language, origin) for language, own in texts.items()}
    splits = {
        split: tuple(e for language in source for e in divided[language][split])
        for split in ("train", "dev")
    }
    measured = {
        split: tuple(e for language in targets or source for e in divided[language][split][:most])
        for split in ("dev", "test")
    }
    splits["test"] = measured["dev" if evaluate == "dev" else "test"]
    if evaluate == "both":
        splits["dev_targets"] = measured["dev"]
    return TaskData(splits, origin)


def _divided(texts: Sequence[str], language: str, origin: str) -> dict[str, list[Example]]:
    """Divide a language's texts into those that are learnt from and those that are held out.

    Raises:
        DataError: There are too few of them.
    """
    found: dict[str, list[Example]] = {"train": [], "dev": [], "test": []}
    for index, text in enumerate(texts):
        split = HELD_OUT.get(index % 10, "train")
        found[split].append(Example(str(index + 1), language, {"text": text}))
    if not all(found.values()):
        raise DataError(
            f"There are {len(texts)} texts in {language} ({origin}); of ten one is held out for "
            "choosing and one for measuring, so that ten or more are needed."
        )
    return found


def _local_texts(card: TaskCard, data: str, languages: Sequence[str]) -> dict[str, list[str]]:
    """Read the texts of some languages from files; a text counts once."""
    found: dict[str, dict[str, None]] = {language: {} for language in languages}
    there: set[str] = set()
    for path in text_files(data, card).values():
        for language, text in _rows(path, card, languages):
            there.add(language)
            if language in found and text.strip():
                found[language][" ".join(text.split())] = None
    if not there:
        raise DataError(f"{data.strip()} (data=…) holds no texts: it is empty.")
    check_languages([name for name in languages if name not in there], sorted(there), data)
    return {language: list(own) for language, own in found.items()}


def _rows(path: Path, card: TaskCard, languages: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Give the texts of a file with their languages."""
    if path.suffix.lower() == ".txt":
        language = _named(path, languages)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"Cannot read {path}: {error}. Expected UTF-8.") from error
        yield from ((language, line) for line in lines)
        return
    from polyprompt.data.tables import read_table

    frame = read_table(path)
    column, named = card.columns.fields["text"], card.columns.language or "language"
    if column not in frame.columns:
        raise DataError(
            f"{path} has no column '{column}'.{nearest(column, frame.columns)} It has: "
            f"{listing(frame.columns)}"
        )
    if named not in frame.columns:
        frame = frame.with_columns(pl.lit(_named(path, languages)).alias(named))
    chosen = frame.select(
        pl.col(named).cast(pl.String), pl.col(column).cast(pl.String)
    ).drop_nulls()
    yield from chosen.iter_rows()


def _named(path: Path, languages: Sequence[str]) -> str:
    """Read from a file's name which language its texts are in.

    Raises:
        DataError: It does not say.
    """
    if path.stem in catalogue() or path.stem in languages:
        return path.stem
    raise DataError(
        f"{path} does not say which language it is in. Name it LANGUAGE{path.suffix}, e.g. "
        f"{languages[0]}{path.suffix}; a table may have a column 'language' instead."
    )


def _streamed_texts(
    card: TaskCard, languages: Sequence[str], wanted: int | None, most: int | None
) -> tuple[dict[str, list[str]], str]:
    """Read the beginnings of languages' data sets on the Hub, no more than is needed."""
    if card.hub is None:
        raise DataError(
            f"The task '{card.name}' comes with no texts. Give files or a folder: data=PLACE"
        )
    if wanted is None:
        raise DataError(
            f"{card.hub.path} is read as a stream. Say how many texts of a language are learnt "
            "from, e.g. shots=10000."
        )
    needed = max(-(-wanted * 10 // 8), 10 * (most or 1), 10)
    found = {name: list(islice(_paragraphs(card, name), needed)) for name in languages}
    return found, f"{card.hub.path}, streamed"


def _paragraphs(card: TaskCard, language: str) -> Iterator[str]:
    """Give the paragraphs of a language's articles, one after the other; a text counts once."""
    from datasets import load_dataset

    from polyprompt.data.hub import config_of

    assert card.hub is not None
    hub, seen = card.hub, set()
    try:
        articles = load_dataset(
            hub.path,
            name=None if Path(hub.path).is_dir() else config_of(hub, language),
            data_dir=config_of(hub, language) if Path(hub.path).is_dir() else None,
            split=hub.splits.get("train", "train"),
            revision=hub.revision,
            streaming=True,
            token=os.environ.get("HF_TOKEN"),
        )
        for article in articles:
            for paragraph in str(article[card.columns.fields["text"]]).split("\n"):
                text = " ".join(paragraph.split())
                if len(text) >= LEAST_CHARACTERS and text not in seen:
                    seen.add(text)
                    yield text
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"Cannot read {hub.path} ({language}) from the Hub: {type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else ''} Check the network, or give files "
            "or a folder: data=PLACE"
        ) from error
