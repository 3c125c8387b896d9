"""Lays an encoded example and a run's soft tokens out as one sequence of codes.

A code of 0 or more is a token id; code -1 - i is the i-th soft token of the run, slots one after
the other. What no trained part can reach is frozen: under one-way attention all words but masks,
under causal attention the words before the first slot, under full attention nothing. Of an encoder
with a decoder, frozen is what stands in the encoder; where trained prompts do, engines compute it
with each step. The places of a deep prompt are no codes: those of a prefix stand before position
``Shape.prefix``, those of a suffix between the frozen tokens and the others.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from polyprompt.data.encoded import Encoded
from polyprompt.families import Attention

Tails = tuple[tuple[int, ...], ...]
_NO_READS = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Shape:
    """How a run lays its inputs out.

    Attributes:
        lengths: Soft tokens of each slot, in the layout's order; empty for the bare text.
        prefix: Places of deep prompts in front of the input.
        suffix: Places of deep prompts behind its frozen tokens.
        end: Position at which the frozen tokens end, whatever their number; None lets them begin
            at the first. With it trained keys stand as far from what they are read by in a short
            text as in a long one.
    """

    lengths: tuple[int, ...] = ()
    prefix: int = 0
    suffix: int = 0
    end: int | None = None


@dataclass(frozen=True)
class Arranged:
    """One input as the engine sees it.

    Attributes:
        codes: Token ids and soft tokens, in the order of the input.
        positions: Theirs in the whole input.
        frozen: Which of them are computed once.
        live: Which of them a trained part may reach; they see a suffix.
        suffix_at: Position of the first place of a suffix.
        reads: Tokens whose states are wanted one by one, as indices of ``codes``.
        tails: Continuations of this input alone.
        apart: Whether the others stand in a decoder, where places are counted anew.
    """

    codes: NDArray[np.int64]
    positions: NDArray[np.int64]
    frozen: NDArray[np.bool_]
    live: NDArray[np.bool_]
    suffix_at: int = 0
    reads: NDArray[np.int64] = field(default_factory=_NO_READS.copy)
    tails: Tails = ()
    apart: bool = False

    def part(self, *, frozen: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give the codes and positions of the frozen or of the live tokens."""
        chosen = self.frozen if frozen else ~self.frozen
        return self.codes[chosen], self.positions[chosen]

    @property
    def end(self) -> int:
        """Position of what follows the input."""
        if self.apart:
            return int((~self.frozen).sum())
        return int(self.positions.max(initial=self.suffix_at - 1)) + 1


def arrange(encoded: Encoded, shape: Shape, attention: Attention) -> Arranged:
    """Lay one input out.

    Args:
        encoded: Hard runs of the example.
        shape: Of the run.
        attention: Decides what is frozen.
    """
    if attention is Attention.ENCODER_DECODER:
        return _beside_decoder(encoded, shape)
    codes = np.concatenate(_in_order(encoded, shape))
    hard = np.flatnonzero(codes >= 0)
    frozen = np.zeros(len(codes), dtype=bool)
    if attention is Attention.ONE_WAY:
        frozen[hard] = True
        frozen[hard[encoded.masks]] = False
    elif attention is Attention.CAUSAL:
        frozen[: len(encoded.hard[0])] = True
    kept = int(frozen.sum())
    start = shape.prefix if shape.end is None else shape.end - kept
    positions = start + np.arange(len(codes)) + np.where(frozen, 0, shape.suffix)
    return Arranged(
        codes=codes,
        positions=positions,
        frozen=frozen,
        live=~frozen,
        suffix_at=start + kept,
        reads=hard[encoded.reads[encoded.reads >= 0]],
        tails=encoded.continuations,
    )


def _in_order(encoded: Encoded, shape: Shape) -> list[NDArray[np.int64]]:
    """Put soft tokens between an input's hard runs, but where a decoder begins."""
    pieces, at, slots = [encoded.hard[0]], 0, iter(shape.lengths)
    for index, run in enumerate(encoded.hard[1:], start=1):
        length = 0 if index == encoded.decoder else next(slots, 0)
        pieces += [-1 - np.arange(at, at + length), run]
        at += length
    return pieces


def _beside_decoder(encoded: Encoded, shape: Shape) -> Arranged:
    """Lay one input out over an encoder and a decoder, each with places of its own."""
    pieces = _in_order(encoded, shape)
    sizes = [len(piece) for piece in pieces]
    read = sum(sizes[: 2 * encoded.decoder])  # a piece of soft tokens in front of each run but one
    codes = np.concatenate(pieces)
    frozen = np.arange(len(codes)) < read
    positions = np.concatenate([np.arange(read), np.arange(len(codes) - read)])
    hard = np.flatnonzero(codes >= 0)
    return Arranged(
        codes,
        positions,
        frozen,
        ~frozen,
        read,
        reads=hard[encoded.reads[encoded.reads >= 0]],
        tails=encoded.continuations,
        apart=True,
    )


def plain(codes: NDArray[np.int64], *, frozen: bool, tails: Tails = ()) -> Arranged:
    """Lay words out that nothing stands between."""
    chosen = np.full(len(codes), frozen)
    return Arranged(codes, np.arange(len(codes)), chosen, ~chosen, len(codes), tails=tails)


def shift_codes(codes: NDArray[np.int64], start: int) -> NDArray[np.int64]:
    """Renumber a run's soft tokens for a table in which they begin at row ``start``."""
    return np.where(codes < 0, codes - start, codes)
