"""Networks that compute a soft prompt from trained vectors while it is trained.

Axes: P soft tokens, D width of the embedding table, W hidden width.
"""

from collections.abc import Callable
from math import gcd

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

_MOST_HEADS = 4


class BottleneckMLP(nn.Module):
    """LayerNorm(up(ReLU(down(P)))), with P added or not; one network for all soft tokens.

    With the sum: Razdaibiedina et al. (2023), and Philippy et al. (2024), appendix C. Without: the
    latter's released code.
    """

    def __init__(self, dimension: int, width: int, *, residual: bool) -> None:
        """Build a network D → W → D.

        Args:
            dimension: D.
            width: W.
            residual: Whether its input is added to its output.
        """
        super().__init__()
        self.down, self.up = nn.Linear(dimension, width), nn.Linear(width, dimension)
        self.norm = nn.LayerNorm(dimension)
        self._residual = residual

    def forward(self, weight: Float[Tensor, "P D"]) -> Float[Tensor, "P D"]:
        """Compute the prompt."""
        out = self.norm(self.up(torch.relu(self.down(weight))))
        return weight + out if self._residual else out


class RecurrentNetwork(nn.Module):
    """A bidirectional LSTM of two layers and an MLP behind it (Liu et al. 2021, P-tuning)."""

    def __init__(self, dimension: int, width: int) -> None:
        """Build a network whose states have W / 2 numbers each way."""
        super().__init__()
        self.lstm = nn.LSTM(dimension, width // 2, num_layers=2, bidirectional=True)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, dimension))

    def forward(self, weight: Float[Tensor, "P D"]) -> Float[Tensor, "P D"]:
        """Compute the prompt."""
        return self.mlp(self.lstm(weight)[0])


class TransformerNetwork(nn.Module):
    """One transformer encoder layer over the soft tokens, normalised before each sub-layer."""

    def __init__(self, dimension: int, width: int) -> None:
        """Build a layer with a feed-forward width of W; 4 heads where D allows."""
        super().__init__()
        heads = gcd(dimension, _MOST_HEADS)
        self.layer = nn.TransformerEncoderLayer(
            dimension, heads, width, dropout=0.0, batch_first=True, norm_first=True
        )

    def forward(self, weight: Float[Tensor, "P D"]) -> Float[Tensor, "P D"]:
        """Compute the prompt."""
        return self.layer(weight[None])[0]


def _two_layers(dimension: int, width: int) -> nn.Module:
    """Build Linear(tanh(Linear(P))) (Li and Liang 2021)."""
    return nn.Sequential(nn.Linear(dimension, width), nn.Tanh(), nn.Linear(width, dimension))


REPARAMETERISERS: dict[str, Callable[[int, int], nn.Module]] = {
    "residual_mlp": lambda dimension, width: BottleneckMLP(dimension, width, residual=True),
    "normed_mlp": lambda dimension, width: BottleneckMLP(dimension, width, residual=False),
    "mlp": _two_layers,
    "lstm": RecurrentNetwork,
    "transformer": TransformerNetwork,
}
"""From D and W to a network, by name."""


def build_network(kind: str, dimension: int, width: int, rng: np.random.Generator) -> nn.Module:
    """Build a network with the initial values PyTorch gives such layers.

    Args:
        kind: One of ``REPARAMETERISERS``.
        dimension: D.
        width: W.
        rng: The run's own generator; the global one is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        return REPARAMETERISERS[kind](dimension, width)
