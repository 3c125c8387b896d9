"""The live tokens of a pass: what a trained part can reach, of several runs side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyprompt.engine.arrangement import Arranged, shift_codes
from polyprompt.models.backbone import Frozen


@dataclass(frozen=True)
class Live:
    """The live tokens of one input, those of several runs one after the other.

    Attributes:
        codes: Token ids, or rows of the prompts' common table.
        positions: In the whole input of their run.
        blocks: Index of the run; tokens of one block see one another.
        branches: 0 for the input's own tokens, 1 … for those of continuations, which see the
            input's and their own.
        answers: Place of a continuation's token among all of them; -1 for the input's own.
    """

    codes: NDArray[np.int64]
    positions: NDArray[np.int64]
    blocks: NDArray[np.int64]
    branches: NDArray[np.int64]
    answers: NDArray[np.int64]

    @staticmethod
    def of(
        rows: Sequence[Arranged],
        starts: Sequence[int],
        branches: Sequence[Sequence[int]],
        offset: int = 0,
    ) -> "Live":
        """Collect the live tokens of one input as several runs arrange it.

        Args:
            rows: One per run.
            starts: Row of the common table at which each run's soft tokens begin.
            branches: Continuations.
            offset: Tokens that stand in front of all this.
        """
        tail = _Tail.of(branches)
        columns = []
        for run, (row, start) in enumerate(zip(rows, starts, strict=True)):
            codes, positions = row.part(frozen=False)
            own = np.zeros(len(codes), dtype=np.int64)
            columns.append(
                (
                    np.concatenate([shift_codes(codes, start), tail.words]),
                    np.concatenate([positions, tail.places + len(row.codes)]) + offset,
                    np.full(len(codes) + len(tail.words), run),
                    np.concatenate([own, tail.owners]),
                    np.concatenate([own - 1, np.arange(len(tail.words))]),
                )
            )
        return Live(*(np.concatenate(column) for column in zip(*columns, strict=True)))


@dataclass(frozen=True)
class _Tail:
    """The tokens of all continuations, one after the other.

    Attributes:
        words: Token ids.
        owners: Which continuation each belongs to, from 1.
        places: Their place in it, from 0.
    """

    words: NDArray[np.int64]
    owners: NDArray[np.int64]
    places: NDArray[np.int64]

    @staticmethod
    def of(branches: Sequence[Sequence[int]]) -> "_Tail":
        """Lay continuations out."""
        tokens = [
            (word, owner, place)
            for owner, branch in enumerate(branches, start=1)
            for place, word in enumerate(branch)
        ]
        table = np.array(tokens, dtype=np.int64).reshape(-1, 3)
        return _Tail(table[:, 0], table[:, 1], table[:, 2])


def pool(
    frozen: Frozen, hidden: Tensor, positions: Tensor, members: Tensor
) -> tuple[Tensor, Tensor]:
    """Pool frozen and live states of every run: their mean and the last one, R B D.

    Args:
        frozen: The text's states.
        hidden: Live states, B S D.
        positions: Of live tokens, B S.
        members: Which live token belongs to which run, R B S.
    """
    text = frozen.hidden.float() * frozen.mask[..., None]
    live_sum = torch.einsum("rbs,bsd->rbd", members.float(), hidden.float())
    count = (frozen.mask.sum(1)[None] + members.sum(2)).clamp(min=1)
    mean = (text.sum(1)[None] + live_sum) / count[..., None]
    every = torch.cat([frozen.hidden, hidden], dim=1)
    text_places = frozen.positions.masked_fill(~frozen.mask, -1)
    places = torch.cat(
        [
            text_places[None].expand(len(members), -1, -1),
            positions[None].masked_fill(~members, -1),
        ],
        dim=2,
    )
    last = every[torch.arange(len(every), device=every.device)[None], places.argmax(2)]
    return mean, last


def branch_states(hidden: Tensor, answers: Tensor, members: Tensor, count: int) -> Tensor:
    """Find the states of the continuations' tokens, R B A D.

    Args:
        hidden: Live states, B S D.
        answers: Which of the continuations' tokens a live token is, B S.
        members: Which live token belongs to which run, R B S.
        count: Tokens of all continuations (A).
    """
    if not count:
        return hidden.new_zeros((*members.shape[:2], 0, hidden.shape[-1]))
    wanted = torch.arange(count, device=hidden.device)[:, None]
    where = (members[:, :, None] & (answers[None, :, None] == wanted)).to(torch.int64).argmax(3)
    return hidden[torch.arange(len(hidden), device=hidden.device)[None, :, None], where]
