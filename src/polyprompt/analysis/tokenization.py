"""How finely a tokenizer cuts languages, from the columns that predictions carry.

Axes: L languages.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from jaxtyping import Float

from polyprompt.analysis.facts import Facts, relative_tokens
from polyprompt.languages.catalogue import script_of

WITHOUT_SPACES = frozenset({"Hans", "Hant", "Jpan", "Thai", "Laoo", "Khmr", "Mymr", "Tibt"})
"""Scripts that put no spaces between words, so that white space tells nothing of words."""

MEASURES = ("fertility", "pieces", "characters_per_piece", "singles")
"""Names of what is measured, as ``facts.TITLES`` has them."""


def granularity(
    predictions: pl.DataFrame, languages: Sequence[str]
) -> dict[str, Float[np.ndarray, " L"]]:
    """Measure how a tokenizer cuts the test items of each language.

    Args:
        predictions: Columns baseline, language, run, metric where words are tagged, pieces, words,
            characters, singles.
        languages: In the order wanted.

    Returns:
        ``fertility``, pieces per word (words of the data set where they are tagged, else between
        spaces: not a number for scripts without them); ``pieces`` per item, which compares
        languages where items are parallel; ``characters_per_piece``; ``singles``, the share of
        pieces that hold one character or none. Nothing for predictions without these columns.
    """
    if "pieces" not in predictions.columns:
        return {}
    first = predictions.filter(
        pl.col("baseline").is_null(), pl.col("run") == predictions["run"][0]
    ).drop_nulls("pieces")
    names = ("pieces", "words", "characters", "singles")
    sums = first.group_by("language").agg(
        pl.len().alias("items"), *(pl.col(n).sum() for n in names)
    )
    known = {str(row["language"]): row for row in sums.iter_rows(named=True)}
    tagged = "metric" in predictions.columns
    nothing = dict.fromkeys((*names, "items"), 0)
    rows = [known.get(code, nothing) for code in languages]
    spaced = [tagged or script_of(code) not in WITHOUT_SPACES for code in languages]
    per_word = [row["words"] if has else 0 for row, has in zip(rows, spaced, strict=True)]
    pieces = _numbers([row["pieces"] for row in rows])
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {
            "fertility": pieces / _numbers(per_word),
            "pieces": pieces / _numbers([row["items"] for row in rows]),
            "characters_per_piece": _numbers([row["characters"] for row in rows]) / pieces,
            "singles": _numbers([row["singles"] for row in rows]) / pieces,
        }
    return {name: np.where(np.isfinite(own), own, np.nan) for name, own in found.items()}


def as_cut(facts: Facts, predictions: pl.DataFrame, sources: Sequence[str]) -> Facts:
    """Give facts with what is known of texts as a setting's tokenizer cuts them.

    Args:
        facts: Of languages, as some setting's tokenizer cuts their texts.
        predictions: Of the setting, which may cut them otherwise.
        sources: Whose tokens others are compared with.
    """
    own = granularity(predictions, facts.languages)
    tokens = relative_tokens(predictions, facts.languages, sources)
    if tokens is not None:
        own["tokens"] = tokens
    known = {name: values for name, values in own.items() if name in facts.values}
    return replace(facts, values={**facts.values, **known})


def are_cut_alike(first: pl.DataFrame, second: pl.DataFrame, languages: Sequence[str]) -> bool:
    """Say whether two settings' test items are cut into the same pieces."""
    one, other = (granularity(predictions, languages) for predictions in (first, second))
    return all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)


def _numbers(values: Sequence[int]) -> Float[np.ndarray, " L"]:
    """Write counts as numbers."""
    return np.asarray(values, dtype=float)
