"""Rows of a look-up table that are trained while the table itself stays as it is.

Full fine-tuning moves the rows of words that occur and, without weight decay and with a loss over
label words alone, no others: their gradient is zero. A table of 250,000 words is almost half of
BLOOM-560M; gradients and moments of the rows that occur alone save gigabytes and the time to write
them.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class TrainedRows(nn.Module):
    """Some rows of a table as parameters."""

    def __init__(self, table: Float[Tensor, "V D"], ids: Iterable[int]) -> None:
        """Copy rows out of a table.

        Args:
            table: Left as it is until ``fold``.
            ids: Words that occur in what is trained on, label words included.
        """
        super().__init__()
        self._table = table
        self._ids = torch.tensor(sorted(set(ids)), dtype=torch.long, device=table.device)
        self._place = torch.full((len(table),), -1, device=table.device)
        self._place[self._ids] = torch.arange(len(self._ids), device=table.device)
        self.weight = nn.Parameter(table[self._ids].detach().clone())

    def forward(self, ids: Int[Tensor, "*N"]) -> Float[Tensor, "*N D"]:
        """Look words up; gradients flow into the rows that are trained."""
        place = self._place[ids]
        rows = self.weight[place.clamp(min=0)]
        return torch.where((place >= 0)[..., None], rows, self._table[ids])

    @torch.no_grad()
    def fold(self) -> None:
        """Write the trained rows into the table."""
        self._table[self._ids] = self.weight
