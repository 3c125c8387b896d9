"""Reads a task's splits from the Hugging Face Hub, or from a local folder laid out like one."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from polyprompt.errors import DataError, nearest
from polyprompt.tasks.card_parts import HubSource


def hub_frames(
    hub: HubSource, source: Sequence[str], targets: Sequence[str], evaluate: str
) -> tuple[dict[str, pl.DataFrame], str]:
    """Read a data set's splits with the library ``datasets``.

    Returns:
        A table per split, the languages one after the other in a column ``language``; and where
        they come from.

    Raises:
        DataError: A part of it cannot be read, or a language has no code.
    """
    of_dev = source if evaluate == "test" else tuple(dict.fromkeys([*source, *targets]))
    wanted = {"train": source, "dev": of_dev, "test": targets}
    frames = {}
    for split, languages in wanted.items():
        places = {name: _place(hub, name, split, source) for name in languages}
        parts = [_frame(place, name, split) for name, place in places.items() if place]
        if parts:
            frames[split] = pl.concat(parts, how="diagonal_relaxed")
    return frames, hub.path if hub.revision is None else f"{hub.path}@{hub.revision}"


def _place(hub: HubSource, language: str, split: str, source: Sequence[str]) -> HubSource | None:
    """Give the data set that has a split of a language; None if there is none."""
    of_source = hub.source is not None and split != "test" and language in source
    place = hub.source if of_source else hub
    return place if place is not None and split in place.splits else None


def _frame(hub: HubSource, language: str, split: str) -> pl.DataFrame:
    """Read one split of one language."""
    from datasets import load_dataset

    # the library's cache takes a local folder for another one of the same name
    is_local = Path(hub.path).is_dir()
    try:
        table = load_dataset(
            hub.path,
            name=config_of(hub, language),
            split=hub.splits[split],
            revision=hub.revision,
            download_mode="force_redownload" if is_local else None,
            verification_mode="no_checks" if is_local else None,
            token=os.environ.get("HF_TOKEN"),
        )
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"Cannot read {hub.path} ({language}, {split}) from the Hub: "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''} "
            "Check the network, or give a folder of local files: data=FOLDER"
        ) from error
    frame = pl.from_arrow(table.data.table)
    assert isinstance(frame, pl.DataFrame)
    frame = _with_names(frame, table.features).rename(hub.columns, strict=False)
    if hub.ids_begin:
        begin = hub.ids_begin.format(language=code_of(hub, language))
        frame = frame.filter(pl.col("id").str.starts_with(begin))
    if "id" not in frame.columns:  # in parallel sets a row is the same item in every language
        frame = frame.with_row_index("id")
    return frame.with_columns(pl.lit(language).alias("language"))


def config_of(hub: HubSource, language: str) -> str:
    """Name the configuration that a language's split is in."""
    return hub.config.format(language=code_of(hub, language))


def code_of(hub: HubSource, language: str) -> str:
    """Give the code that a data set has for a language.

    Raises:
        DataError: It does not have the language.
    """
    if hub.codes and language not in hub.codes:
        raise DataError(
            f"{hub.path} has no language '{language}'.{nearest(language, hub.codes)} It has: "
            f"{', '.join(hub.codes)}"
        )
    return hub.codes.get(language, language)


def _with_names(frame: pl.DataFrame, features: Any) -> pl.DataFrame:
    """Put the names of classes in the place of their numbers, in columns and in lists."""
    for column, feature in features.items():
        inner = getattr(feature, "feature", feature)
        names = getattr(inner, "names", None)
        if names is None or column not in frame.columns:
            continue
        known = dict(enumerate(names))
        to_names = pl.element() if inner is not feature else pl.col(column)
        named = to_names.replace_strict(known, default=None, return_dtype=pl.String)
        whole = named if inner is feature else pl.col(column).list.eval(named)
        frame = frame.with_columns(whole.alias(column))
    return frame
