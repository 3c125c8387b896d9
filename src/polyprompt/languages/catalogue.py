"""The languages of SIB-200: names, scripts, families, places, and which corpora hold them."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

from polyprompt.errors import ConfigError, all_faults, listing, nearest


@dataclass(frozen=True)
class Corpus:
    """How much of a language a model saw in pre-training.

    Attributes:
        seen: None where it is not known.
        amount: In the corpus's own unit (``CORPUS_UNITS``); None where it is not published.
    """

    seen: bool | None
    amount: float | None


CORPUS_UNITS = {"bloom": "bytes", "xglm": "tokens", "xlmr": "GiB", "mt5": "billion tokens"}
_AMOUNT_COLUMNS = {
    "bloom": "bloom_bytes",
    "xglm": "xglm_tokens",
    "xlmr": "xlmr_gib",
    "mt5": "mt5_tokens_billions",
}


@dataclass(frozen=True)
class Language:
    """One language in one script.

    Attributes:
        code: SIB-200 (FLORES-200) code, e.g. ``swh_Latn``.
        iso639_1: Two-letter code of the language or its macrolanguage; empty where there is none.
        family: Top-level family; empty where unknown.
        branch: A node of the family tree between family and language; empty where unknown.
        latitude: Degrees north; None where unknown.
        longitude: Degrees east; None where unknown.
        corpora: By model family: ``bloom`` (ROOTS), ``xglm`` (CC-100 XL), ``xlmr`` (CC-100),
            ``mt5`` (mC4).
    """

    code: str
    iso639_3: str
    name: str
    script: str
    iso639_1: str
    family: str
    branch: str
    latitude: float | None
    longitude: float | None
    corpora: dict[str, Corpus]


@cache
def catalogue() -> dict[str, Language]:
    """Read the table of languages, by code."""
    path = resources.files("polyprompt.languages") / "data" / "languages.csv"
    with path.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return {row["code"]: _language(row) for row in rows}


def _language(row: dict[str, str]) -> Language:
    """Build a language from its row; an empty cell is an unknown."""
    return Language(
        code=row["code"],
        iso639_3=row["iso639_3"],
        name=row["name"],
        script=row["script"],
        iso639_1=row["iso639_1"],
        family=row["family"],
        branch=row["branch"],
        latitude=_number(row["latitude"]),
        longitude=_number(row["longitude"]),
        corpora={
            model: Corpus(
                seen=bool(int(row[f"{model}_seen"])) if row[f"{model}_seen"] else None,
                amount=_number(row[column]),
            )
            for model, column in _AMOUNT_COLUMNS.items()
        },
    )


def _number(cell: str) -> float | None:
    """Read a cell that may be empty."""
    return float(cell) if cell else None


def language_name(code: str) -> str:
    """Name a language; a code outside the catalogue names itself."""
    language = catalogue().get(code)
    return language.name if language else code


def script_of(code: str) -> str:
    """Give the ISO 15924 script in a SIB-200 code."""
    return code.partition("_")[2]


def check_languages(codes: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse languages that are not among those known.

    Args:
        codes: The languages asked for.
        known: The languages there are.
        where: What has these languages, for the message.

    Raises:
        ConfigError: All unknown codes at once, each with the nearest right one.
    """
    known = list(known)
    by_name = {catalogue()[code].name: code for code in known if code in catalogue()}
    faults = []
    for code in codes:
        if code in known:
            continue
        named = by_name.get(code)
        hint = f" Its code is '{named}'." if named else nearest(code, known)
        faults.append(f"there is no language '{code}' in {where}.{hint}")
    if faults:
        known_names = listing(known)
        raise ConfigError(
            all_faults("Languages", [f"{f} There are: {known_names}" for f in faults])
        )
