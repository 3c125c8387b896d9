"""A frozen backbone: embed, encode, extend, unembed – and one whole forward pass.

Axes: B inputs, T input tokens, S live tokens, D width, H heads, K head width, V vocabulary.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polyprompt.capabilities import Attention
from polyprompt.errors import BackboneError
from polyprompt.models.attachments import Attachments
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
