"""Reads a task's examples from shipped files, local tables or the Hub, and checks them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import polars as pl

from polyprompt.errors import DataError, listing, nearest
from polyprompt.languages.catalogue import catalogue, check_languages
from polyprompt.records import Example
from polyprompt.tasks.card import Columns, HubSource, TaskCard

LANGUAGE = "polyprompt_language"


@dataclass(frozen=True)
class TaskData:
    """The examples of a task.

    Attributes:
        splits: ``train``, ``dev`` and ``test``, the languages one after the other; where the dev
            split of the targets is answered beside their test split, ``dev_targets``.
        origin: Where they came from, for the record.
    """

    splits: dict[str, tuple[Example, ...]]
    origin: str

    def of(self, split: str, languages: Sequence[str]) -> tuple[Example, ...]:
        """Give a split's examples in some languages, in the data set's order."""
        wanted = set(languages)
        return tuple(e for e in self.splits.get(split, ()) if e.language in wanted)

    def languages(self, split: str) -> tuple[str, ...]:
        """Give a split's languages, in order of appearance."""
        return tuple(dict.fromkeys(e.language for e in self.splits.get(split, ())))


def read_task(
    card: TaskCard,
    data: str | None,
    source: Sequence[str],
    targets: Sequence[str] | None,
    evaluate: Literal["test", "dev", "both"] = "test",
) -> TaskData:
    """Read a task's splits: train and dev in the source languages, test in the targets.

    Args:
        card: The task.
        data: A folder with the card's local files; None for shipped data or the Hub.
        source: Languages the examples come from.
        targets: Languages to test; None for all there are.
        evaluate: Which split of the targets is answered; ``dev`` stands in the place of ``test``.

    Raises:
        ConfigError: A language that the data does not have.
        DataError: A file, column, label or text is not as the card says.
    """
    if data is not None or card.shipped is not None:
        frames, origin = _local_frames(card, data)
    elif card.hub is not None:
        frames, origin = _hub_frames(
            card.hub, source, targets or card.languages or tuple(catalogue()), evaluate
        )
    else:
        raise DataError(
            f"The task '{card.name}' comes with no data. Give the folder of its files: data=FOLDER"
        )
    wanted = {"train": source, "dev": source, "test": targets}
    splits: dict[str, tuple[Example, ...]] = {"dev": ()}
    for split, frame in frames.items():
        path = f"{origin}/{split}"
        splits[split] = _examples(frame, card, wanted[split], split, path)
    if evaluate != "test":
        if "dev" not in frames:
            raise DataError(
                f"The task '{card.name}' has no dev split, which evaluate={evaluate} answers. Set "
                "evaluate=test."
            )
        name = "test" if evaluate == "dev" else "dev_targets"
        splits[name] = _examples(frames["dev"], card, targets, "dev", f"{origin}/dev")
    return TaskData(splits, origin)


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
        DataError: There is no such folder.
    """
    if data is None:
        shipped = card.shipped.files if card.shipped else {}
        root = Path(str(resources.files("polyprompt.tasks")))
        return {split: root / name for split, name in shipped.items()}
    usual = {split: f"{split}.parquet" for split in ("train", "dev", "test")}
    files = card.local.files if card.local else usual
    folder = Path(data)
    if not folder.is_dir():
        raise DataError(
            f"There is no folder {folder} (data=…). It should hold: {', '.join(files.values())}"
        )
    return {split: folder / name for split, name in files.items()}


def read_table(path: Path) -> pl.DataFrame:
    """Read a parquet, CSV, TSV or JSON-lines table; every cell of a text table is a string.

    Raises:
        DataError: The file is missing, empty, broken or of another kind.
    """
    readers = {
        ".parquet": pl.read_parquet,
        ".csv": lambda p: pl.read_csv(p, infer_schema=False),
        ".tsv": lambda p: pl.read_csv(p, separator="\t", infer_schema=False, quote_char=None),
        ".jsonl": pl.read_ndjson,
        ".ndjson": pl.read_ndjson,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"Cannot read {path}: expected one of {', '.join(readers)}.")
    try:
        return reader(path)
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = "it is empty" if isinstance(error, pl.exceptions.NoDataError) else str(error)
        raise DataError(f"Cannot read {path}: {reason}. Expected a {path.suffix} table.") from error


def _hub_frames(
    hub: HubSource, source: Sequence[str], targets: Sequence[str], evaluate: str
) -> tuple[dict[str, pl.DataFrame], str]:
    """Read a data set from the Hub (or a local folder laid out like one) with ``datasets``."""
    from datasets import load_dataset

    of_dev = source if evaluate == "test" else tuple(dict.fromkeys([*source, *targets]))
    wanted = {"train": source, "dev": of_dev, "test": targets}
    frames = {}
    for split, languages in wanted.items():
        if split not in hub.splits:
            continue
        parts = []
        for language in languages:
            try:
                table = load_dataset(
                    hub.path,
                    name=hub.config.format(language=language),
                    split=hub.splits[split],
                    revision=hub.revision,
                    token=os.environ.get("HF_TOKEN"),
                )
            except Exception as error:
                raise DataError(
                    f"Cannot read {hub.path} ({language}, {split}) from the Hub: "
                    f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''} "
                    "Check the network, or give a folder of local files: data=FOLDER"
                ) from error
            frame = pl.from_arrow(table.data.table)
            assert isinstance(frame, pl.DataFrame)
            parts.append(frame.with_columns(pl.lit(language).alias("language")))
        frames[split] = pl.concat(parts, how="diagonal_relaxed")
    return frames, hub.path if hub.revision is None else f"{hub.path}@{hub.revision}"


def _examples(
    frame: pl.DataFrame, card: TaskCard, languages: Sequence[str] | None, split: str, where: str
) -> tuple[Example, ...]:
    """Turn a table into checked examples of the wanted languages."""
    columns = card.columns
    _check_columns(frame, columns, where)
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


def _check_columns(frame: pl.DataFrame, columns: Columns, where: str) -> None:
    """Refuse a table that lacks a column the card names."""
    needed = [columns.label, *columns.fields.values(), *([columns.id] if columns.id else [])]
    for name in needed:
        if name not in frame.columns:
            raise DataError(
                f"{where} has no column '{name}'.{nearest(name, frame.columns)} "
                f"It has: {listing(frame.columns)}"
            )


def rows_to_examples(frame: pl.DataFrame, card: TaskCard, where: str) -> tuple[Example, ...]:
    """Build examples from rows and check every label and text.

    Raises:
        DataError: An unknown label or an empty text; names the row.
    """
    named = card.columns.language
    column = named if named in frame.columns and named is not None else LANGUAGE
    return tuple(_example(row, card, row[column], where) for row in frame.iter_rows(named=True))


def _example(row: Mapping[str, Any], card: TaskCard, language: str, where: str) -> Example:
    """Check one row and make an example of it."""
    number = row["polyprompt_row"] + 1
    texts = {name: str(row[c] or "") for name, c in card.columns.fields.items()}
    for name, text in texts.items():
        if not text.strip():
            raise DataError(f"{where}, row {number}: the text '{name}' is empty.")
    label = str(row[card.columns.label])
    if label not in card.labels:
        raise DataError(
            f"{where}, row {number}: unknown label '{label}'."
            f"{nearest(label, card.labels)} The task's labels: {listing(card.labels)}"
        )
    identity = str(row[card.columns.id]) if card.columns.id else str(number)
    return Example(identity, language, texts, label)


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
