"""Numbers that papers print, and how a study's compare with them.

``philippy2024.table4``: accuracies of Philippy et al. (2024), Table 4, 8 shots, mean and standard
deviation of 4 runs; made by ``scripts/build_paper_tables.py``.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from polyprompt.analysis.correlation import Correlation, correlate
from polyprompt.errors import ConfigError, nearest
from polyprompt.languages.catalogue import catalogue

REFERENCES = {"philippy2024.table4": "philippy2024_table4.csv"}
"""Files by name."""

Column = dict[str, tuple[float, float]]
"""Accuracy and its standard deviation over runs (0–1), by language."""


@dataclass(frozen=True)
class Comparison:
    """A setting beside a printed column, over the languages that both have.

    Attributes:
        setting: Ours.
        column: Theirs.
        languages: In both.
        ours: Mean accuracy.
        theirs: Mean accuracy.
        pearson: Of the accuracies over languages.
        spearman: The same by ranks.
        differences: Ours minus theirs, by language.
    """

    setting: str
    column: str
    languages: int
    ours: float
    theirs: float
    pearson: Correlation
    spearman: Correlation
    differences: dict[str, float]


@cache
def reference(name: str) -> dict[str, Column]:
    """Read a printed table, column by column.

    Raises:
        ConfigError: There is no such table.
    """
    if name not in REFERENCES:
        raise ConfigError(
            f"There is no table '{name}'.{nearest(name, REFERENCES)} There are: "
            f"{', '.join(REFERENCES)}."
        )
    path = resources.files("polyprompt.analysis") / "data" / REFERENCES[name]
    table: dict[str, Column] = {}
    with path.open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            own = table.setdefault(row["column"], {})
            own[row["language"]] = float(row["accuracy"]), float(row["deviation"])
    return table


def columns(name: str, column: str = "") -> dict[str, Column]:
    """Give one column of a printed table, or all.

    Raises:
        ConfigError: There is no such table or column.
    """
    table = reference(name)
    if column and column not in table:
        raise ConfigError(
            f"{name} has no column '{column}'.{nearest(column, table)} It has: {', '.join(table)}."
        )
    return {column: table[column]} if column else table


def compare(setting: str, ours: Mapping[str, float], column: str, theirs: Column) -> Comparison:
    """Set a setting beside a printed column.

    Args:
        setting: Name of ours.
        ours: Accuracies (0–1) by language.
        column: Name of theirs.
        theirs: Their accuracies.
    """
    both = [code for code in ours if code in theirs]
    own = np.array([ours[code] for code in both])
    other = np.array([theirs[code][0] for code in both])
    known = catalogue()
    families = [known[code].family if code in known else "" for code in both]
    return Comparison(
        setting,
        column,
        len(both),
        float(own.mean()) if both else float("nan"),
        float(other.mean()) if both else float("nan"),
        correlate(other, own, families),
        correlate(other, own, families, "spearman"),
        dict(zip(both, (own - other).tolist(), strict=True)),
    )
