"""The slow twin of packed passes, where attention cannot be replaced: rows and padding."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polyprompt.models.blocks import Blocks


def rows(blocks: Blocks, packed: Float[Tensor, "N D"]) -> Float[Tensor, "B L D"]:
    """Lay tokens out as one padded row per input, its blocks one after the other (L = G · S)."""
    return blocks.spread(packed).flatten(1, 2)


def tokens(blocks: Blocks, padded: Float[Tensor, "B L D"]) -> Float[Tensor, "N D"]:
    """Undo ``rows``."""
    return blocks.gather(padded.unflatten(1, blocks.place.shape[1:]))


def places(blocks: Blocks) -> Int[Tensor, "B L"]:
    """Give the positions of a padded row's tokens; 0 where there is none."""
    return blocks.positions[blocks.place].masked_fill(~blocks.real, 0).flatten(1)


def pattern(blocks: Blocks) -> Bool[Tensor, "B L L"]:
    """Say which token of a padded row may see which: those of its own block that it sees."""
    inputs, groups, size = blocks.place.shape
    sees = torch.zeros(
        (inputs, groups, size, groups, size), dtype=torch.bool, device=blocks.sees.device
    )
    own = torch.arange(groups, device=blocks.sees.device)
    sees[:, own, :, own] = blocks.sees.transpose(0, 1)
    return sees.flatten(3, 4).flatten(1, 2)
