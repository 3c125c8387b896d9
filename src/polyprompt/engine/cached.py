"""The cached engine: frozen tokens are computed once, a pass computes the live ones only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyprompt.capabilities import Attention
from polyprompt.data.batching import token_budget_batches
from polyprompt.data.encoding import Encoded
from polyprompt.engine.arrangement import Arranged, arrange, pad, shift_codes
from polyprompt.engine.engine import Engine, Prompts
from polyprompt.engine.store import FrozenStore, Key
from polyprompt.heads.head import States
from polyprompt.models.backbone import Backbone, Frozen


class CachedEngine(Engine):
    """Encodes the frozen tokens of an input once and extends them by the live tokens of runs.

    Inputs given to ``keep`` are held under the byte budget; others are encoded when read.
    """

    def __init__(
        self, backbone: Backbone, budget_bytes: int = 2 * 1024**3, tokens_per_batch: int = 4096
    ) -> None:
        """Compute on a backbone.

        Args:
            backbone: Its attention must leave something frozen.
            budget_bytes: Most memory for kept keys, values and states.
            tokens_per_batch: Most padded tokens that are encoded at once.
        """
        super().__init__(backbone)
        self._store = FrozenStore(budget_bytes)
        self._tokens_per_batch = tokens_per_batch

    def keep(self, inputs: Sequence[Encoded], lengths: Sequence[int]) -> None:
        """Encode inputs that will be read many times, sorted by length, as far as memory goes."""
        arranged = [arrange(encoded, lengths, self._attention) for encoded in inputs]
        sizes = [int(row.frozen.sum()) for row in arranged]
        for batch in token_budget_batches(sizes, self._tokens_per_batch):
            rows = [arranged[index] for index in batch]
            keys = [self._key(row) for row in rows]
            if not self._store.is_full and any(key not in self._store for key in keys):
                self._store.add(keys, self._encode(rows))

    def each(self, inputs: Sequence[Encoded], runs: Sequence[int], prompts: Prompts) -> States:
        """Read input i with the prompts of run ``runs[i]``."""
        rows = [
            arrange(encoded, prompts.lengths[run], self._attention)
            for encoded, run in zip(inputs, runs, strict=True)
        ]
        starts = prompts.starts()
        live = [_Live.of([row], [starts[run]]) for row, run in zip(rows, runs, strict=True)]
        states = self._read(rows, live, prompts, 1)
        return States(states.mean[0], states.last[0])

    def every(self, inputs: Sequence[Encoded], prompts: Prompts) -> States:
        """Read every input with every run's prompts, runs with one frozen part in one pass."""
        rows = [
            [arrange(encoded, lengths, self._attention) for encoded in inputs]
            for lengths in prompts.lengths
        ]
        starts = prompts.starts()
        states: dict[int, States] = {}
        for runs in self._with_one_frozen_part(rows):
            of_inputs = zip(*(rows[run] for run in runs), strict=True)
            live = [_Live.of(own, [starts[run] for run in runs]) for own in of_inputs]
            read = self._read(rows[runs[0]], live, prompts, len(runs))
            states |= {run: read.rows(index) for index, run in enumerate(runs)}
        order = [states[run] for run in range(len(prompts))]
        return States(torch.cat([s.mean for s in order]), torch.cat([s.last for s in order]))

    def _with_one_frozen_part(self, rows: Sequence[Sequence[Arranged]]) -> list[list[int]]:
        """Put runs together for which the frozen part of every input is the same."""
        groups: dict[tuple[Key, ...], list[int]] = {}
        for run, arranged in enumerate(rows):
            groups.setdefault(tuple(self._key(row) for row in arranged), []).append(run)
        return list(groups.values())

    @property
    def _attention(self) -> Attention:
        """How the backbone is run."""
        return self.backbone.facts.attention

    def _key(self, row: Arranged) -> Key:
        """Name everything that the frozen part of an input depends on."""
        codes, positions = row.part(frozen=True)
        facts = self.backbone.facts
        model = f"{facts.identity}/{self.backbone.dtype}/{facts.attention}"
        return model, codes.tobytes(), positions.tobytes()

    def _encode(self, rows: Sequence[Arranged]) -> Frozen:
        """Compute the frozen part of inputs."""
        device = self.backbone.device
        parts = [row.part(frozen=True) for row in rows]
        sizes = torch.tensor([len(codes) for codes, _ in parts], device=device)
        codes = pad([codes for codes, _ in parts], 0, device)
        positions = pad([places for _, places in parts], 0, device)
        mask = torch.arange(codes.shape[1], device=device)[None] < sizes[:, None]
        return self.backbone.encode(self.backbone.embed(codes), positions, mask)

    def _frozen(self, rows: Sequence[Arranged]) -> Frozen:
        """Fetch the frozen part of inputs, or compute it."""
        keys = [self._key(row) for row in rows]
        if all(key in self._store for key in keys):
            return self._store.batch(keys)
        return self._encode(rows)

    def _read(
        self, rows: Sequence[Arranged], live: Sequence["_Live"], prompts: Prompts, runs: int
    ) -> States:
        """Extend frozen inputs by live tokens and pool; states are R B D.

        Args:
            rows: The inputs, for their frozen part.
            live: Of each input, the live tokens of all runs that read it.
            prompts: The vectors that codes of soft tokens name.
            runs: How many runs read every input.
        """
        device = self.backbone.device
        frozen = self._frozen(rows)
        codes = pad([tokens.codes for tokens in live], 0, device)
        positions = pad([tokens.positions for tokens in live], -1, device)
        blocks = pad([tokens.blocks for tokens in live], -1, device)
        hidden = frozen.hidden[:, :0]
        if codes.shape[1]:
            allowed = blocks[:, :, None] == blocks[:, None, :]
            if self._attention is Attention.CAUSAL:
                allowed &= positions[:, :, None] >= positions[:, None, :]
            x = self._look_up(codes, torch.cat(prompts.vectors))
            hidden = self.backbone.extend(frozen, x, positions.clamp(min=0), allowed)
        members = blocks[None] == torch.arange(runs, device=device)[:, None, None]
        text_positions = pad([row.part(frozen=True)[1] for row in rows], -1, device)
        return _pool(frozen, text_positions, hidden, positions, members)


