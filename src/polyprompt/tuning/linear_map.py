"""The weights of a trained head: a linear map from states to scores."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from polyprompt.tuning.dropout import SeededDropout
from polyprompt.tuning.part import TrainablePart


class LinearMap(TrainablePart):
    """Scores of C classes from states of width D, in float32; trained as parts are.

    Attributes:
        weight: C D.
        bias: C.
    """

    is_kept = False  # the head's own file has it

    def __init__(
        self, width: int, classes: int, bound: float, dropout: float, rng: np.random.Generator
    ) -> None:
        """Begin with a normal distribution of standard deviation ``bound``, and a bias of 0.

        Args:
            width: D.
            classes: C.
            bound: Of the initial value.
            dropout: Share of a state's numbers that are dropped in training.
            rng: The run's own generator.
        """
        super().__init__()
        initial = rng.normal(0.0, bound, (classes, width))
        self.weight = nn.Parameter(torch.from_numpy(initial).float())
        self.bias = nn.Parameter(torch.zeros(classes))
        self.dropout = SeededDropout(dropout, rng)
        self._examples: Sequence[tuple[int, int]] = ()

    @staticmethod
    def of(weight: Float[Tensor, "C D"], bias: Float[Tensor, " C"]) -> "LinearMap":
        """Give a map with weights that were trained."""
        found = LinearMap(weight.shape[1], weight.shape[0], 0.0, 0.0, np.random.default_rng(0))
        with torch.no_grad():
            found.weight.copy_(weight)
            found.bias.copy_(bias)
        return found.to(weight.device).requires_grad_(requires_grad=False)

    def reads(self, examples: Sequence[tuple[int, int]]) -> None:
        """Say whose states are scored next in training, so that each has its own dropout.

        Args:
            examples: Number of each example in the training set, and how many states it has.
        """
        self._examples = examples

    def forward(self, states: Float[Tensor, "N D"]) -> Float[Tensor, "N C"]:
        """Score states."""
        states = self._dropped(states.float()).to(self.weight.device)
        return nn.functional.linear(states, self.weight, self.bias)

    def _dropped(self, states: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """Drop some of the states' numbers in training."""
        step = self.step
        if step is None or not self.dropout.share or not torch.is_grad_enabled():
            return states
        pieces = states.split([size for _, size in self._examples])
        rows = [row for row, _ in self._examples]
        own = [self.dropout(piece, step, row) for piece, row in zip(pieces, rows, strict=True)]
        return torch.cat([states[:0], *own])

    @torch.no_grad()
    def tensors(self) -> dict[str, Tensor]:
        """Give weight and bias."""
        return {"weight": self.weight.clone(), "bias": self.bias.clone()}
