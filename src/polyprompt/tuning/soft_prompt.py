"""A soft prompt: P trained vectors in the space of the embedding table (Lester et al. 2021)."""

from jaxtyping import Float
from torch import Tensor, nn


class SoftPrompt(nn.Module):
    """Trained vectors for one slot of the layout."""

    def __init__(self, initial: Float[Tensor, "P D"], *, trained: bool = True) -> None:
        """Begin from an initial value.

        Args:
            initial: Table-space vectors; copied.
            trained: False keeps the value as it is.
        """
        super().__init__()
        self.weight = nn.Parameter(initial.detach().clone().float(), requires_grad=trained)

    def forward(self) -> Float[Tensor, "P D"]:
        """Give the vectors that stand in the slot."""
        return self.weight

    @property
    def length(self) -> int:
        """Soft tokens (P)."""
        return self.weight.shape[0]
