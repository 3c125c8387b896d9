"""The slow twin of packed passes, where attention cannot be replaced: rows and padding."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polyprompt.models.blocks import Blocks
from polyprompt.models.values import Beside, Frozen, KeysValues, Part


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


@dataclass(frozen=True)
class Before:
    """What a part's padded rows find in front of them.

    Attributes:
        layers: Keys and values of every layer, frozen ones and then those of deep prompts; empty
            for nothing.
        allowed: Which token of a row may see them, B L T.
        positions: Theirs, B T.
    """

    layers: KeysValues
    allowed: Bool[Tensor, "B L T"]
    positions: Int[Tensor, "B T"]


def before(part: Part, dtype: torch.dtype) -> Before:
    """Collect what stands in front of a part's rows.

    Args:
        part: Its blocks, frozen inputs and deep prompts.
        dtype: Of the pass.
    """
    blocks = part.blocks
    inputs, length = blocks.place.shape[0], blocks.place.shape[1:].numel()
    nothing = blocks.positions.new_zeros(inputs, 0)
    found = [Before((), nothing[:, None].expand(-1, length, -1).bool(), nothing)]
    found += [_frozen_before(part.frozen, length)] if part.frozen else []
    found += [_deep_before(part.beside, blocks, dtype)] if part.beside else []
    layers = [one.layers for one in found if one.layers]
    return Before(
        tuple(
            (torch.cat([k for k, _ in of_layer], 2), torch.cat([v for _, v in of_layer], 2))
            for of_layer in zip(*layers, strict=True)
        ),
        torch.cat([one.allowed for one in found], dim=2),
        torch.cat([one.positions for one in found], dim=1),
    )


def _frozen_before(frozen: Frozen, length: int) -> Before:
    """Let all tokens of a row see its frozen ones."""
    allowed = frozen.mask[:, None, :].expand(-1, length, -1)
    return Before(frozen.layers, allowed, frozen.positions)


def _deep_before(beside: Beside, blocks: Blocks, dtype: torch.dtype) -> Before:
    """Put the deep prompts of a row's blocks side by side; a block sees its own."""
    inputs, groups, size = blocks.place.shape
    layers = tuple(
        tuple(one.to(dtype)[beside.of_block].transpose(1, 2).flatten(2, 3) for one in pair)
        for pair in beside.layers
    )
    places = beside.positions.shape[2]
    allowed = torch.zeros(
        (inputs, groups, size, groups, places), dtype=torch.bool, device=blocks.place.device
    )
    own = torch.arange(groups, device=blocks.place.device)
    allowed[:, own, :, own] = beside.sees(blocks).transpose(0, 1)
    positions = beside.positions.flatten(1)
    return Before(layers, allowed.flatten(3, 4).flatten(1, 2), positions)  # type: ignore[arg-type]
