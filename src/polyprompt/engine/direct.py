"""The direct engine: the whole forward pass, every time. The reference for all others."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from polyprompt.capabilities import Attention
from polyprompt.data.encoding import Encoded
from polyprompt.engine.arrangement import Arranged, arrange, pad, shift_codes
from polyprompt.engine.engine import Engine, Prompts
from polyprompt.heads.head import States


class DirectEngine(Engine):
    """Computes every token of every input."""

    def keep(self, inputs: Sequence[Encoded], lengths: Sequence[int]) -> None:
        """Keep nothing: whatever is read is computed."""

    def each(self, inputs: Sequence[Encoded], runs: Sequence[int], prompts: Prompts) -> States:
        """Read input i with the prompts of run ``runs[i]``."""
        attention = self.backbone.facts.attention
        arranged = [
            arrange(encoded, prompts.lengths[run], attention)
            for encoded, run in zip(inputs, runs, strict=True)
        ]
        self.backbone.work.sentences += len(inputs)
        starts = prompts.starts()
        codes = [
            shift_codes(row.codes, starts[run]) for row, run in zip(arranged, runs, strict=True)
        ]
        return self._states(arranged, codes, torch.cat(prompts.vectors))

    def behind(self, prefix: Sequence[int], inputs: Sequence[Encoded]) -> States:
        """Read the prefix anew with every input."""
        front = np.asarray(prefix, dtype=np.int64)
        whole = [replace(one, hard=(np.concatenate([front, *one.hard]),)) for one in inputs]
        return self.bare(whole)

    def every(self, inputs: Sequence[Encoded], prompts: Prompts) -> States:
        """Read every input with every run's prompts, one run after the other."""
        parts = [
            self.each(inputs, [0] * len(inputs), prompts.only(run)) for run in range(len(prompts))
        ]
        return States.joined(parts)

    def _states(
        self, arranged: Sequence[Arranged], codes: Sequence[np.ndarray], table: Tensor
    ) -> States:
        """Run the backbone over padded rows, once per continuation, and pool."""
        live = [~row.frozen for row in arranged]
        hidden, real, sizes = self._hidden(codes, live, table)
        mean = (hidden.float() * real[..., None]).sum(1) / sizes.clamp(min=1)[:, None]
        rows = torch.arange(len(sizes), device=sizes.device)
        branches = [hidden[:, :0]]
        for branch in self.branches:
            longer = [np.concatenate([row, branch]) for row in codes]
            also = [np.concatenate([row, np.ones(len(branch), dtype=bool)]) for row in live]
            states, _, _ = self._hidden(longer, also, table)
            places = sizes[:, None] + torch.arange(len(branch), device=sizes.device)
            branches.append(states[rows[:, None], places])
        return States(mean, hidden[rows, sizes - 1], torch.cat(branches, dim=1))

    def _hidden(
        self, codes: Sequence[np.ndarray], live: Sequence[np.ndarray], table: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the backbone over padded rows; returns states B T D, real tokens B T, lengths B."""
        device = self.backbone.device
        sizes = torch.tensor([len(row) for row in codes], device=device)
        padded = pad(codes, 0, device, 1)
        place = torch.arange(padded.shape[1], device=device)
        real = place[None] < sizes[:, None]
        soft = pad([row.astype(np.int64) for row in live], 0, device, 1).bool()
        x = self._look_up(padded, table)
        self.backbone.count(int(real.sum()), padded.numel(), x)
        hidden = self.backbone.forward(x, place.expand_as(padded), self._allowed(real, soft))
        return hidden, real, sizes

    def _allowed(self, real: Tensor, live: Tensor) -> Tensor:
        """Write the attention pattern out: which token may see which, B T T."""
        keys = real[:, None, :].expand(-1, real.shape[1], -1)
        attention = self.backbone.facts.attention
        if attention is Attention.CAUSAL:
            return keys & torch.ones_like(keys).tril()
        if attention is Attention.ONE_WAY:
            return keys & (live[:, :, None] | ~live[:, None, :])
        return keys
