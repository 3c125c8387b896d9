"""Passes that all families have in common: packed where attention can be replaced, else padded."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.cache_utils import DynamicCache

from polyprompt.errors import BackboneError
from polyprompt.models import padded
from polyprompt.models.added import AddedWords
from polyprompt.models.attachments import Attachments
from polyprompt.models.backbone import Backbone, LayerFacts
from polyprompt.models.blocks import Blocks, lay_out
from polyprompt.models.checkpoint import make_checkpointable
from polyprompt.models.frozen_cache import growing, kept, reading
from polyprompt.models.fusion import fuse_activations
from polyprompt.models.packable import make_packable
from polyprompt.models.packed import Pack, Switch, attends_by_packs
from polyprompt.models.unfrozen import Unfrozen
from polyprompt.models.values import Frozen, Inside, Part
from polyprompt.models.weights import weight_of
from polyprompt.models.work import Work, projection_weights


class PackingBackbone(Backbone):
    """A backbone on a transformers model whose attention it takes over."""

    def prepare(self, body: nn.Module, configs: Sequence[PretrainedConfig]) -> None:
        """Fuse activations, take attention over and find out whether that works.

        Args:
            body: The model without its head, frozen.
            configs: In which it looks up its implementation of attention.
        """
        self._unfrozen: Unfrozen | None = None
        self._layer_facts: LayerFacts | None = None
        fuse_activations(body)
        make_packable(body)
        self.switch = Switch(configs)
        self.layers = make_checkpointable(body, self.switch)
        self.attachments = Attachments(self.layers)
        self._added = AddedWords(self.table)
        self.work, self.projection_weights = Work(), projection_weights(body)
        self.packs = attends_by_packs(
            lambda blocks: self.pack([Part(blocks)], keep=True),
            lambda ids, pack: self.packed(self.embed(ids), pack),
            self.device,
        )

    def unfreeze(self, ids: Iterable[int] | None) -> Unfrozen:
        """Make all parameters trainable, for passes over whole inputs; see ``Backbone``."""
        modules = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        tables = [weight_of(module) for module in modules if module is not None]
        self._unfrozen = Unfrozen(self.model, tables, ids)
        return self._unfrozen

    def freeze(self) -> None:
        """End training: write the trained rows back and freeze all parameters."""
        if self._unfrozen is not None:
            self._unfrozen.end()
        self._unfrozen = None

    @property
    def has_whole_tables(self) -> bool:
        """Whether the word tables are as the model has them, and not some of their rows trained."""
        return self._unfrozen is None or self._unfrozen.has_whole_tables

    @property
    def stream_width(self) -> int:
        """Width of the residual stream."""
        return int(self.model.config.get_text_config(decoder=True).hidden_size)

    def embed(self, ids: Int[Tensor, "*N"]) -> Float[Tensor, "*N D"]:
        """Look token ids up in the table, and those behind it among what was added."""
        ids = ids.to(self.table.device)
        words = self.look_up(self.table, self._added.clamped(ids))
        return self._added.among(words, ids).to(self.device)

    def add_words(self, vectors: Float[Tensor, "P D"]) -> tuple[int, ...]:
        """Let frozen vectors be read like words; see ``Backbone``."""
        return self._added.add(vectors)

    def share_words(self, other: Backbone) -> None:
        """Let another copy of the model read what was added here, under the same ids."""
        assert isinstance(other, PackingBackbone)
        other._added.take_over(self._added)

    def look_up(self, table: Tensor, ids: Int[Tensor, "*N"]) -> Float[Tensor, "*N D"]:
        """Look words up in one of the word tables, as it is trained."""
        return table[ids] if self._unfrozen is None else self._unfrozen.look_up(table, ids)

    @abstractmethod
    def pack(self, parts: Sequence[Part], *, keep: bool = False) -> Pack:
        """Prepare a packed pass.

        Args:
            parts: Of its tokens.
            keep: Whether its keys and values are wanted.
        """

    @abstractmethod
    def packed(self, x: Float[Tensor, "N D"], pack: Pack) -> Float[Tensor, "N D"]:
        """Run the model on a packed matrix of table-space vectors."""

    @abstractmethod
    def outputs(
        self,
        x: Float[Tensor, "B S D"],
        positions: Int[Tensor, "B S"],
        allowed: Bool[Tensor, "B S T"],
        key_positions: Int[Tensor, "B T"],
        cache: Any,
        **wanted: bool,
    ) -> Any:
        """Run the model on padded rows of table-space vectors behind what a cache holds.

        Args:
            x: The vectors.
            positions: Theirs.
            allowed: What each of them may see.
            key_positions: Of all that can be seen.
            cache: Keys and values in front of them; None for nothing.
            wanted: What else transformers is to give, besides the last states.

        Returns:
            One of transformers' model outputs.
        """

    def run(
        self,
        x: Float[Tensor, "B S D"],
        positions: Int[Tensor, "B S"],
        allowed: Bool[Tensor, "B S T"],
        key_positions: Int[Tensor, "B T"],
        cache: Any,
    ) -> Float[Tensor, "B S D"]:
        """Run the model on padded rows and give its last states; see ``outputs``."""
        with self.switch.own():
            out = self.outputs(x, positions, allowed, key_positions, cache)
        return out.last_hidden_state.to(self.device)

    @property
    def layer_facts(self) -> LayerFacts:
        """What is found out about the layers by running them; once."""
        if self._layer_facts is None:
            here, moved = (self._probe(start + np.arange(4)) for start in (0, 9))
            states = here.hidden.float()
            apart = (states - moved.hidden.float()).abs().max()
            limit = 1e-3 if self.is_exact else 5e-2
            self._layer_facts = LayerFacts(
                tuple((k.shape[1], k.shape[3], v.shape[3]) for k, v in here.layers),
                states.shape[-1],
                is_shift_invariant=bool(apart <= limit * states.abs().max().clamp(min=1e-9)),
            )
        return self._layer_facts

    def _probe(self, positions: NDArray[np.int64]) -> Frozen:
        """Encode some words at some positions."""
        ids = torch.arange(4, 4 + len(positions), device=self.device) % self.table.shape[0]
        blocks = lay_out([[len(positions)]], positions, self.device, causal=True)
        return self.encode(self.embed(ids), blocks)

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "N D"], blocks: Blocks) -> Frozen:
        """Compute keys, values and states of the tokens before anything trained."""
        self._count(x, blocks)
        places, real = padded.places(blocks), blocks.real[:, 0]
        if self.packs:
            pack = self.pack([Part(blocks)], keep=True)
            hidden = padded.rows(blocks, self.packed(x, pack))
            assert pack.layers is not None
            layers = tuple(pack.layers)
        else:
            cache = DynamicCache()  # without a configuration, so that no window is cropped
            pattern = padded.pattern(blocks)
            hidden = self.run(padded.rows(blocks, x), places, pattern, places, cache)
            layers = kept(cache)
        return Frozen(layers, hidden.masked_fill(~real[..., None], 0), real, places)

    def extend(self, x: Float[Tensor, "N D"], parts: Sequence[Part]) -> Float[Tensor, "N D"]:
        """Compute the states of live tokens, which see frozen ones and some of their block."""
        self._count(x, *(part.blocks for part in parts))
        if self.packs:
            return self.packed(x, self.pack(parts))
        pieces = x.split([len(part.blocks.positions) for part in parts])
        return torch.cat([self._behind(*pair) for pair in zip(pieces, parts, strict=True)])

    def grow(self, x: Float[Tensor, "N D"], part: Part) -> tuple[Float[Tensor, "N D"], Frozen]:
        """Compute the states of live tokens, and keep their keys and values; see ``Backbone``."""
        assert part.frozen is not None
        self._count(x, part.blocks)
        if self.packs:
            pack = self.pack([part], keep=True)
            states = self.packed(x, pack)
            assert pack.layers is not None
            return states, part.frozen.with_live(tuple(pack.layers), part.blocks)
        cache = growing(part.frozen.layers)
        states = self._behind(x, part, cache)
        places = part.blocks.place.shape[1:].numel()
        new = tuple((keys[:, :, -places:], values[:, :, -places:]) for keys, values in kept(cache))
        return states, part.frozen.with_live(new, part.blocks)

    def whole(self, x: Float[Tensor, "N D"], blocks: Blocks) -> Float[Tensor, "N D"]:
        """Compute the states of whole inputs, one block each."""
        self._count(x, blocks)
        if self.packs:
            return self.packed(x, self.pack([Part(blocks)]))
        rows, places = padded.rows(blocks, x), padded.places(blocks)
        return padded.tokens(blocks, self.forward(rows, places, padded.pattern(blocks)))

    def _behind(self, x: Tensor, part: Part, cache: Any = None) -> Tensor:
        """Compute the states of one part's live tokens by a padded pass.

        Args:
            x: Their vectors.
            part: What they stand behind.
            cache: That has it and keeps theirs, too; None for one that keeps nothing.
        """
        blocks = part.blocks
        positions, before = padded.places(blocks), padded.before(part, x.dtype)
        key_positions = torch.cat([before.positions, positions], dim=1)
        allowed = torch.cat([before.allowed, padded.pattern(blocks)], dim=2)
        cache = cache or (reading(before.layers) if before.layers else None)
        states = self.run(padded.rows(blocks, x), positions, allowed, key_positions, cache)
        return padded.tokens(blocks, states)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        positions: Int[Tensor, "B T"],
        allowed: Bool[Tensor, "B T T"],
    ) -> Float[Tensor, "B T D"]:
        """Compute the whole forward pass of padded rows under an explicit attention pattern."""
        return self.run(x, positions, allowed, positions, None)

    @torch.no_grad()
    def look_inside(
        self,
        x: Float[Tensor, "B T D"],
        positions: Int[Tensor, "B T"],
        allowed: Bool[Tensor, "B T T"],
    ) -> Inside:
        """Compute the whole forward pass of padded rows and keep what every layer did."""
        wanted = {"output_hidden_states": True, "output_attentions": True}
        with self.switch.eager():
            out = self.outputs(x, positions, allowed, positions, None, **wanted)
        states, attention = out.hidden_states or (), out.attentions or ()
        layers = len(self.layers)
        widths = {one.shape[-1] for one in states}
        if len(states) != layers + 1 or len(attention) != layers or len(widths) > 1:
            raise BackboneError(
                f"{self.facts.name} does not show the states and the attention of its {layers} "
                f"layers (it gave {len(states)} states of {len(widths)} widths and the attention "
                f"of {len(attention)} layers). Take states and attention out of record."
            )
        return Inside(
            tuple(one.to(self.device) for one in states),
            tuple(one.to(self.device) for one in attention),
        )

    def _count(self, x: Tensor, *blocks: Blocks) -> None:
        """Note a pass over ``x``."""
        slots = len(x) if self.packs else sum(one.place.numel() for one in blocks)
        backward = torch.is_grad_enabled() and x.requires_grad
        self.work.count(len(x), slots, self.projection_weights, backward=backward)
