"""The embedding family: XLM-R and BERT sentence encoders, with one-way or full attention."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache, DynamicCache

from polyprompt.errors import BackboneError
from polyprompt.models import padded
from polyprompt.models.backbone import Backbone, BackboneFacts, Frozen
from polyprompt.models.blocks import Blocks
from polyprompt.models.checkpoint import make_checkpointable
from polyprompt.models.frozen_cache import attention_bias, kept, reading
from polyprompt.models.fusion import fuse_activations
from polyprompt.models.packed import Pack, attends_by_packs, packed, spread_layers
from polyprompt.models.weights import device_of, is_exact, weight_of
from polyprompt.models.work import Work, projection_weights


class EmbeddingBackbone(Backbone):
    """A transformers encoder of the BERT or XLM-R kind.

    Positions of XLM-R and RoBERTa begin after the padding index; the offset is read from the
    model, not from its name.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        facts: BackboneFacts,
        position_offset: int,
    ) -> None:
        """Wrap a loaded model; it is frozen and set to evaluation here."""
        self._model = model.eval().requires_grad_(requires_grad=False)
        self.tokenizer = tokenizer
        self.facts = facts
        self._offset = position_offset
        self.is_exact = is_exact(model)
        embeddings = model.get_input_embeddings()
        self._table = weight_of(embeddings)
        self.device, self.dtype = device_of(embeddings), model.dtype
        fuse_activations(self._model)
        self.layers = make_checkpointable(self._model, [model.config])
        self.work, self.projection_weights = Work(), projection_weights(self._model)
        self.packs = attends_by_packs(
            lambda blocks: self.pack(blocks, None, keep=True),
            lambda ids, pack: self.packed(self.embed(ids), pack),
            self.device,
        )

    @property
    def table(self) -> Float[Tensor, "V D"]:
        """The word embeddings."""
        return self._table

    def embed(self, ids: Int[Tensor, "*N"]) -> Float[Tensor, "*N D"]:
        """Look token ids up in the table."""
        return self._table[ids.to(self._table.device)].to(self.device)

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "N D"], blocks: Blocks) -> Frozen:
        """Compute keys, values and states of the text, which attends to text alone."""
        self.count(len(x), len(x) if self.packs else blocks.place.numel(), x)
        if self.packs:
            pack = self.pack(blocks, None, keep=True)
            hidden = padded.rows(blocks, self.packed(x, pack))
            return Frozen(spread_layers(pack), hidden, blocks.real[:, 0], padded.places(blocks))
        cache = DynamicCache()
        places, allowed = padded.places(blocks), padded.pattern(blocks)
        hidden = self._run(padded.rows(blocks, x), places, allowed, cache)
        return Frozen(kept(cache), hidden, blocks.real[:, 0], places)

    def extend(
        self, frozen: Frozen, x: Float[Tensor, "N D"], blocks: Blocks
    ) -> Float[Tensor, "N D"]:
        """Compute the states of soft tokens over cached text."""
        self.count(len(x), len(x) if self.packs else blocks.place.numel(), x)
        if self.packs:
            return self.packed(x, self.pack(blocks, frozen))
        positions = padded.places(blocks)
        text = frozen.mask[:, None, :].expand(-1, positions.shape[1], -1)
        whole = torch.cat([text, padded.pattern(blocks)], dim=2)
        states = self._run(padded.rows(blocks, x), positions, whole, reading(frozen))
        return padded.tokens(blocks, states)

    def whole(self, x: Float[Tensor, "N D"], blocks: Blocks) -> Float[Tensor, "N D"]:
        """Compute the states of whole inputs, one block each."""
        self.count(len(x), len(x) if self.packs else blocks.place.numel(), x)
        if self.packs:
            return self.packed(x, self.pack(blocks, None))
        rows, places = padded.rows(blocks, x), padded.places(blocks)
        return padded.tokens(blocks, self.forward(rows, places, padded.pattern(blocks)))

    def pack(self, blocks: Blocks, frozen: Frozen | None, *, keep: bool = False) -> Pack:
        """Prepare a packed pass."""
        windows = [None] * self._model.config.num_hidden_layers
        layers = [] if keep else None
        return Pack(blocks, frozen, windows, layers=layers, checkpointing=self.checkpointing)

    def packed(self, x: Float[Tensor, "N D"], pack: Pack) -> Float[Tensor, "N D"]:
        """Run the encoder on a packed matrix of table-space vectors."""
        with packed(pack, [self._model.config]):
            out = self._model(
                inputs_embeds=x[None],
                position_ids=pack.blocks.positions[None] + self._offset,
                past_key_values=pack.cache(len(pack.windows)),
            )
        return out.last_hidden_state[0]

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        positions: Int[Tensor, "B T"],
        allowed: Bool[Tensor, "B T T"],
    ) -> Float[Tensor, "B T D"]:
        """Compute the whole forward pass of padded rows under an explicit attention pattern."""
        return self._run(x, positions, allowed, None)

    def unembed(
        self,
        hidden: Float[Tensor, "N D"],  # noqa: ARG002 (it has no words to score)
        ids: Sequence[int] | None = None,  # noqa: ARG002 (it has no words to score)
    ) -> Float[Tensor, "N C"]:
        """Refuse: sentence encoders answer by similarity."""
        raise BackboneError(
            f"{self.facts.name} is a sentence encoder without a language-model head. Use "
            "head.kind=similarity."
        )

    def _run(self, x: Tensor, positions: Tensor, allowed: Tensor, cache: Cache | None) -> Tensor:
        """Run the model on table-space vectors with a boolean attention pattern B S T."""
        out = self._model(
            inputs_embeds=x,
            attention_mask=attention_bias(allowed, x.dtype),
            position_ids=positions + self._offset,
            past_key_values=cache,
        )
        return out.last_hidden_state
