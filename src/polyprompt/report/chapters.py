"""What a report is made of: chapters of words, tables and figures, before they are written."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Int

from polyprompt.report.figure import Figure
from polyprompt.report.score_tables import Table


@dataclass(frozen=True)
class Words:
    """A paragraph.

    Attributes:
        text: Plain text; escaped.
        kind: ``text``, ``headline`` or ``warning``.
    """

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Notes:
    """A list of remarks."""

    items: Sequence[str]


@dataclass(frozen=True)
class Listing:
    """Text that is shown letter by letter, such as settings.

    Attributes:
        title: Its name.
        text: As it is.
        opened: Whether it is shown at first.
    """

    title: str
    text: str
    opened: bool = False


@dataclass(frozen=True)
class Confusion:
    """Answers by label, for any language that the reader chooses.

    Attributes:
        title: What is counted.
        labels: Of the rows; the columns have one more for answers that are none of them.
        counts: By the name of a language or group; the first is shown.
    """

    title: str
    labels: Sequence[str]
    counts: Mapping[str, Int[np.ndarray, "C C+1"]]


Block = Words | Notes | Listing | Confusion | Table | Figure


@dataclass(frozen=True)
class Chapter:
    """A part of the page.

    Attributes:
        title: Its heading.
        blocks: In order.
        chapters: Below it.
        folded: Whether it begins closed.
        optional: Whether its figures may be left out of a page that grows too large.
    """

    title: str
    blocks: Sequence[Block]
    chapters: Sequence["Chapter"] = field(default=())
    folded: bool = False
    optional: bool = False


def _named(chapters: Sequence[Chapter], above: str = "") -> Iterator[tuple[str, Block]]:
    """Give all blocks of chapters and of those below them, with the titles they stand under."""
    for chapter in chapters:
        title = f"{above} / {chapter.title}" if above else chapter.title
        for block in chapter.blocks:
            yield title, block
        yield from _named(chapter.chapters, title)


def named_figures(chapters: Sequence[Chapter]) -> list[tuple[str, Figure]]:
    """Collect figures with the titles of the chapters they stand in."""
    return [(title, one) for title, one in _named(chapters) if isinstance(one, Figure)]


def named_tables(chapters: Sequence[Chapter]) -> list[tuple[str, Table]]:
    """Collect tables with the titles of the chapters they stand in."""
    return [(title, one) for title, one in _named(chapters) if isinstance(one, Table)]


def figures_of(chapters: Sequence[Chapter]) -> list[Figure]:
    """Collect figures."""
    return [figure for _, figure in named_figures(chapters)]


def tables_of(chapters: Sequence[Chapter]) -> list[Table]:
    """Collect tables."""
    return [table for _, table in named_tables(chapters)]


def lightened(chapters: Sequence[Chapter], characters: int) -> list[Chapter]:
    """Leave figures of optional chapters out, from the one on that makes them too large.

    Args:
        chapters: Of a page, or below one of its chapters.
        characters: Of all figures of optional chapters that may stay.
    """
    found, left = [], characters
    for chapter in chapters:
        if chapter.optional:
            left -= sum(len(figure.svg) for figure in figures_of([chapter]))
            found.append(chapter if left >= 0 else _light(chapter))
        else:
            found.append(replace(chapter, chapters=lightened(chapter.chapters, left)))
    return found


def _light(chapter: Chapter) -> Chapter:
    """Leave a chapter's figures out, and say so."""
    bare = _bare(chapter)
    words = Words(
        "The figures of this setting are left out, so that the page does not grow too large to "
        "open. 'polyprompt report STUDY --figures svg' writes the figures of all settings."
    )
    return replace(bare, blocks=(*bare.blocks, words))


def _bare(chapter: Chapter) -> Chapter:
    """Leave the figures of a chapter and of those below it out."""
    kept = [block for block in chapter.blocks if not isinstance(block, Figure)]
    return replace(chapter, blocks=kept, chapters=[_bare(one) for one in chapter.chapters])
