"""A model whose parameters are trained; of its word tables all rows, or those that occur.

Full fine-tuning moves the rows of words that occur and, without weight decay and with a loss over
label words alone, no others: their gradient is zero. A table of 250,000 words is almost half of
BLOOM-560M; gradients and moments of the rows that occur alone save gigabytes and the time to write
them.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

ROWS, IDS = "@rows", "@ids"
"""Ends of the names under which some rows of a table, and which they are, are kept."""


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
        self.ids = torch.tensor(sorted(set(ids)), dtype=torch.long, device=table.device)
        self._place = torch.full((len(table),), -1, device=table.device)
        self._place[self.ids] = torch.arange(len(self.ids), device=table.device)
        self.weight = nn.Parameter(table[self.ids].detach().clone())

    def forward(self, ids: Int[Tensor, "*N"]) -> Float[Tensor, "*N D"]:
        """Look words up; gradients flow into the rows that are trained."""
        place = self._place[ids]
        rows = self.weight[place.clamp(min=0)]
        return torch.where((place >= 0)[..., None], rows, self._table[ids])

    @torch.no_grad()
    def fold(self) -> None:
        """Write the trained rows into the table."""
        self._table[self.ids] = self.weight


class Unfrozen:
    """All parameters of a model while they are trained.

    Attributes:
        parameters: By the model's own names; rows of a table under its name and ``ROWS``.
    """

    def __init__(
        self, model: nn.Module, tables: Sequence[Tensor], ids: Iterable[int] | None
    ) -> None:
        """Make a frozen model trainable.

        Args:
            model: All of it.
            tables: Its word tables; one that is tied may be named twice.
            ids: Words of whose rows alone the tables are trained; None for whole tables.
        """
        self._model = model
        self._rows: dict[int, TrainedRows] = {}
        words = None if ids is None else sorted(set(ids))
        of_tables = set() if words is None else {id(table) for table in tables}
        self.parameters: dict[str, nn.Parameter] = {}
        for name, parameter in model.named_parameters():
            if id(parameter) in of_tables and words is not None:
                rows = TrainedRows(parameter, words)
                self._rows[id(parameter)] = rows
                self.parameters[name + ROWS] = rows.weight
            else:
                parameter.requires_grad = True
                self.parameters[name] = parameter

    def look_up(self, table: Tensor, ids: Int[Tensor, "*N"]) -> Float[Tensor, "*N D"]:
        """Look words up in a table as it is trained."""
        rows = self._rows.get(id(table))
        return table[ids] if rows is None else rows(ids)

    @property
    def has_whole_tables(self) -> bool:
        """Whether every row of the word tables is trained."""
        return not self._rows

    def ids(self) -> dict[str, Tensor]:
        """Give the words of tables whose rows are trained, under the table's name and ``IDS``."""
        chosen = [rows.ids for rows in self._rows.values()]
        names = [name for name in self.parameters if name.endswith(ROWS)]
        return {n.removesuffix(ROWS) + IDS: own for n, own in zip(names, chosen, strict=True)}

    def end(self) -> None:
        """Write trained rows back and freeze all parameters."""
        for rows in self._rows.values():
            rows.fold()
        self._model.requires_grad_(requires_grad=False)


@torch.no_grad()
def take_over(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Write trained parameters into a frozen model, in its own precision.

    Args:
        model: Of the kind they were trained in.
        tensors: As ``Unfrozen`` names them, words of rows included.

    Raises:
        KeyError: The model has no parameter of such a name.
        RuntimeError: A shape differs.
    """
    own = dict(model.named_parameters())
    for name, value in tensors.items():
        if name.endswith(ROWS):
            table = name.removesuffix(ROWS)
            ids = tensors[table + IDS].to(own[table].device)
            own[table][ids] = value.to(own[table])
        elif not name.endswith(IDS):
            own[name].copy_(value)
