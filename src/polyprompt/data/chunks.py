"""Chunks of an input: what is tokenized as one text, or stands there as a frozen soft prompt."""

from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from polyprompt.tasks.layout import Layout
from polyprompt.tasks.segments import Given, Hard


@dataclass(frozen=True)
class Chunk:
    """Neighbouring segments that are tokenized as one text, or one frozen soft prompt.

    Attributes:
        run: Which hard run it is of.
        segments: In their order.
    """

    run: int
    segments: tuple[Hard, ...]

    @property
    def given(self) -> Given | None:
        """The frozen soft prompt, if it is one."""
        first = self.segments[0]
        return first if isinstance(first, Given) else None


@dataclass(frozen=True)
class ChunkPieces:
    """A chunk of an input, before anything is cut.

    Attributes:
        ids: Its pieces.
        owners: Which field each of them is of; -1 for fixed words.
        singles: Which of them hold one character or none.
        reads: Which of them are read one by one; None where the chunk has nothing of the kind.
        masks: Which of them are masks.
    """

    ids: NDArray[np.int64]
    owners: NDArray[np.int64]
    singles: NDArray[np.bool_]
    reads: NDArray[np.int64] | None
    masks: NDArray[np.int64]


def chunks_of(layout: Layout) -> tuple[Chunk, ...]:
    """Divide a layout's hard runs where a frozen soft prompt stands."""
    found = []
    for index, run in enumerate(layout.hard_runs()):
        for is_given, group in groupby(run, lambda segment: isinstance(segment, Given)):
            some = tuple(group)
            parts = [(one,) for one in some] if is_given else [some]
            found += [Chunk(index, part) for part in parts]
    return tuple(found)


def singles_of(offsets: NDArray[np.int64], text: str) -> NDArray[np.bool_]:
    """Say which pieces hold one character of a text or none, blanks not counted."""
    blank = np.concatenate([[0], np.cumsum([char.isspace() for char in text])])
    sizes = offsets[:, 1] - offsets[:, 0]
    return sizes - (blank[offsets[:, 1]] - blank[offsets[:, 0]]) <= 1


def owners_of(offsets: NDArray[np.int64], spans: list[tuple[int, int, int]]) -> NDArray[np.int64]:
    """Say for each piece which field it begins in; -1 for fixed words."""
    owner = np.full(len(offsets), -1, dtype=np.int64)
    ends = offsets[:, 1]
    for start, end, name in spans:
        owner[(ends > start) & (ends <= end)] = name
    return owner
