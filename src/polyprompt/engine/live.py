"""The live tokens of a pass: what a trained part can reach, of all inputs and runs, packed.

Axes: N live tokens, B inputs, G runs that read an input, A tokens of all continuations, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyprompt.engine.arrangement import Arranged, Tails, shift_codes
from polyprompt.heads.head import States
from polyprompt.models.blocks import Blocks, lay_out
from polyprompt.models.values import Frozen


@dataclass(frozen=True)
class Live:
    """Live tokens, input by input and within an input run by run.

    Attributes:
        codes: Token ids, or rows of the prompts' common table, N.
        positions: In the whole input of their run, N.
        sizes: Tokens of each run over each input, B × G.
        branches: 0 for the input's own tokens, 1 … for those of continuations, which see the
            input's and their own, N.
        reached: Which of them a trained part may reach, N.
        answers: Where the tokens of the continuations of all inputs are, B G A.
        reads: Tokens that are read one by one, by input and run: the place among the input's
            frozen tokens, or -1, and that among the live ones.
        tails: Each input's own continuations, B.
        apart: Whether they stand in a decoder, and what is frozen in an encoder.
    """

    codes: NDArray[np.int64]
    positions: NDArray[np.int64]
    sizes: tuple[tuple[int, ...], ...]
    branches: NDArray[np.int64]
    reached: NDArray[np.bool_]
    answers: NDArray[np.int64]
    reads: tuple[tuple[NDArray[np.int64], ...], ...]
    tails: tuple[tuple[Tails, ...], ...]
    apart: bool = False

    @staticmethod
    def of(
        rows: Sequence[Sequence[Arranged]],
        starts: Sequence[Sequence[int]],
        branches: Sequence[Sequence[int]],
        offset: int = 0,
    ) -> "Live":
        """Collect the live tokens of inputs.

        Args:
            rows: Every input as each of its runs arranges it, B × G.
            starts: Row of the common table at which each run's soft tokens begin, B × G.
            branches: Continuations of all inputs.
            offset: Tokens that stand in front of all this.
        """
        common = _tail(branches)
        codes, positions, kinds, reached, sizes, answers = [], [], [], [], [], []
        reads, at = [], 0
        for of_input, at_rows in zip(rows, starts, strict=True):
            counts, of_runs = [], []
            for row, start in zip(of_input, at_rows, strict=True):
                own, where = row.part(frozen=False)
                words, owners, places = common
                if row.tails:
                    words, owners, places = _tail([*branches, *(tail[:-1] for tail in row.tails)])
                codes += [shift_codes(own, start), words]
                positions += [where + offset, places + row.end + offset]
                kinds += [np.zeros(len(own), dtype=np.int64), owners]
                reached += [row.live[~row.frozen], np.ones(len(words), dtype=bool)]
                counts.append(len(own) + len(words))
                answers.append(at + len(own) + np.arange(len(common[0])))
                of_runs.append(_reads(row, at, np.arange(len(common[0]), len(words))))
                at += counts[-1]
            sizes.append(tuple(counts))
            reads.append(tuple(of_runs))
        shape = len(sizes), len(sizes[0]), len(common[0])
        return Live(
            np.concatenate(codes),
            np.concatenate(positions),
            tuple(sizes),
            np.concatenate(kinds),
            np.concatenate(reached),
            np.concatenate(answers).reshape(shape),
            tuple(reads),
            tuple(tuple(row.tails for row in of_input) for of_input in rows),
            rows[0][0].apart,
        )

    def blocks(
        self, device: torch.device, *, causal: bool, kinds: NDArray[np.int64] | None = None
    ) -> Blocks:
        """Give their places, for a packed pass.

        Args:
            device: Where they are wanted.
            causal: Whether a token sees only tokens that do not stand behind it.
            kinds: 1 for tokens that no token of kind 0 sees; None for continuations as they are.
        """
        kinds = self.branches if kinds is None else kinds
        return lay_out(self.sizes, self.positions, device, causal=causal, branches=kinds)

    def states(self, frozen: Frozen, hidden: Tensor) -> States:
        """Pool frozen and live states of every run over every input: G × B states, run by run.

        Args:
            frozen: Of the inputs.
            hidden: Of the live tokens, N D.
        """
        device, shape = hidden.device, self.answers.shape[:2]
        block = np.repeat(np.arange(shape[0] * shape[1]), np.concatenate(self.sizes))
        trunk = np.flatnonzero(self.branches == 0)
        last = self._last(frozen, hidden, block, trunk)
        trunk = trunk[:0] if self.apart else trunk  # a text's mean is that of what is read
        own = torch.from_numpy(block[trunk]).to(device)
        text = (frozen.hidden.float() * frozen.mask[..., None]).sum(1)
        total = text.repeat_interleave(shape[1], 0)
        total = total.index_add(0, own, hidden[torch.from_numpy(trunk).to(device)].float())
        counts = np.bincount(block[trunk], minlength=shape[0] * shape[1])
        lengths = frozen.mask.sum(1).repeat_interleave(shape[1])
        mean = total / (lengths + torch.from_numpy(counts).to(device)).clamp(min=1)[:, None]
        answers = hidden[torch.from_numpy(self.answers).to(device)]
        tokens, sizes = self._tokens(frozen, hidden)
        return States(
            mean.unflatten(0, shape).transpose(0, 1).flatten(0, 1),
            last.unflatten(0, shape).transpose(0, 1).flatten(0, 1),
            answers.transpose(0, 1).flatten(0, 1),
            tokens,
            sizes,
            tuple(of_input[run] for run in range(shape[1]) for of_input in self.tails),
        )

    def _tokens(self, frozen: Frozen, hidden: Tensor) -> tuple[Tensor, NDArray[np.int64]]:
        """Collect the states of tokens that are read one by one, run by run."""
        inputs, runs, _ = self.answers.shape
        width = frozen.hidden.shape[1]
        pairs = [(row, run) for run in range(runs) for row in range(inputs)]
        sizes = np.array([self.reads[row][run].shape[1] for row, run in pairs], dtype=np.int64)
        if not sizes.sum():
            return hidden.new_zeros((0, frozen.hidden.shape[-1])), sizes
        places = [
            np.where(text >= 0, row * width + text, inputs * width + live)
            for row, run in pairs
            for text, live in [self.reads[row][run]]
        ]
        both = torch.cat([frozen.hidden.flatten(0, 1), hidden])
        return both[torch.from_numpy(np.concatenate(places)).to(hidden.device)], sizes

    def _last(
        self, frozen: Frozen, hidden: Tensor, block: NDArray[np.int64], trunk: NDArray[np.int64]
    ) -> Tensor:
        """Find the state of the last token of every run over every input, frozen or live."""
        inputs, runs, _ = self.answers.shape
        order = trunk[np.lexsort((self.positions[trunk], block[trunk]))]
        token = np.zeros(inputs * runs, dtype=np.int64)
        place = np.full(inputs * runs, -1, dtype=np.int64)
        token[block[order]], place[block[order]] = order, self.positions[order]
        of_text = frozen.positions.masked_fill(~frozen.mask, -1)
        furthest, column = of_text.max(1)
        rows = torch.arange(inputs, device=hidden.device)
        text = frozen.hidden[rows, column].repeat_interleave(runs, 0)
        if not len(hidden):
            return text
        if self.apart:
            furthest = torch.full_like(furthest, -1)
        behind = torch.from_numpy(place).to(hidden.device) > furthest.repeat_interleave(runs)
        live = hidden[torch.from_numpy(token).to(hidden.device)]
        return torch.where(behind[:, None], live, text)


def _reads(row: Arranged, start: int, tails: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find the tokens of a row that are read one by one.

    Args:
        row: The row.
        start: Where its live tokens begin among all.
        tails: Places of its own continuations' tokens behind its live ones.

    Returns:
        Places among its frozen tokens, or -1, and among all live ones, 2 × M.
    """
    if not len(row.reads) + len(tails):
        return np.zeros((2, 0), dtype=np.int64)
    frozen, live = np.cumsum(row.frozen) - 1, np.cumsum(~row.frozen) - 1
    own = int((~row.frozen).sum())
    text = np.where(row.frozen[row.reads], frozen[row.reads], -1)
    places = start + np.concatenate([live[row.reads], own + tails])
    return np.stack([np.concatenate([text, np.full(len(tails), -1)]), places])


def _tail(
    branches: Sequence[Sequence[int]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Lay continuations out: their words, which of them each belongs to (from 1), its place."""
    tokens = [
        (word, owner, place)
        for owner, branch in enumerate(branches, start=1)
        for place, word in enumerate(branch)
    ]
    table = np.array(tokens, dtype=np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]
