"""What is known of languages that may explain how well a prompt transfers to them.

A fact that is not known stays missing (NaN), and whoever uses it says how many were left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float
from numpy.typing import NDArray

from polyprompt.languages.catalogue import Corpus, catalogue
from polyprompt.languages.distance import (
    FEW_FEATURES,
    KINDS,
    PREDICTED_KINDS,
    Distance,
    Origin,
    distance,
    same_script,
)

TITLES = {
    "syntactic": "syntactic distance",
    "geographic": "geographic distance",
    "inventory": "inventory distance",
    "genetic": "genetic distance",
    "phonological": "phonological distance",
    "featural": "featural distance",
    "other_script": "another script",
    "log_corpus": "corpus size (log10)",
    "corpus": "corpus size",
    "tokens": "tokens per sentence, relative to the source",
    "fertility": "pieces per word (fertility)",
    "pieces": "pieces per item",
    "characters_per_piece": "characters per piece",
    "singles": "share of pieces of one character",
}
"""How tables name the facts."""


@dataclass(frozen=True)
class Facts:
    """Facts of languages, seen from one or several source languages.

    Attributes:
        languages: SIB-200 codes.
        families: Top-level families; empty where unknown.
        values: By name, as ``TITLES`` has them, one number per language.
        seen: 1 where the backbone's corpus has the language, 0 where not, NaN where unknown.
        stand_ins: Languages for which another code's features were taken.
        few: Per distance, languages whose value rests on fewer than ``FEW_FEATURES`` features.
    """

    languages: tuple[str, ...]
    families: tuple[str, ...]
    values: dict[str, Float[np.ndarray, " L"]]
    seen: Float[np.ndarray, " L"]
    stand_ins: tuple[str, ...]
    few: dict[str, int]

    @property
    def distances(self) -> dict[str, Float[np.ndarray, " L"]]:
        """The six distances."""
        return {kind: self.values[kind] for kind in KINDS}


def language_facts(
    languages: Sequence[str],
    sources: Sequence[str],
    corpus: str | None = None,
    tokens: Float[np.ndarray, " L"] | None = None,
    origin: Origin = "attested",
) -> Facts:
    """Collect the facts of languages.

    Args:
        languages: SIB-200 codes.
        sources: Of several the nearest counts, for each distance on its own.
        corpus: One of ``CORPUS_UNITS``; None where the backbone's corpus is not known.
        tokens: Mean tokens of a sentence in each language, relative to the source's.
        origin: Of the features; kinds that are never predicted take the attested ones.
    """
    values, stand_ins, few = _distances(languages, sources, origin)
    other = [0.0 if any(same_script(s, c) for s in sources) else 1.0 for c in languages]
    values["other_script"] = np.array(other)
    held = [_held(code, corpus) for code in languages]
    amounts, seen = _numbers([own.amount for own in held]), _numbers([own.seen for own in held])
    values["corpus"] = amounts
    with np.errstate(divide="ignore", invalid="ignore"):
        values["log_corpus"] = np.where(amounts > 0, np.log10(amounts), np.nan)
    if tokens is not None:
        values["tokens"] = tokens
    known = catalogue()
    families = tuple(known[code].family if code in known else "" for code in languages)
    return Facts(tuple(languages), families, values, seen, stand_ins, few)


def _numbers(values: Sequence[float | None]) -> Float[np.ndarray, " L"]:
    """Write numbers, NaN where one is missing."""
    return np.array([np.nan if value is None else float(value) for value in values], dtype=float)


def _held(code: str, corpus: str | None) -> Corpus:
    """Say how much of a language a corpus has."""
    language = catalogue().get(code)
    return language.corpora[corpus] if language and corpus else Corpus(None, None)


def _distances(
    languages: Sequence[str], sources: Sequence[str], origin: Origin
) -> tuple[dict[str, NDArray[np.float64]], tuple[str, ...], dict[str, int]]:
    """Look all distances up; the nearest source counts."""
    values, stand_ins, few = {}, dict[str, None](), {}
    for kind in KINDS:
        own: Origin = origin if kind in PREDICTED_KINDS else "attested"
        column = [_nearest(code, sources, kind, own) for code in languages]
        values[kind] = _numbers([d.value for d in column])
        shared = _numbers([d.shared for d in column if d.value is not None])
        few[kind] = int((shared < FEW_FEATURES).sum())
        pairs = zip(languages, column, strict=True)
        stand_ins |= dict.fromkeys(code for code, d in pairs if d.stand_in)
    return values, tuple(stand_ins), few


def _nearest(code: str, sources: Sequence[str], kind: str, origin: Origin) -> Distance:
    """Give a language's distance to the nearest of several sources."""
    there = [distance(source, code, kind, origin) for source in sources]
    known = [one for one in there if one.value is not None]
    return min(known, key=lambda one: one.value or 0.0) if known else Distance(None, None)


def relative_tokens(
    predictions: pl.DataFrame, languages: Sequence[str], sources: Sequence[str]
) -> Float[np.ndarray, " L"] | None:
    """Measure how many tokens the backbone's tokenizer makes of a sentence, beside the source's.

    Args:
        predictions: Of parallel items, so that the sentences are the same.
        languages: In the order wanted.
        sources: Their mean is 1.

    Returns:
        None where no source language was tested.
    """
    first = predictions.filter(pl.col("baseline").is_null())
    means = first.group_by("language").agg(pl.col("tokens").mean())
    known = dict(means.iter_rows())
    of_sources = [known[code] for code in sources if code in known]
    if not of_sources:
        return None
    base = float(np.mean(of_sources))
    return np.array([known.get(code, np.nan) for code in languages], dtype=float) / base


def in_group(code: str, names: Sequence[str]) -> bool:
    """Say whether a language, its family, branch or script is among some names."""
    language = catalogue().get(code)
    if language is None:
        return code in names
    return bool({code, language.family, language.branch, language.script}.intersection(names))
