"""Frozen vectors that are read like words: soft prompts of earlier runs, under ids of their own."""

import hashlib

import torch
from jaxtyping import Float, Int
from torch import Tensor


class AddedWords:
    """Rows behind those of an embedding table."""

    def __init__(self, table: Float[Tensor, "V D"]) -> None:
        """Begin with none."""
        self._first = len(table)
        self._rows = table[:0].detach().float()
        self._known: dict[str, tuple[int, ...]] = {}

    def add(self, vectors: Float[Tensor, "P D"]) -> tuple[int, ...]:
        """Add vectors; equal ones are added once.

        Returns:
            Their ids.
        """
        rows = vectors.detach().float().cpu().contiguous()
        name = hashlib.sha256(rows.numpy().tobytes()).hexdigest()
        if name not in self._known:
            start = self._first + len(self._rows)
            self._known[name] = tuple(range(start, start + len(rows)))
            self._rows = torch.cat([self._rows, rows.to(self._rows.device)])
        return self._known[name]

    def take_over(self, other: "AddedWords") -> None:
        """Have the same vectors under the same ids as another table's."""
        self._rows = other._rows.to(self._rows.device)
        self._known = dict(other._known)

    def clamped(self, ids: Int[Tensor, "*N"]) -> Int[Tensor, "*N"]:
        """Give ids that the table has, for those that it has not any one."""
        return ids.clamp(max=self._first - 1) if len(self._rows) else ids

    def among(self, words: Float[Tensor, "*N D"], ids: Int[Tensor, "*N"]) -> Float[Tensor, "*N D"]:
        """Put added vectors in the place of words where ids are behind the table's."""
        if not len(self._rows):
            return words
        rows = self._rows[(ids - self._first).clamp(min=0)].to(words.dtype)
        return torch.where((ids >= self._first)[..., None], rows, words)
