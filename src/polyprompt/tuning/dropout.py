"""Dropout that depends on a run's own seed, the step and the example, and on nothing beside them.

Neither a run's company, nor how many rows are computed at once, nor a pass that is repeated changes
what is dropped.
"""

import numpy as np
import torch
from torch import Tensor, nn

from polyprompt.seeds import derive_seed


class SeededDropout(nn.Module):
    """Sets numbers to 0 in training, and makes the others larger by as much."""

    def __init__(self, share: float, rng: np.random.Generator) -> None:
        """Drop a share of all numbers.

        Args:
            share: 0 drops nothing.
            rng: The run's own generator.
        """
        super().__init__()
        self.share = share
        self._seed = int(rng.integers(2**31))

    def forward(self, x: Tensor, step: int, key: int = 0) -> Tensor:
        """Drop from a tensor of any shape.

        Args:
            x: The tensor.
            step: Of training.
            key: Of the example, where there is one.
        """
        if not self.share:
            return x
        generator = torch.Generator()
        generator.manual_seed(derive_seed(self._seed, "dropout", step, key))
        kept = torch.rand(x.shape, generator=generator) >= self.share
        return x * (kept.to(x.device, x.dtype) / (1 - self.share))
