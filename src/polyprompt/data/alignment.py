"""At which piece each word of a sentence is read, where words are tagged one by one."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray


def read_places(
    words: Sequence[str],
    start: int,
    offsets: NDArray[np.int64],
    blank: NDArray[np.bool_],
    piece: Literal["first", "last"],
) -> NDArray[np.int64]:
    """Find the piece that each word is read at.

    A word's pieces are those that hold some of its characters; pieces that hold nothing but a
    blank count only where it has no other. A word without any – an empty one, or one of characters
    that the tokenizer leaves out – is read where the next word is, the last ones where the last
    word before them is.

    Args:
        words: They stand in the text with one space between them.
        start: Where the first begins.
        offsets: Where each piece of the text begins and ends, in characters, N × 2.
        blank: Which pieces hold a blank alone.
        piece: Which of a word's pieces.

    Returns:
        An index of a piece per word; -1 for all of them if the text has no piece.
    """
    lengths = np.array([len(word) for word in words], dtype=np.int64)
    begins = start + np.concatenate([[0], np.cumsum(lengths + 1)[:-1]])
    ends = begins + lengths
    inked = _overlapping(begins, ends, offsets, np.flatnonzero(~blank), piece)
    every = _overlapping(begins, ends, offsets, np.arange(len(offsets)), piece)
    found = np.where(inked >= 0, inked, every)
    return _filled(found, begins, offsets)


def _overlapping(
    begins: NDArray[np.int64],
    ends: NDArray[np.int64],
    offsets: NDArray[np.int64],
    chosen: NDArray[np.int64],
    piece: Literal["first", "last"],
) -> NDArray[np.int64]:
    """Find the first or last of the chosen pieces that shares a character with each span; or -1."""
    chosen = chosen[offsets[chosen, 1] > offsets[chosen, 0]]
    if not len(chosen):
        return np.full(len(begins), -1, dtype=np.int64)
    # pieces come in the order of the text; the two lines hold for those that overlap, too
    starts = np.minimum.accumulate(offsets[chosen, 0][::-1])[::-1]
    stops = np.maximum.accumulate(offsets[chosen, 1])
    first = np.searchsorted(stops, begins, side="right")
    last = np.searchsorted(starts, ends, side="left") - 1
    has = (first <= last) & (ends > begins)
    place = np.clip(first if piece == "first" else last, 0, len(chosen) - 1)
    return np.where(has, chosen[place], -1)


def _filled(
    found: NDArray[np.int64], begins: NDArray[np.int64], offsets: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Give words without a piece that of the next word that has one, or of the last before."""
    known = np.flatnonzero(found >= 0)
    if not len(known):  # nothing but words without pieces: the nearest piece, if there is any
        nearest = np.searchsorted(offsets[:, 1], begins, side="right")
        return np.minimum(nearest, len(offsets) - 1)
    following = np.searchsorted(known, np.arange(len(found)), side="left")
    return found[known[np.minimum(following, len(known) - 1)]]