@dataclass(frozen=True)
class _Live:
    """The live tokens of one input, those of several runs one after the other.

    Attributes:
        codes: Token ids, or rows of the prompts' common table.
        positions: In the whole input of their run.
        blocks: Index of the run; tokens of one block see one another.
    """

    codes: NDArray[np.int64]
    positions: NDArray[np.int64]
    blocks: NDArray[np.int64]

    @staticmethod
    def of(rows: Sequence[Arranged], starts: Sequence[int]) -> "_Live":
        """Collect the live tokens of one input as several runs arrange it."""
        parts = [row.part(frozen=False) for row in rows]
        return _Live(
            np.concatenate(
                [shift_codes(codes, start) for (codes, _), start in zip(parts, starts, strict=True)]
            ),
            np.concatenate([positions for _, positions in parts]),
            np.concatenate([np.full(len(codes), i) for i, (codes, _) in enumerate(parts)]),
        )


def _pool(
    frozen: Frozen, text_positions: Tensor, hidden: Tensor, positions: Tensor, members: Tensor
) -> States:
    """Pool frozen and live states of every run; the result is R B D.

    Args:
        frozen: The text's states.
        text_positions: B T, -1 where padded.
        hidden: Live states, B S D.
        positions: Of live tokens, B S.
        members: Which live token belongs to which run, R B S.
    """
    text = frozen.hidden * frozen.mask[..., None]
    live_sum = torch.einsum("rbs,bsd->rbd", members.to(hidden.dtype), hidden)
    count = frozen.mask.sum(1)[None] + members.sum(2)
    mean = (text.sum(1)[None] + live_sum) / count[..., None]
    every = torch.cat([frozen.hidden, hidden], dim=1)
    shape = (len(members), -1, -1)
    places = torch.cat(
        [text_positions[None].expand(shape), positions[None].masked_fill(~members, -1)], dim=2
    )
    last = every[torch.arange(len(every), device=every.device)[None], places.argmax(2)]
    return States(mean, last)
