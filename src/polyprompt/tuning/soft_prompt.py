"""A soft prompt: P trained vectors in the space of the embedding table (Lester et al. 2021)."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polyprompt.errors import DataError, listing
from polyprompt.tuning.part import TrainablePart

_UNFOLDED = "unfolded."


class SoftPrompt(TrainablePart):
    """Trained vectors for one slot of the layout, computed by a network where there is one.

    Attributes:
        weight: What is trained, P D; the vectors themselves without a network.
        network: Turns ``weight`` into the vectors; thrown away when they are folded.
        kind: The network's name; empty without one.
    """

    def __init__(
        self,
        initial: Float[Tensor, "P D"],
        *,
        trained: bool = True,
        network: nn.Module | None = None,
        kind: str = "",
    ) -> None:
        """Begin from an initial value.

        Args:
            initial: Table-space vectors; copied.
            trained: False keeps the value as it is.
            network: A reparameteriser from P D to P D.
            kind: Its name.
        """
        super().__init__()
        self.weight = nn.Parameter(initial.detach().clone().float(), requires_grad=trained)
        self.network, self.kind = network, kind

    def forward(self) -> Float[Tensor, "P D"]:
        """Give the vectors that stand in the slot."""
        return self.weight if self.network is None else self.network(self.weight)

    @property
    def length(self) -> int:
        """Soft tokens (P)."""
        return self.weight.shape[0]

    @torch.no_grad()
    def tensors(self) -> dict[str, Tensor]:
        """Give the folded vectors and, for going on with training, what computed them."""
        folded = {"weight": self().clone()}
        return folded if self.network is None else folded | self._unfolded()

    @torch.no_grad()
    def resume(self, saved: Mapping[str, Tensor], where: str) -> None:
        """Go on from what ``tensors`` gave of a prompt with the same network.

        Args:
            saved: The tensors.
            where: They were read, for the message.

        Raises:
            DataError: They are of a prompt without a network or with another one.
        """
        own = self._unfolded()
        if {n: t.shape for n, t in own.items()} != {
            n: t.shape for n, t in saved.items() if n.startswith(_UNFOLDED)
        }:
            kinds = sorted({name.split(".")[1] for name in saved if name.startswith(_UNFOLDED)})
            raise DataError(
                f"{where} was saved {f'by the network {listing(kinds)}' if kinds else 'folded'}; "
                f"a {self.kind} of this size cannot go on from it. Set the reparameteriser it was "
                "trained with, or none, which begins with the folded prompt."
            )
        for name, value in own.items():
            value.copy_(saved[name])

    def _unfolded(self) -> dict[str, Tensor]:
        """Name what is trained, the network's kind in every name."""
        front = f"{_UNFOLDED}{self.kind}."
        return {front + name: value for name, value in self.state_dict().items()}
