"""Entities in sequences of IOB2 tags, malformed ones included, as seqeval reads them by default.

Source: Ramshaw and Marcus (1995) and Tjong Kim Sang and Veenstra (1999) for the tags; for what is
malformed the behaviour of seqeval 1.2 (and of the conlleval script before it): an I- tag that
follows nothing of its type begins an entity.
"""

from collections.abc import Sequence
from itertools import pairwise

Entity = tuple[str, int, int]


def entities(tags: Sequence[str]) -> set[Entity]:
    """Find the entities of a sentence.

    Args:
        tags: ``O``, or ``B-`` or ``I-`` with a type; a tag without a type has its own name as one.

    Returns:
        Types with the first and last word.
    """
    found: set[Entity] = set()
    begin = 0
    split = [("O", ""), *map(_split, tags), ("O", "")]
    for index, ((before, old), (mark, kind)) in enumerate(pairwise(split)):
        if _ends(before, old, mark, kind):
            found.add((old, begin, index - 1))
        if _begins(before, old, mark, kind):
            begin = index
    return found


def _split(tag: str) -> tuple[str, str]:
    """Split a tag into its mark and its type."""
    mark, _, kind = tag.partition("-")
    return mark, kind or "_"


def _ends(before: str, old: str, mark: str, kind: str) -> bool:
    """Say whether an entity ends in front of a tag."""
    return before != "O" and (mark in {"B", "O"} or old != kind)


def _begins(before: str, old: str, mark: str, kind: str) -> bool:
    """Say whether an entity begins with a tag."""
    return mark != "O" and (mark == "B" or before == "O" or old != kind)
