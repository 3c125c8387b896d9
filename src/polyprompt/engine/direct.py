"""The direct engine: whole inputs in every pass, for parts that reach the words or the weights.

Without gradient, words and soft tokens that stand in front of all inputs are computed once.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from polyprompt.data.encoded import Encoded
from polyprompt.engine.arrangement import Arranged, Shape, arrange, shift_codes
from polyprompt.engine.beside import beside
from polyprompt.engine.engine import Engine, Prompts
from polyprompt.engine.live import Live
from polyprompt.families import Attention
from polyprompt.heads.head import States
from polyprompt.models.blocks import lay_out
from polyprompt.models.values import Frozen, Part


class DirectEngine(Engine):
    """Computes every token of every input, packed."""

    def keep(self, inputs: Sequence[Encoded], shape: Shape) -> None:
        """Keep nothing: whatever is read is computed."""

    def _each(self, inputs: Sequence[Encoded], runs: Sequence[int], prompts: Prompts) -> States:
        """Read input i with the prompts of run ``runs[i]``."""
        shapes = prompts.shapes
        rows = [
            self._arrange(encoded, shapes[run]) for encoded, run in zip(inputs, runs, strict=True)
        ]
        return self._whole(rows, runs, prompts)

    def _every(self, inputs: Sequence[Encoded], prompts: Prompts) -> States:
        """Read every input with every run's prompts, one run after the other."""
        parts = []
        for run, shape in enumerate(prompts.shapes):
            rows = [self._arrange(encoded, shape) for encoded in inputs]
            own = prompts.only(run)
            whole = torch.is_grad_enabled() or any(one is not None for one in own.deep)
            common = 0 if whole else self._common(rows)
            if common:
                parts.append(self._behind_common(rows, common, own.vectors[0]))
            else:
                parts.append(self._whole(rows, [0] * len(rows), own))
        return States.joined(parts)

    def fronts(self, inputs: Sequence[Encoded], prompts: Prompts) -> tuple[list[Arranged], Frozen]:
        """Lay inputs out; nothing stands in front of what is live, unless in an encoder."""
        rows = [self._arrange(encoded, prompts.shapes[0]) for encoded in inputs]
        if rows[0].apart:
            return rows, self._read(rows, [0] * len(rows), prompts.vectors[0])
        backbone, count = self.backbone, len(rows)
        shapes, width = backbone.layer_facts.shapes, backbone.layer_facts.width
        like = {"dtype": backbone.dtype, "device": backbone.device}
        layers = tuple(
            (torch.zeros(count, heads, 0, key, **like), torch.zeros(count, heads, 0, value, **like))
            for heads, key, value in shapes
        )
        nothing = torch.zeros(count, 0, dtype=torch.long, device=backbone.device)
        return rows, Frozen(layers, torch.zeros(count, 0, width, **like), nothing.bool(), nothing)

    def behind(self, prefix: Sequence[int], inputs: Sequence[Encoded]) -> States:
        """Read the prefix anew with every batch of inputs."""
        front = np.asarray(prefix, dtype=np.int64)
        whole = [replace(one, hard=(np.concatenate([front, *one.hard]),)) for one in inputs]
        return self.bare(whole)

    def _arrange(self, encoded: Encoded, shape: Shape) -> Arranged:
        """Lay one input out; nothing of it is computed before."""
        row = arrange(encoded, shape, self.backbone.facts.attention)
        if row.apart:  # what the encoder made of it is computed with each pass
            return row
        return replace(row, frozen=np.zeros(len(row.codes), dtype=bool))

    def _common(self, rows: Sequence[Arranged]) -> int:
        """Count the codes that all inputs begin with, where they can be read once for all.

        The last token of every input is left over.
        """
        if not self.backbone.packs or self.backbone.facts.attention is not Attention.CAUSAL:
            return 0
        least = min(len(row.codes) for row in rows) - 1
        if len({int(row.positions[0]) for row in rows if len(row.codes)}) > 1:
            return 0
        codes = np.stack([row.codes[: max(least, 0)] for row in rows])
        same = (codes == codes[:1]).all(axis=0)
        return len(same) if same.all() else int(same.argmin())

    def _behind_common(self, rows: Sequence[Arranged], common: int, table: Tensor) -> States:
        """Read the codes that all inputs begin with once, and the inputs side by side behind."""
        device = self.backbone.device
        front = rows[0].codes[:common]
        blocks = lay_out([[common]], rows[0].positions[:common], device, causal=True)
        x = self.look_up(torch.from_numpy(front).to(device), table)
        frozen = self.backbone.encode(x, blocks)
        rest = [replace(row, frozen=np.arange(len(row.codes)) < common) for row in rows]
        live = Live.of([rest], [[0] * len(rest)], self.branches)
        x = self.look_up(torch.from_numpy(live.codes).to(device), table)
        hidden = self.backbone.extend(x, [Part(live.blocks(device, causal=True), frozen)])
        self.backbone.work.sentences += len(rows)
        return live.states(frozen, hidden)

    def _whole(self, rows: Sequence[Arranged], runs: Sequence[int], prompts: Prompts) -> States:
        """Run the backbone over whole inputs and pool.

        Args:
            rows: The inputs.
            runs: Whose prompts each of them is read with.
            prompts: Of all runs.
        """
        if rows and rows[0].apart:
            return self._beside_decoder(rows, runs, prompts)
        device, attention = self.backbone.device, self.backbone.facts.attention
        starts = prompts.starts()
        live = Live.of([[row] for row in rows], [[starts[run]] for run in runs], self.branches)
        x = self.look_up(torch.from_numpy(live.codes).to(device), torch.cat(prompts.vectors))
        kinds = live.reached.astype(np.int64) if attention is Attention.ONE_WAY else None
        blocks = live.blocks(device, causal=attention is Attention.CAUSAL, kinds=kinds)
        deep = beside(prompts, [[run] for run in runs], live, rows)
        hidden = x
        if len(x) and deep is None:
            hidden = self.backbone.whole(x, blocks)
        elif len(x):
            hidden = self.backbone.extend(x, [Part(blocks, beside=deep)])
        self.backbone.work.sentences += len(rows)
        nothing = Frozen(
            (),
            hidden.new_zeros((len(rows), 1, hidden.shape[-1])),
            torch.zeros((len(rows), 1), dtype=torch.bool, device=device),
            torch.zeros((len(rows), 1), dtype=torch.long, device=device),
        )
        return live.states(nothing, hidden)

    def _beside_decoder(
        self, rows: Sequence[Arranged], runs: Sequence[int], prompts: Prompts
    ) -> States:
        """Run the encoder over what stands in it, and the decoder over the rest."""
        device, table = self.backbone.device, torch.cat(prompts.vectors)
        starts = [prompts.starts()[run] for run in runs]
        frozen = self._read(rows, starts, table)
        live = Live.of([[row] for row in rows], [[at] for at in starts], self.branches)
        x = self.look_up(torch.from_numpy(live.codes).to(device), table)
        part = Part(live.blocks(device, causal=True), frozen)
        hidden = self.backbone.extend(x, [part])
        self.backbone.work.sentences += len(rows)
        return live.states(frozen, hidden)

    def _read(self, rows: Sequence[Arranged], starts: Sequence[int], table: Tensor) -> Frozen:
        """Read what stands in an encoder.

        Args:
            rows: The inputs.
            starts: Row of the table at which each one's soft tokens begin.
            table: Soft tokens of all runs.
        """
        device, parts = self.backbone.device, [row.part(frozen=True) for row in rows]
        codes = [shift_codes(own, at) for (own, _), at in zip(parts, starts, strict=True)]
        places = np.concatenate([own for _, own in parts])
        blocks = lay_out([[len(own)] for own in codes], places, device, causal=False)
        x = self.look_up(torch.from_numpy(np.concatenate(codes)).to(device), table)
        return self.backbone.read_encoder(x, blocks)
