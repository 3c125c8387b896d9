"""How far languages are from one another: six distances of URIEL, and whether scripts differ.

The table is made by ``scripts/build_distances.py``; a value that no feature supports is missing.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import polars as pl

from polyprompt.errors import ConfigError, nearest
from polyprompt.languages.catalogue import catalogue, script_of

KINDS = ("syntactic", "geographic", "inventory", "genetic", "phonological", "featural")
"""The six distances, as Philippy et al. (2024), appendix B, list them."""
PREDICTED_KINDS = ("syntactic", "inventory", "phonological", "featural")
"""Kinds that also exist over features completed from related and neighbouring languages."""
FEW_FEATURES = 20
"""A distance that rests on fewer shared features says little."""

Origin = Literal["attested", "predicted"]
_MISSING, _SCALE = 65535, 10_000


@dataclass(frozen=True)
class Distance:
    """A distance between two languages.

    Attributes:
        value: 0 (alike) to 1; None where no feature is known for both.
        shared: Features known for both; None for predicted ones, which are complete.
        stand_in: Codes whose features stand in for a language that has none of its own.
    """

    value: float | None
    shared: int | None
    stand_in: tuple[str, ...] = ()


def distance(first: str, second: str, kind: str, origin: Origin = "attested") -> Distance:
    """Look a distance up.

    Args:
        first: SIB-200 code, e.g. ``swh_Latn``.
        second: Another, or the same, whose distance is 0.
        kind: One of ``KINDS``.
        origin: Over ``attested`` features, or over those that were ``predicted`` where unknown.

    Raises:
        ConfigError: There is no such kind, or it is not predicted.
    """
    _check(kind, origin)
    pair = sorted(_iso(code) for code in (first, second))
    if pair[0] == pair[1]:
        return Distance(0.0, None)
    row = _table().get((pair[0], pair[1]))
    if row is None:
        return Distance(None, 0 if origin == "attested" else None)
    number = row[kind if origin == "attested" else f"{kind}_predicted"]
    value = None if number == _MISSING else number / _SCALE
    if origin == "predicted":
        return Distance(value, None)
    instead = _stand_ins()
    stand_in = tuple(instead[code, kind] for code in pair if (code, kind) in instead)
    return Distance(value, row[f"{kind}_shared"], stand_in)


def same_script(first: str, second: str) -> bool:
    """Say whether two SIB-200 codes name the same script."""
    return script_of(first) == script_of(second)


def _check(kind: str, origin: Origin) -> None:
    """Refuse a kind of distance that there is not."""
    if kind not in KINDS:
        raise ConfigError(f"There is no distance '{kind}'.{nearest(kind, KINDS)}")
    if origin == "predicted" and kind not in PREDICTED_KINDS:
        raise ConfigError(f"The {kind} distance is known for all languages; nothing is predicted.")


def _iso(code: str) -> str:
    """Give the ISO 639-3 code of a SIB-200 code."""
    known = catalogue().get(code)
    return known.iso639_3 if known else code.partition("_")[0]


@cache
def _table() -> dict[tuple[str, str], dict[str, int]]:
    """Read all pairs; their codes are in alphabetical order."""
    path = resources.files("polyprompt.languages") / "data" / "distances.parquet"
    with resources.as_file(path) as file:
        frame = pl.read_parquet(file)
    return {(row["first"], row["second"]): row for row in frame.iter_rows(named=True)}


@cache
def _stand_ins() -> dict[tuple[str, str], str]:
    """Read whose features stand in for a language, by language and kind."""
    path = resources.files("polyprompt.languages") / "data" / "distance_stand_ins.csv"
    with path.open(encoding="utf-8") as stream:
        return {(r["iso639_3"], r["kind"]): r["stand_in"] for r in csv.DictReader(stream)}
