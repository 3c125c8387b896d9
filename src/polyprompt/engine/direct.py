"""The direct engine: whole inputs in every pass, for parts that reach the words or the weights.

Without gradient, words and soft tokens that stand in front of all inputs are computed once.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from polyprompt.capabilities import Attention
from polyprompt.data.encoding import Encoded
from polyprompt.engine.arrangement import Arranged, arrange
from polyprompt.engine.engine import Engine, Prompts
from polyprompt.engine.live import Live
from polyprompt.heads.head import States
from polyprompt.models.backbone import Frozen, Part
from polyprompt.models.blocks import lay_out


class DirectEngine(Engine):
    """Computes every token of every input, packed."""

    def keep(self, inputs: Sequence[Encoded], lengths: Sequence[int]) -> None:
        """Keep nothing: whatever is read is computed."""

    def each(self, inputs: Sequence[Encoded], runs: Sequence[int], prompts: Prompts) -> States:
        """Read input i with the prompts of run ``runs[i]``."""
        rows = [
            self._arrange(encoded, prompts.lengths[run])
            for encoded, run in zip(inputs, runs, strict=True)
        ]
        starts = prompts.starts()
        return self._whole(rows, [starts[run] for run in runs], torch.cat(prompts.vectors))

    def every(self, inputs: Sequence[Encoded], prompts: Prompts) -> States:
        """Read every input with every run's prompts, one run after the other."""
        parts = []
        for run in range(len(prompts)):
            rows = [self._arrange(encoded, prompts.lengths[run]) for encoded in inputs]
            vectors = prompts.vectors[run]
            common = 0 if torch.is_grad_enabled() else self._common(rows)
            if common:
                parts.append(self._behind_common(rows, common, vectors))
            else:
                parts.append(self._whole(rows, [0] * len(rows), vectors))
        return States.joined(parts)

    def behind(self, prefix: Sequence[int], inputs: Sequence[Encoded]) -> States:
        """Read the prefix anew with every batch of inputs."""
        front = np.asarray(prefix, dtype=np.int64)
        whole = [replace(one, hard=(np.concatenate([front, *one.hard]),)) for one in inputs]
        return self.bare(whole)

    def _arrange(self, encoded: Encoded, lengths: Sequence[int]) -> Arranged:
        """Lay one input out; nothing of it is frozen."""
        row = arrange(encoded, lengths, self.backbone.facts.attention)
        return replace(row, frozen=np.zeros(len(row.codes), dtype=bool))

    def _common(self, rows: Sequence[Arranged]) -> int:
        """Count the codes that all inputs begin with, where they can be read once for all.

        The last token of every input is left over.
        """
        if not self.backbone.packs or self.backbone.facts.attention is not Attention.CAUSAL:
            return 0
        least = min(len(row.codes) for row in rows) - 1
        codes = np.stack([row.codes[: max(least, 0)] for row in rows])
        same = (codes == codes[:1]).all(axis=0)
        return len(same) if same.all() else int(same.argmin())

    def _behind_common(self, rows: Sequence[Arranged], common: int, table: Tensor) -> States:
        """Read the codes that all inputs begin with once, and the inputs side by side behind."""
        device = self.backbone.device
        front = rows[0].codes[:common]
        blocks = lay_out([[common]], np.arange(common), device, causal=True)
        x = self.look_up(torch.from_numpy(front).to(device), table)
        frozen = self.backbone.encode(x, blocks)
        rest = [replace(row, frozen=np.arange(len(row.codes)) < common) for row in rows]
        live = Live.of([rest], [[0] * len(rest)], self.branches)
        x = self.look_up(torch.from_numpy(live.codes).to(device), table)
        hidden = self.backbone.extend(x, [Part(live.blocks(device, causal=True), frozen)])
        self.backbone.work.sentences += len(rows)
        return live.states(frozen, hidden)

    def _whole(self, rows: Sequence[Arranged], starts: Sequence[int], table: Tensor) -> States:
        """Run the backbone over whole inputs and pool.

        Args:
            rows: The inputs.
            starts: Row of the table at which each input's soft tokens begin.
            table: Soft tokens of all runs.
        """
        device, attention = self.backbone.device, self.backbone.facts.attention
        live = Live.of([[row] for row in rows], [[start] for start in starts], self.branches)
        x = self.look_up(torch.from_numpy(live.codes).to(device), table)
        kinds = (live.codes < 0).astype(np.int64) if attention is Attention.ONE_WAY else None
        blocks = live.blocks(device, causal=attention is Attention.CAUSAL, kinds=kinds)
        hidden = self.backbone.whole(x, blocks) if len(x) else x
        self.backbone.work.sentences += len(rows)
        nothing = Frozen(
            (),
            hidden.new_zeros((len(rows), 1, hidden.shape[-1])),
            torch.zeros((len(rows), 1), dtype=torch.bool, device=device),
            torch.zeros((len(rows), 1), dtype=torch.long, device=device),
        )
        return live.states(nothing, hidden)
