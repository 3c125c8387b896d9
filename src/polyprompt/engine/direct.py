"""The direct engine: the whole forward pass, every time. The reference for all others."""

from collections.abc import Sequence

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
        starts = prompts.starts()
        codes = [
            shift_codes(row.codes, starts[run]) for row, run in zip(arranged, runs, strict=True)
        ]
        return self._states(arranged, codes, torch.cat(prompts.vectors))

    def every(self, inputs: Sequence[Encoded], prompts: Prompts) -> States:
        """Read every input with every run's prompts, one run after the other."""
        parts = [
            self.each(inputs, [0] * len(inputs), prompts.only(run)) for run in range(len(prompts))
        ]
        return States(torch.cat([p.mean for p in parts]), torch.cat([p.last for p in parts]))

    def _states(
        self, arranged: Sequence[Arranged], codes: Sequence[np.ndarray], table: Tensor
    ) -> States:
        """Run the backbone over padded rows and pool."""
        device = self.backbone.device
        sizes = torch.tensor([len(row) for row in codes], device=device)
        padded = pad(codes, 0, device)
        place = torch.arange(padded.shape[1], device=device)
        real = place[None] < sizes[:, None]
        soft = pad([(~row.frozen).astype(np.int64) for row in arranged], 0, device).bool()
        hidden = self.backbone.forward(
            self._look_up(padded, table), place.expand_as(padded), self._allowed(real, soft)
        )
        mean = (hidden * real[..., None]).sum(1) / sizes[:, None]
        return States(mean, hidden[torch.arange(len(sizes), device=device), sizes - 1])

    def _allowed(self, real: Tensor, live: Tensor) -> Tensor:
        """Write the attention pattern out: which token may see which, B T T."""
        keys = real[:, None, :].expand(-1, real.shape[1], -1)
        attention = self.backbone.facts.attention
        if attention is Attention.CAUSAL:
            return keys & torch.ones_like(keys).tril()
        if attention is Attention.ONE_WAY:
            return keys & (live[:, :, None] | ~live[:, None, :])
        return keys
