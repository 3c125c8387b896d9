"""The cached engine: frozen tokens are computed once, a pass computes the live ones only."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from polyprompt.capabilities import Attention
from polyprompt.data.batching import packs, token_budget_batches
from polyprompt.data.encoding import Encoded
from polyprompt.engine.arrangement import Arranged, arrange, pad
from polyprompt.engine.engine import Engine, Prompts
from polyprompt.engine.live import Live, branch_states, pool
from polyprompt.engine.store import FrozenStore, Key
from polyprompt.heads.head import States
from polyprompt.models.backbone import Backbone, Frozen

TOKENS_SIDE_BY_SIDE = 384
"""Live tokens of several inputs that share a prefix; more of them waste attention on each other."""


class CachedEngine(Engine):
    """Encodes the frozen tokens of an input once and extends them by the live tokens of runs.

    Inputs given to ``keep`` are held under the byte budget; others are encoded when read.
    """

    def __init__(
        self,
        backbone: Backbone,
        budget_bytes: int = 2 * 1024**3,
        tokens_per_batch: int = 4096,
        branches: Sequence[Sequence[int]] = (),
    ) -> None:
        """Compute on a backbone.

        Args:
            backbone: Its attention must leave something frozen.
            budget_bytes: Most memory for kept keys, values and states.
            tokens_per_batch: Most padded tokens that are encoded at once.
            branches: Continuations of every input.
        """
        super().__init__(backbone, branches)
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
        live = [
            Live.of([row], [starts[run]], self.branches)
            for row, run in zip(rows, runs, strict=True)
        ]
        return self._read(self._frozen(rows), live, torch.cat(prompts.vectors), 1)

    def every(self, inputs: Sequence[Encoded], prompts: Prompts) -> States:
        """Read every input with every run's prompts, runs with one frozen part in one pass."""
        rows = [
            [arrange(encoded, lengths, self._attention) for encoded in inputs]
            for lengths in prompts.lengths
        ]
        starts = prompts.starts()
        table = torch.cat(prompts.vectors)
        states: dict[int, States] = {}
        for runs in self._with_one_frozen_part(rows):
            of_inputs = zip(*(rows[run] for run in runs), strict=True)
            live = [Live.of(own, [starts[r] for r in runs], self.branches) for own in of_inputs]
            read = self._read(self._frozen(rows[runs[0]]), live, table, len(runs))
            for index, run in enumerate(runs):
                states[run] = read.rows(slice(index * len(inputs), (index + 1) * len(inputs)))
        return States.joined([states[run] for run in range(len(prompts))])

    @torch.no_grad()
    def behind(self, prefix: Sequence[int], inputs: Sequence[Encoded]) -> States:
        """Encode the prefix once; inputs stand side by side behind it and do not see each other."""
        codes = np.asarray(prefix, dtype=np.int64)
        front = Arranged(codes, np.ones(len(codes), dtype=bool))
        key, frozen = self._key(front), self._frozen([front])
        if key not in self._store and not self._store.is_full:
            self._store.add([key], frozen)
        words = [np.concatenate(one.hard) for one in inputs]
        rows = [Arranged(own, np.zeros(len(own), dtype=bool)) for own in words]
        nothing = self.backbone.table[:0].float()
        parts = []
        for pack in packs([len(own) for own in words], TOKENS_SIDE_BY_SIDE):
            beside = rows[pack]
            live = Live.of(beside, [0] * len(beside), self.branches, len(codes))
            parts.append(self._read(frozen, [live], nothing, len(beside)))
        return States.joined(parts)

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
        """Compute the frozen part of inputs; one column at least, so that nothing is empty."""
        device = self.backbone.device
        parts = [row.part(frozen=True) for row in rows]
        sizes = torch.tensor([len(codes) for codes, _ in parts], device=device)
        width = max(1, int(sizes.max()))
        codes = pad([codes for codes, _ in parts], 0, device, width)
        positions = pad([places for _, places in parts], 0, device, width)
        mask = torch.arange(width, device=device)[None] < sizes[:, None]
        return self.backbone.encode(self.backbone.embed(codes), positions, mask)

    def _frozen(self, rows: Sequence[Arranged]) -> Frozen:
        """Fetch the frozen part of inputs, or compute it."""
        keys = [self._key(row) for row in rows]
        if all(key in self._store for key in keys):
            return self._store.batch(keys)
        return self._encode(rows)

    def _read(self, frozen: Frozen, live: Sequence[Live], table: Tensor, runs: int) -> States:
        """Extend frozen inputs by live tokens and pool; states are R × B, run by run.

        Args:
            frozen: Of the inputs.
            live: Of each input, the live tokens of all runs that read it.
            table: The vectors that codes of soft tokens name.
            runs: How many runs read every input.
        """
        device = self.backbone.device
        codes = pad([tokens.codes for tokens in live], 0, device)
        positions = pad([tokens.positions for tokens in live], -1, device)
        blocks = pad([tokens.blocks for tokens in live], -1, device)
        branches = pad([tokens.branches for tokens in live], 0, device)
        hidden = frozen.hidden[:, :0]
        if codes.shape[1]:
            seen = branches[:, None, :]
            allowed = (blocks[:, :, None] == blocks[:, None, :]) & (
                (seen == 0) | (seen == branches[:, :, None])
            )
            if self._attention is Attention.CAUSAL:
                allowed &= positions[:, :, None] >= positions[:, None, :]
            x = self._look_up(codes, table)
            hidden = self.backbone.extend(frozen, x, positions.clamp(min=0), allowed)
        members = blocks[None] == torch.arange(runs, device=device)[:, None, None]
        trunk = members & (branches == 0)[None]
        mean, last = pool(frozen, hidden, positions, trunk)
        answers = pad([tokens.answers for tokens in live], -1, device)
        return States(
            mean.flatten(0, 1),
            last.flatten(0, 1),
            branch_states(hidden, answers, members, sum(map(len, self.branches))).flatten(0, 1),
        )
