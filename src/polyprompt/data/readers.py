"""Reads a task's examples from shipped files, local tables or the Hub, and checks them."""

from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Literal

import polars as pl

from polyprompt.data.hub import hub_frames
from polyprompt.data.rows import LANGUAGE, check_columns, rows_to_examples
from polyprompt.data.splits import TaskData
from polyprompt.data.tables import read_table
from polyprompt.data.texts import read_texts, text_files
from polyprompt.errors import DataError, listing, nearest
from polyprompt.languages.catalogue import catalogue, check_languages
from polyprompt.records import Example
from polyprompt.tasks.card import TaskCard
from polyprompt.tasks.card_parts import HubSource


def read_task(
    card: TaskCard,
    data: str | None,
    source: Sequence[str],
    targets: Sequence[str] | None,
    evaluate: Literal["test", "dev", "both"] = "test",
    test_items: int | None = None,
    shots: int | None = None,
) -> TaskData:
    """Read a task's splits: train and dev in the source languages, test in the targets.

    Args:
        card: The task.
        data: A folder with the card's local files; None for shipped data or the Hub.
        source: Languages the examples come from.
        targets: Languages to test; None for all there are.
        evaluate: Which split of the targets is answered; ``dev`` stands in the place of ``test``.
        test_items: Most items of a language that are answered, at even distances; None for all.
        shots: How many texts of a language are learnt from, where a stream of texts is read.

    Raises:
        ConfigError: A language that the data does not have.
        DataError: A file, column, label or text is not as the card says.
    """
    if card.kind == "language":
        return read_texts(card, data, source, targets, test_items, shots, evaluate)
    frames, origin = _frames(card, data, source, targets, evaluate)
    wanted = {"train": source, "dev": source, "test": targets}
    paths = _paths(card, data, origin, frames)
    splits: dict[str, tuple[Example, ...]] = {"dev": ()}
    for split, frame in frames.items():
        splits[split] = _examples(frame, card, wanted[split], split, paths[split])
    if card.held_out:
        splits["test"] = _unseen(splits)
    if evaluate != "test":
        if "dev" not in frames:
            raise DataError(
                f"The task '{card.name}' has no dev split, which evaluate={evaluate} answers. Set "
                "evaluate=test."
            )
        name = "test" if evaluate == "dev" else "dev_targets"
        splits[name] = _examples(frames["dev"], card, targets, "dev", paths["dev"])
    if card.form == "answers":
        paths = dict(paths) | ({"test": paths["dev"]} if evaluate == "dev" else {})
        _keep_answered(splits, paths)
    if test_items is not None:
        answered = {name: splits[name] for name in ("test", "dev_targets") if name in splits}
        splits |= {
            name: _evenly(examples, test_items, parallel=card.parallel)
            for name, examples in answered.items()
        }
    return TaskData(splits, origin)


def _frames(
    card: TaskCard,
    data: str | None,
    source: Sequence[str],
    targets: Sequence[str] | None,
    evaluate: str,
) -> tuple[dict[str, pl.DataFrame], str]:
    """Read the splits' tables from a folder, what comes with the package, or the Hub."""
    if data is not None or card.shipped is not None:
        return _local_frames(card, data)
    if card.hub is None:
        raise DataError(
            f"The task '{card.name}' comes with no data. Give the folder of its files: data=FOLDER"
        )
    known = targets or card.languages or _languages_of(card.hub)
    return hub_frames(card.hub, source, known, evaluate)


def _paths(
    card: TaskCard, data: str | None, origin: str, splits: Iterable[str]
) -> Mapping[str, str]:
    """Name where each split was read, for messages; rows are counted in the split."""
    if data is None:
        return {split: f"{origin}/{split}" for split in splits}
    files = local_files(card, data)
    shared = len(set(files.values())) < len(files)
    return {
        split: f"{path} (split {split})" if shared else str(path) for split, path in files.items()
    }


def _keep_answered(splits: dict[str, tuple[Example, ...]], paths: Mapping[str, str]) -> None:
    """Leave out of train and dev what has no answer.

    Raises:
        DataError: Nothing is left to learn from, or a language has no answers to test on.
    """
    for split in ("train", "dev"):
        splits[split] = tuple(one for one in splits[split] if one.label is not None)
    bare = _without_answers(splits["test"]) or _without_answers(splits.get("dev_targets", ()))
    if bare or not splits["train"]:
        split = "test" if splits["train"] else "train"
        where = f" in {listing(bare)}" if split == "test" else ""
        raise DataError(
            f"{paths[split]}: the {split} split has no answers{where}: they are empty texts. Many "
            "test sets are published without them. Take the file that has them"
            + (", or leave these languages out (targets)." if split == "test" else ".")
        )


def _without_answers(examples: Sequence[Example]) -> list[str]:
    """Name the languages none of whose items has an answer."""
    tested = dict.fromkeys(example.language for example in examples)
    answered = {example.language for example in examples if example.label is not None}
    return [language for language in tested if language not in answered]


