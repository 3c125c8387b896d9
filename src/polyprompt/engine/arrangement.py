"""Lays an encoded example and a run's soft tokens out as one sequence of codes.

A code of 0 or more is a token id; code -1 - i is the i-th soft token of the run, slots one after
the other. What no trained part can reach is frozen: under one-way attention all words, under
causal attention the words before the first slot, under full attention nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyprompt.capabilities import Attention
from polyprompt.data.encoding import Encoded


@dataclass(frozen=True)
class Arranged:
    """One input as the engine sees it.

    Attributes:
        codes: Token ids and soft tokens, in the order of the input.
        frozen: Which of them can be computed once.
    """

    codes: NDArray[np.int64]
    frozen: NDArray[np.bool_]

    def part(self, *, frozen: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give the codes and positions of the frozen or of the live tokens."""
        where = np.flatnonzero(self.frozen if frozen else ~self.frozen)
        return self.codes[where], where


def arrange(encoded: Encoded, lengths: Sequence[int], attention: Attention) -> Arranged:
    """Lay one input out.

    Args:
        encoded: Hard runs of the example.
        lengths: Soft tokens of each slot, in the layout's order; empty for the bare text.
        attention: Decides what is frozen.
    """
    pieces = [encoded.hard[0]]
    at = 0
    for index, run in enumerate(encoded.hard[1:]):
        length = lengths[index] if lengths else 0
        pieces += [-1 - np.arange(at, at + length), run]
        at += length
    codes = np.concatenate(pieces)
    if attention is Attention.ONE_WAY:
        frozen = codes >= 0
    elif attention is Attention.CAUSAL:
        frozen = np.arange(len(codes)) < len(encoded.hard[0])
    else:
        frozen = np.zeros(len(codes), dtype=bool)
    return Arranged(codes, frozen)


def shift_codes(codes: NDArray[np.int64], start: int) -> NDArray[np.int64]:
    """Renumber a run's soft tokens for a table in which they begin at row ``start``."""
    return np.where(codes < 0, codes - start, codes)
