"""A frozen backbone: embed, encode, extend, unembed – and one whole forward pass.

Axes: B inputs, T input tokens, S live tokens, D width, H heads, K head width, V vocabulary.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polyprompt.capabilities import Attention
from polyprompt.models.blocks import Blocks
from polyprompt.models.unfrozen import Unfrozen
from polyprompt.models.work import Work

KeysValues = tuple[tuple[Float[Tensor, "B H T K"], Float[Tensor, "B H T K"]], ...]


@dataclass(frozen=True)
class Frozen:
    """What a frozen backbone computed of a batch's frozen tokens; never changed, never trained.

    Attributes:
        layers: Keys and values of every layer.
        hidden: Last-layer states, B T D.
        mask: Which tokens are real, B T.
        positions: Their places in the whole input, B T.
    """

    layers: KeysValues
    hidden: Float[Tensor, "B T D"]
    mask: Bool[Tensor, "B T"]
    positions: Int[Tensor, "B T"]


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
class Part:
    """Some of a pass's tokens, all in blocks of similar size.

    Attributes:
        blocks: Over the part's inputs.
        frozen: Of these inputs; None where nothing stands before the tokens.
    """

    blocks: Blocks
    frozen: Frozen | None = None


@dataclass(frozen=True)
class BackboneFacts:
    """What is known about a loaded backbone.

    Attributes:
        name: As it was asked for.
        identity: Changes whenever weights or tokenizer change.
        attention: How it is run.
        width: D.
        max_positions: Most tokens of an input, soft ones included.
        text_prefix: Words its texts begin with.
        parameters: Number of frozen parameters.
        notes: Licence and cautions, for results.
        commit: Of a model of the Hub; empty for others.
        pooling: Which state stands for a text, ``mean`` or ``last``.
    """

    name: str
    identity: str
    attention: Attention
    width: int
    max_positions: int
    text_prefix: str
    parameters: int
    notes: tuple[str, ...] = ()
    commit: str = ""
    pooling: Literal["mean", "last"] = "mean"


class Backbone(ABC):
    """A frozen pre-trained model and its tokenizer."""

    model: PreTrainedModel
    """As transformers has it, head included."""
    facts: BackboneFacts
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    dtype: torch.dtype
    work: Work
    projection_weights: int
    is_exact: bool
    """Whether a token's states do not depend, but for float32's rounding, on its company."""
    packs: bool
    """Whether passes are packed; otherwise they are padded."""
    layers: tuple[nn.Module, ...]
    """As transformers marks them."""
    checkpointing: bool = False
    """Whether packed passes with gradient keep only what enters each layer and compute it again."""

    @property
    @abstractmethod
    def table(self) -> Float[Tensor, "V D"]:
        """The embedding table in whose space soft prompts live."""

    @abstractmethod
    def unfreeze(self, ids: Iterable[int] | None) -> Unfrozen:
        """Make all parameters trainable, for passes over whole inputs.

        Args:
            ids: Words that occur in what is trained on, label words included: of the word tables
                only their rows are trained, which is exact without weight decay and with a loss
                over label words alone. None for whole tables.
        """

    @abstractmethod
    def freeze(self) -> None:
        """End training: write trained rows back and freeze all parameters."""

    @abstractmethod
    def embed(self, ids: Int[Tensor, "*N"]) -> Float[Tensor, "*N D"]:
        """Look token ids up in the table."""

    @abstractmethod
    def encode(self, x: Float[Tensor, "N D"], blocks: Blocks) -> Frozen:
        """Compute keys, values and states of frozen tokens, without gradient.

        Args:
            x: Table-space vectors of all tokens.
            blocks: One block per input.
        """

    @abstractmethod
    def extend(self, x: Float[Tensor, "N D"], parts: Sequence[Part]) -> Float[Tensor, "N D"]:
        """Compute the states of live tokens that see their frozen input and some of their block.

        Args:
            x: Table-space vectors of the live tokens, part by part; gradients flow into them.
            parts: What they stand behind, and how.
        """

    @abstractmethod
    def whole(self, x: Float[Tensor, "N D"], blocks: Blocks) -> Float[Tensor, "N D"]:
        """Compute the states of whole inputs, one block each; gradients flow into ``x``."""

    @abstractmethod
    def forward(
        self,
        x: Float[Tensor, "B T D"],
        positions: Int[Tensor, "B T"],
        allowed: Bool[Tensor, "B T T"],
    ) -> Float[Tensor, "B T D"]:
        """Compute the whole forward pass of padded rows under an explicit attention pattern."""

    @abstractmethod
    def look_inside(
        self,
        x: Float[Tensor, "B T D"],
        positions: Int[Tensor, "B T"],
        allowed: Bool[Tensor, "B T T"],
    ) -> Inside:
        """Compute ``forward`` by transformers' eager attention, and keep what every layer did.

        Raises:
            BackboneError: The model does not show its attention.
        """

    @abstractmethod
    def unembed(
        self, hidden: Float[Tensor, "N D"], ids: Sequence[int] | None = None
    ) -> Float[Tensor, "N C"]:
        """Score words of the vocabulary from last-layer states.

        Args:
            hidden: Of the tokens before the words.
            ids: The words; only their rows of the head are used. None for the whole vocabulary.

        Raises:
            BackboneError: The model has no language-model head.
        """
