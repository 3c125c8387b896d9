"""A deep prompt: trained keys and values of P places in every layer (P-tuning v2, Liu et al. 2022).

All of a place's keys and values are one row: layer by layer, keys before values, head by head – the
order of PEFT's prefix tuning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from polyprompt.errors import DataError
from polyprompt.tuning.dropout import SeededDropout
from polyprompt.tuning.part import TrainablePart

_UNFOLDED = "unfolded."
KeysAndValues = tuple[tuple[Float[Tensor, "J P K"], Float[Tensor, "J P K"]], ...]


@dataclass(frozen=True)
class LayerShape:
    """What a place has in one layer.

    Attributes:
        heads: Key heads (J).
        key: Width of a key.
        value: Width of a value.
    """

    heads: int
    key: int
    value: int

    @property
    def numbers(self) -> int:
        """Numbers of a place."""
        return self.heads * (self.key + self.value)


class DeepPrompt(TrainablePart):
    """Keys and values of every layer, trained, or computed from trained vectors by a network.

    Attributes:
        weight: What is trained: P × all numbers of a place, or P × width under a network.
        network: Linear(tanh(Linear)); None where keys and values are trained themselves.
        position: Whether its places stand in front of the input or behind it.
    """

    def __init__(
        self,
        length: int,
        layers: Sequence[LayerShape],
        rng: np.random.Generator,
        *,
        position: Literal["prefix", "suffix"] = "prefix",
        bound: float = 0.02,
        width: int = 0,
        hidden: int | None = None,
        dropout: float = 0.0,
        trained: bool = True,
    ) -> None:
        """Begin with a normal distribution.

        Args:
            length: Places (P).
            layers: What a place has in each layer.
            rng: The run's own generator.
            position: Where its places stand.
            bound: Standard deviation of the initial value.
            width: Of the vectors that a network computes keys and values from.
            hidden: Width of the network's hidden layer; None for no network.
            dropout: Share of keys' and values' numbers that are dropped in training.
            trained: False keeps the value as it is.
        """
        super().__init__()
        self.layers, self.length = tuple(layers), length
        self.position: Literal["prefix", "suffix"] = position
        numbers = sum(layer.numbers for layer in layers)
        initial = rng.normal(0.0, bound, (length, numbers if hidden is None else width))
        self.weight = nn.Parameter(torch.from_numpy(initial).float(), requires_grad=trained)
        self.network = None if hidden is None else _network(width, hidden, numbers, rng)
        self.dropout = SeededDropout(dropout, rng)

    def forward(self) -> KeysAndValues:
        """Give the keys and values of every layer."""
        rows = self._rows()
        if self.step is not None and torch.is_grad_enabled():
            rows = self.dropout(rows, self.step)
        return split(rows, self.layers)

    def _rows(self) -> Float[Tensor, "P numbers"]:
        """Give the places' numbers, nothing dropped."""
        return self.weight if self.network is None else self.network(self.weight)

    @torch.no_grad()
    def tensors(self) -> dict[str, Tensor]:
        """Give the folded numbers, the layers' shapes and, for going on, what computed them."""
        shapes = torch.tensor([[one.heads, one.key, one.value] for one in self.layers])
        folded = {"weight": self._rows().clone(), "layers": shapes}
        return folded if self.network is None else folded | self._unfolded()

    @torch.no_grad()
    def resume(self, saved: Mapping[str, Tensor], where: str) -> None:
        """Go on from what ``tensors`` gave of a deep prompt for the same layers.

        Args:
            saved: The tensors.
            where: They were read, for the message.

        Raises:
            DataError: They are of another model, length or network.
        """
        own = {"weight": self.weight} if self.network is None else self._unfolded()
        shapes = {name: tuple(value.shape) for name, value in own.items()}
        found = {name: tuple(saved[name].shape) if name in saved else None for name in own}
        if found != shapes:
            name = next(name for name in own if found[name] != shapes[name])
            if found[name] is None:
                raise DataError(
                    f"The deep prompt {where} was saved without the network that computes it; take "
                    "projection out to begin with its keys and values."
                )
            raise DataError(
                f"The deep prompt {where} does not fit: '{name}' has shape {found[name]}, expected "
                f"{shapes[name]}. It was saved for another backbone, length or projection."
            )
        for name, value in own.items():
            value.copy_(saved[name])

    def _unfolded(self) -> dict[str, Tensor]:
        """Name what is trained under a network."""
        state = {"weight": self.weight, **{f"network.{k}": v for k, v in self._of_network()}}
        return {_UNFOLDED + name: value for name, value in state.items()}

    def _of_network(self) -> list[tuple[str, Tensor]]:
        """Name the network's own parameters."""
        return [] if self.network is None else [*self.network.state_dict().items()]


def split(rows: Float[Tensor, "P numbers"], layers: Sequence[LayerShape]) -> KeysAndValues:
    """Cut places' numbers into keys and values, layer by layer and head by head."""
    sizes = [size for one in layers for size in (one.heads * one.key, one.heads * one.value)]
    pieces = rows.split(sizes, dim=1)
    found = []
    for index, layer in enumerate(layers):
        keys, values = (
            piece.unflatten(1, (layer.heads, -1)).transpose(0, 1)
            for piece in pieces[2 * index : 2 * index + 2]
        )
        found.append((keys, values))
    return tuple(found)


def saved_deep_prompt(tensors: Mapping[str, Tensor]) -> KeysAndValues:
    """Give the keys and values of a finished run's deep prompt.

    Raises:
        KeyError: A tensor is missing.
        RuntimeError: Their shapes do not go together.
    """
    layers = [LayerShape(*map(int, row)) for row in tensors["layers"].tolist()]
    return split(tensors["weight"].float(), layers)


def _network(width: int, hidden: int, numbers: int, rng: np.random.Generator) -> nn.Module:
    """Build Linear(tanh(Linear)) with the initial values PyTorch gives such layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        return nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, numbers))
