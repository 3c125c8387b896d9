"""Where packed tokens belong: one matrix of tokens, cut into blocks over frozen inputs.

Axes: N tokens, B frozen inputs, G blocks over an input at the most, S tokens of a block at the
most.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Blocks:
    """The blocks of a packed matrix; a token sees its block's frozen input and tokens of its block.

    Attributes:
        place: Row of the matrix that stands at a place of a block, B G S; any row where none does.
        real: Whether one does, B G S.
        home: Place of each token among all B · G · S.
        positions: Of each token in the whole input of its run, from 0.
        sees: Which token of a block (third axis) may see which (fourth), B G S S.
    """

    place: Int[Tensor, "B G S"]
    real: Bool[Tensor, "B G S"]
    home: Int[Tensor, " N"]
    positions: Int[Tensor, " N"]
    sees: Bool[Tensor, "B G S S"]

    def to(self, device: torch.device) -> "Blocks":
        """Copy to a device."""
        if self.place.device == device:
            return self
        tensors = self.place, self.real, self.home, self.positions, self.sees
        return Blocks(*(tensor.to(device) for tensor in tensors))

    @property
    def is_even(self) -> bool:
        """Whether all blocks are full, so that the matrix only has to be viewed."""
        return len(self.home) == self.place.numel()

    def spread(self, packed: Tensor) -> Tensor:
        """Lay ``… N K`` out as ``… B G S K``."""
        if self.is_even:
            return packed.unflatten(-2, self.place.shape)
        return packed.index_select(-2, self.place.flatten()).unflatten(-2, self.place.shape)

    def gather(self, spread: Tensor) -> Tensor:
        """Undo ``spread``."""
        flat = spread.flatten(-4, -2)
        return flat if self.is_even else flat.index_select(-2, self.home)


def lay_out(
    sizes: Sequence[Sequence[int]],
    positions: NDArray[np.int64],
    device: torch.device,
    *,
    causal: bool,
    branches: NDArray[np.int64] | None = None,
) -> Blocks:
    """Cut a matrix of tokens, in order, into blocks.

    Args:
        sizes: Tokens of each block of each input.
        positions: Of all tokens.
        device: Where the result is wanted.
        causal: Whether a token sees only tokens that do not stand behind it.
        branches: 0 for tokens that all of their block see; others see only those and their own
            number. None for all 0.
    """
    shape = len(sizes), max(map(len, sizes)), max([1, *(max([0, *row]) for row in sizes)])
    place = np.zeros(shape, dtype=np.int64)
    real = np.zeros(shape, dtype=bool)
    start = 0
    for row, counts in enumerate(sizes):
        for block, count in enumerate(counts):
            place[row, block, :count] = np.arange(start, start + count)
            real[row, block, :count] = True
            start += count
    of, own = positions[place] if start else place, None
    sees = real[..., None, :] & np.ones((*shape, shape[2]), dtype=bool)
    if causal:
        sees &= of[..., :, None] >= of[..., None, :]
    if branches is not None and start:
        own = branches[place]
        sees &= (own[..., None, :] == 0) | (own[..., None, :] == own[..., :, None])
    arrays = place, real, np.flatnonzero(real), positions, sees
    return Blocks(*(torch.from_numpy(array).to(device) for array in arrays))
