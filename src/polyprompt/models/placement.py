"""How a decoder is told where its tokens stand, so that runs laid side by side do not shift."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from jaxtyping import Float, Int
from torch import Tensor, nn

from polyprompt.errors import BackboneError


class Placement(ABC):
    """Hands the places of tokens to a decoder for the length of one pass."""

    @abstractmethod
    def __init__(self, body: nn.Module) -> None:
        """Serve a decoder.

        Raises:
            BackboneError: It cannot be told where its tokens stand.
        """

    @property
    def slopes(self) -> Float[Tensor, " H"] | None:
        """ALiBi's slope of each head; None where places are told in another way."""
        return None

    @abstractmethod
    def arguments(self, positions: Int[Tensor, "B S"]) -> dict[str, Tensor]:
        """Give the decoder's further arguments for a pass whose attention knows places itself."""

    @abstractmethod
    @contextmanager
    def placed(
        self, positions: Int[Tensor, "B S"], key_positions: Int[Tensor, "B T"]
    ) -> Iterator[dict[str, Tensor]]:
        """Give the decoder's further arguments, valid until the pass is over.

        Args:
            positions: Places of the tokens that are computed.
            key_positions: Places of all tokens that they may see.
        """


class PositionArgument(Placement):
    """Rotary, learned and sinusoidal positions: the argument ``position_ids``."""

    def __init__(self, body: nn.Module) -> None:
        if "position_ids" not in inspect.signature(body.forward).parameters:
            raise BackboneError(
                f"{type(body).__name__} takes no position_ids and has no placement of its own: "
                "soft prompts of several runs cannot be laid side by side behind one text."
            )

    def arguments(self, positions: Int[Tensor, "B S"]) -> dict[str, Tensor]:
        """Give ``position_ids``."""
        return {"position_ids": positions}

    @contextmanager
    def placed(
        self,
        positions: Int[Tensor, "B S"],
        key_positions: Int[Tensor, "B T"],  # noqa: ARG002 (the keys carry their positions already)
    ) -> Iterator[dict[str, Tensor]]:
        """Give ``position_ids``."""
        yield self.arguments(positions)
