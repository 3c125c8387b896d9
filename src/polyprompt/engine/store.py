"""Keeps what a frozen backbone computed of single inputs, under a byte budget and a full key."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polyprompt.models.backbone import Frozen

Key = tuple[str, bytes, bytes]


@dataclass(frozen=True)
class _Row:
    """One input's keys, values and states, without padding."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    hidden: Tensor
    positions: Tensor

    @property
    def bytes(self) -> int:
        """Memory of the row's tensors."""
        pairs = sum(k.nbytes + v.nbytes for k, v in self.layers)
        return pairs + self.hidden.nbytes


class FrozenStore:
    """A dictionary of rows that takes no more when its budget is spent."""

    def __init__(self, budget_bytes: int) -> None:
        """Hold at most ``budget_bytes`` of tensors."""
        self._budget = budget_bytes
        self._rows: dict[Key, _Row] = {}
        self.bytes = 0
        self.is_full = budget_bytes == 0

    def __contains__(self, key: Key) -> bool:
        """Say whether an input is kept."""
        return key in self._rows

    def __len__(self) -> int:
        """Count the inputs kept."""
        return len(self._rows)

    def add(self, keys: Sequence[Key], frozen: Frozen) -> None:
        """Keep the rows that the budget has room for, copied out of their batch."""
        for index, (key, size) in enumerate(zip(keys, frozen.mask.sum(1).tolist(), strict=True)):
            row = _Row(
                tuple(
                    (k[index, :, :size].clone(), v[index, :, :size].clone())
                    for k, v in frozen.layers
                ),
                frozen.hidden[index, :size].clone(),
                frozen.positions[index, :size].clone(),
            )
            if key in self._rows:
                continue
            if self.bytes + row.bytes > self._budget:
                self.is_full = True
                return
            self._rows[key] = row
            self.bytes += row.bytes

    def batch(self, keys: Sequence[Key]) -> Frozen:
        """Put kept rows together again, padded on the right.

        Raises:
            KeyError: One of them is not kept.
        """
        rows = [self._rows[key] for key in keys]
        sizes = torch.tensor([len(row.hidden) for row in rows])
        width = int(sizes.max())
        layers = tuple(
            (
                _stack([row.layers[layer][0] for row in rows], width),
                _stack([row.layers[layer][1] for row in rows], width),
            )
            for layer in range(len(rows[0].layers))
        )
        hidden = _stack([row.hidden for row in rows], width)
        mask = torch.arange(width)[None] < sizes[:, None]
        positions = _stack([row.positions[:, None] for row in rows], width)[..., 0]
        return Frozen(layers, hidden, mask.to(hidden.device), positions)


def _stack(rows: Sequence[Tensor], width: int) -> Tensor:
    """Stack tensors along a new first axis, their second-last axis filled with zeros."""
    *lead, _, last = rows[0].shape
    out = rows[0].new_zeros((len(rows), *lead, width, last))
    for index, row in enumerate(rows):
        out[index, ..., : row.shape[-2], :] = row
    return out