def _unseen(splits: Mapping[str, Sequence[Example]]) -> tuple[Example, ...]:
    """Leave out of the test what train and dev have, in whatever language.

    Raises:
        DataError: Nothing is left.
    """
    seen = {example.id for split in ("train", "dev") for example in splits.get(split, ())}
    left = tuple(example for example in splits["test"] if example.id not in seen)
    if not left:
        raise DataError("Nothing is left to test: train and dev have all items of the test split.")
    return left


def _evenly(examples: Sequence[Example], most: int, *, parallel: bool) -> tuple[Example, ...]:
    """Take at most so many items of each language, at even distances; in parallel sets the same."""
    of_language: dict[str, list[Example]] = {}
    for example in examples:
        of_language.setdefault(example.language, []).append(example)
    if parallel:
        first = next(iter(of_language.values()), [])
        common = set.intersection(*({e.id for e in rows} for rows in of_language.values()))
        chosen = {e.id for e in _spread([e for e in first if e.id in common], most)}
        return tuple(e for e in examples if e.id in chosen)
    return tuple(e for rows in of_language.values() for e in _spread(rows, most))


def _spread(rows: Sequence[Example], most: int) -> list[Example]:
    """Take at most so many of some items, at even distances."""
    count = min(most, len(rows))
    return [rows[index * len(rows) // count] for index in range(count)]


def _languages_of(hub: HubSource) -> tuple[str, ...]:
    """Name the languages of a data set that its card does not name."""
    return tuple(hub.codes) or tuple(catalogue())


def _local_frames(card: TaskCard, data: str | None) -> tuple[dict[str, pl.DataFrame], str]:
    """Read the files of a folder, or those that come with the package."""
    files = local_files(card, data)
    frames = {split: read_table(path) for split, path in files.items()}
    for split, frame in frames.items():
        if "split" in frame.columns and len(set(files.values())) < len(files):
            frames[split] = frame.filter(pl.col("split") == split)
    return frames, data or f"shipped with polyprompt ({card.name})"


def local_files(card: TaskCard, data: str | None) -> dict[str, Path]:
    """Name the file of each split: in a folder, or among those that come with the package.

    Raises:
        DataError: There is no such folder, or it lacks a file.
    """
    if card.kind == "language":
        return text_files(data, card)
    if data is None:
        shipped = card.shipped.files if card.shipped else {}
        root = Path(str(resources.files("polyprompt.tasks")))
        return {split: root / name for split, name in shipped.items()}
    usual = {split: f"{split}.parquet" for split in ("train", "dev", "test")}
    files = card.local.files if card.local else usual
    folder = Path(data)
    if not folder.is_dir():
        raise DataError(
            f"There is no folder {folder} (data=…). It should hold: "
            f"{', '.join(dict.fromkeys(files.values()))}"
        )
    missing = [name for name in dict.fromkeys(files.values()) if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"There is no file {folder / missing[0]} (data=…). The folder should hold: "
            f"{', '.join(dict.fromkeys(files.values()))}"
        )
    return {split: folder / name for split, name in files.items()}


def _examples(
    frame: pl.DataFrame, card: TaskCard, languages: Sequence[str] | None, split: str, where: str
) -> tuple[Example, ...]:
    """Turn a table into checked examples of the wanted languages."""
    columns = card.columns
    check_columns(frame, columns, where)
    frame = frame.with_row_index("polyprompt_row")
    if columns.language and columns.language in frame.columns:
        there = frame[columns.language].unique(maintain_order=True).to_list()
        if languages is not None:
            check_languages(languages, there, f"the {split} split of '{card.name}'")
            frame = frame.filter(pl.col(columns.language).is_in(list(languages)))
    elif languages is not None and len(languages) == 1:
        frame = frame.with_columns(pl.lit(languages[0]).alias(LANGUAGE))
    else:
        raise DataError(
            f"{where} has no column '{columns.language}' to tell the languages apart."
            f"{nearest(columns.language or 'language', frame.columns)} Name it in the card's "
            "columns.language, or name the one language there is with source= and targets=[…]."
        )
    return rows_to_examples(frame, card, where)


def read_columns(path: Path, text_column: str, label_column: str) -> tuple[list[str], list[str]]:
    """Read texts and labels from somebody's own table.

    Raises:
        DataError: The file or a column is missing, or the table has no rows.
    """
    frame = read_table(path)
    for option, name in (("--text-column", text_column), ("--label-column", label_column)):
        if name not in frame.columns:
            raise DataError(
                f"{path} has no column '{name}'.{nearest(name, frame.columns)} It has: "
                f"{listing(frame.columns)}. Name it with {option}."
            )
    texts = frame[text_column].cast(pl.String).fill_null("").to_list()
    labels = frame[label_column].cast(pl.String).fill_null("").to_list()
    if not texts:
        raise DataError(f"{path} has no rows.")
    return texts, labels
