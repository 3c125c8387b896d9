"""A frozen backbone: embed, encode, extend, unembed – and one whole forward pass.

Axes: B inputs, T input tokens, S live tokens, D width, H heads, K head width, V vocabulary.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polyprompt.errors import BackboneError
from polyprompt.families import Attention
from polyprompt.models.attachments import Attachments
from polyprompt.models.blocks import Blocks
from polyprompt.models.unfrozen import Unfrozen
from polyprompt.models.values import Frozen, Inside, Part
from polyprompt.models.work import Work


@dataclass(frozen=True)
class LayerFacts:
    """What is found out about a backbone's layers by running them.

    Attributes:
        shapes: Key heads, width of a key and width of a value, of every layer.
        width: Of the last layer's states; that of the table may be another.
        is_shift_invariant: Whether states stay as they are when all positions are moved by the same
            number.
    """

    shapes: tuple[tuple[int, int, int], ...]
    width: int
    is_shift_invariant: bool


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
        guesses_masks: Whether its language-model head is asked at a mask, and not for what follows.
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
    guesses_masks: bool = False


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
    start_token: int | None = None
    """What a decoder that stands behind an encoder begins with; None for other models."""
    autocast: torch.dtype | None = None
    """Precision in which passes with gradient multiply; None for that of the weights."""
    checkpointing: bool = False
    """Whether packed passes with gradient keep only what enters each layer and compute it again."""
    attachments: Attachments
    """What stands behind its sub-layers."""
    variant: str = ""
    """Whose frozen attachments the pass is read with: a language; empty for none."""

    @property
    @abstractmethod
    def table(self) -> Float[Tensor, "V D"]:
        """The embedding table in whose space soft prompts live."""

    def mixed(self) -> AbstractContextManager[object]:
        """Let a pass with gradient multiply in another precision, if that is asked for."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.autocast)

    @contextmanager
    def reading_as(self, variant: str) -> Iterator[None]:
        """Let passes be read with the frozen attachments of a language."""
        before, self.variant = self.variant, variant
        try:
            yield
        finally:
            self.variant = before

    @property
    def has_words(self) -> bool:
        """Whether it has a language-model head."""
        return self.model.get_output_embeddings() is not None

    @property
    def look_up_scale(self) -> float:
        """What the model multiplies what it looks up in its word table with."""
        return 1.0

    @property
    @abstractmethod
    def stream_width(self) -> int:
        """Width of the residual stream, which what stands behind sub-layers adds to."""

    @abstractmethod
    def add_words(self, vectors: Float[Tensor, "P D"]) -> tuple[int, ...]:
        """Let frozen vectors be read like words.

        Args:
            vectors: In the space of the embedding table.

        Returns:
            Their ids, behind those of the vocabulary; equal vectors have equal ids.
        """

    @abstractmethod
    def share_words(self, other: "Backbone") -> None:
        """Let another copy of the model read what was added here, under the same ids."""

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

    @property
    @abstractmethod
    def layer_facts(self) -> LayerFacts:
        """What is found out about its layers by running them."""

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
    def grow(self, x: Float[Tensor, "N D"], part: Part) -> tuple[Float[Tensor, "N D"], Frozen]:
        """Compute the states of live tokens, and keep their keys and values for what follows.

        Args:
            x: Table-space vectors of the live tokens, one block per input.
            part: What they stand behind.

        Returns:
            States, and what is frozen from now on.
        """

    def read_encoder(
        self,
        x: Float[Tensor, "N D"],  # noqa: ARG002 (for models with a decoder)
        blocks: Blocks,  # noqa: ARG002 (as above)
    ) -> Frozen:
        """Read what stands in the encoder of a model that has a decoder; gradients flow into ``x``.

        Raises:
            BackboneError: It has none.
        """
        raise BackboneError(f"{self.facts.name} has no encoder apart from its decoder.")

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
