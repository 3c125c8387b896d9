"""What passes over a backbone take and give: frozen tokens, deep prompts beside them, live tokens.

Axes: as in ``backbone``; M deep prompts, J key heads, P places of a deep prompt, G blocks of an
input, S tokens of a block.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from polyprompt.models.blocks import Blocks

KeysValues = tuple[tuple[Float[Tensor, "B H T K"], Float[Tensor, "B H T K"]], ...]


@dataclass(frozen=True)
class Frozen:
    """What a frozen backbone computed of a batch's frozen tokens; never changed, never trained.

    Attributes:
        layers: Keys and values of every layer.
        hidden: Last-layer states, B T D.
        mask: Which tokens are real, B T.
        positions: Their places in the whole input, B T.
        decoded: Of a model with a decoder, what its own tokens computed so far; the rest is the
            encoder's part then. None where there is no decoder, or nothing in it yet.
    """

    layers: KeysValues
    hidden: Float[Tensor, "B T D"]
    mask: Bool[Tensor, "B T"]
    positions: Int[Tensor, "B T"]
    decoded: "Frozen | None" = None

    def with_live(
        self, layers: KeysValues, blocks: Blocks, *, of_decoder: bool = False
    ) -> "Frozen":
        """Give what is there once live tokens, one block per input, are no longer live.

        Args:
            layers: Their keys and values.
            blocks: Theirs.
            of_decoder: Whether they are a decoder's own.
        """
        if of_decoder:
            before = self.decoded or self._empty(layers)
            return replace(self, decoded=before.with_live(layers, blocks))
        real, places = blocks.real.flatten(1), blocks.positions[blocks.place].flatten(1)
        nothing = self.hidden.new_zeros(*real.shape, self.hidden.shape[-1])
        return Frozen(
            tuple(
                (torch.cat([keys, new], 2), torch.cat([values, own], 2))
                for (keys, values), (new, own) in zip(self.layers, layers, strict=True)
            ),
            torch.cat([self.hidden, nothing], 1),
            torch.cat([self.mask, real], 1),
            torch.cat([self.positions, places.masked_fill(~real, 0)], 1),
        )

    def with_beside(
        self,
        layers: tuple[tuple[Float[Tensor, "J P K"], Float[Tensor, "J P K"]], ...],
        positions: NDArray[np.int64],
    ) -> "Frozen":
        """Give what is there with a deep prompt in every layer, seen by all that follows.

        Args:
            layers: Its keys and values.
            positions: Of its places in every input, B P.
        """
        device = self.mask.device
        places = torch.from_numpy(positions).to(device)
        inputs = len(places)
        hidden = self.hidden.new_zeros(*places.shape, self.hidden.shape[-1])
        return Frozen(
            tuple(
                (
                    torch.cat([deep.to(keys).expand(inputs, -1, -1, -1), keys], 2),
                    torch.cat([own.to(values).expand(inputs, -1, -1, -1), values], 2),
                )
                for (keys, values), (deep, own) in zip(self.layers, layers, strict=True)
            ),
            torch.cat([hidden, self.hidden], 1),
            torch.cat([torch.ones_like(places, dtype=torch.bool), self.mask], 1),
            torch.cat([places, self.positions], 1),
        )

    def _empty(self, layers: KeysValues) -> "Frozen":
        """Give no tokens for the same inputs."""
        return Frozen(
            tuple((keys[:, :, :0], values[:, :, :0]) for keys, values in layers),
            self.hidden[:, :0],
            self.mask[:, :0],
            self.positions[:, :0],
        )

    def rows(self, index: Int[Tensor, " M"]) -> "Frozen":
        """Select inputs, some of them perhaps several times."""
        return Frozen(
            tuple((keys[index], values[index]) for keys, values in self.layers),
            self.hidden[index],
            self.mask[index],
            self.positions[index],
            None if self.decoded is None else self.decoded.rows(index),
        )


@dataclass(frozen=True)
class Inside:
    """What a pass over whole padded rows computed on its way, layer by layer.

    Attributes:
        states: What enters the first layer, and what leaves each; L + 1 of B T D, the last one
            behind the model's final norm, if it has one.
        attention: Weights of each layer, queries by keys; L of B H T T.
    """

    states: tuple[Float[Tensor, "B T D"], ...]
    attention: tuple[Float[Tensor, "B H T T"], ...]


@dataclass(frozen=True)
class Beside:
    """Keys and values that stand beside the blocks of a pass: those of deep prompts.

    Attributes:
        layers: Of every layer, M deep prompts padded to P places: M J P K; gradients flow into
            them.
        real: Which places of each there are, M P.
        behind: Which of them stand behind the frozen tokens, where live tokens alone see them, M P.
        of_block: Which deep prompt a block sees, B G.
        positions: Of the places in the whole input of a block, B G P.
        live: Which tokens of the pass are live, N.
    """

    layers: tuple[tuple[Float[Tensor, "M J P K"], Float[Tensor, "M J P K"]], ...]
    real: Bool[Tensor, "M P"]
    behind: Bool[Tensor, "M P"]
    of_block: Int[Tensor, "B G"]
    positions: Int[Tensor, "B G P"]
    live: Bool[Tensor, " N"]

    def sees(self, blocks: Blocks) -> Bool[Tensor, "B G S P"]:
        """Say which token of a block sees which place of its deep prompt."""
        device = blocks.place.device
        of_block = self.of_block.to(device)
        real, behind = self.real.to(device)[of_block], self.behind.to(device)[of_block]
        return real[:, :, None] & (
            self.live.to(device)[blocks.place][..., None] | ~behind[:, :, None]
        )


@dataclass(frozen=True)
class Part:
    """Some of a pass's tokens, all in blocks of similar size.

    Attributes:
        blocks: Over the part's inputs.
        frozen: Of these inputs; None where nothing stands before the tokens.
        beside: Deep prompts that the tokens see besides; None for none.
    """

    blocks: Blocks
    frozen: Frozen | None = None
    beside: Beside | None = None
