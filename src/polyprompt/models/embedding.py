"""The embedding family: XLM-R and BERT sentence encoders, with one-way or full attention."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from polyprompt.errors import BackboneError
from polyprompt.models.backbone import Backbone, BackboneFacts, Frozen


class _FrozenLayer(DynamicLayer):
    """A cache layer that hands out frozen + new keys and values and keeps nothing."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True
        self._frozen = keys, values

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_options: Any
    ) -> tuple[Tensor, Tensor]:
        """Join without storing, so that a frozen value serves any number of passes."""
        return (
            torch.cat([self._frozen[0], key_states], dim=-2),
            torch.cat([self._frozen[1], value_states], dim=-2),
        )


def _kept(layer: object) -> tuple[Tensor, Tensor]:
    """Take the keys and values that a forward pass left in a cache layer."""
    assert isinstance(layer, DynamicLayer)
    assert layer.keys is not None
    assert layer.values is not None
    return layer.keys, layer.values


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
        self.device, self.dtype = model.device, model.dtype

    @property
    def table(self) -> Float[Tensor, "V D"]:
        """The word embeddings."""
        weight = self._model.get_input_embeddings().weight
        assert isinstance(weight, Tensor)
        return weight

    def embed(self, ids: Int[Tensor, "*N"]) -> Float[Tensor, "*N D"]:
        """Look token ids up in the table."""
        return self.table[ids]

    @torch.no_grad()
    def encode(
        self,
        x: Float[Tensor, "B T D"],
        positions: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
    ) -> Frozen:
        """Compute keys, values and states of the text, which attends to text alone."""
        cache = DynamicCache()
        hidden = self._run(x, positions, mask[:, None, :].expand(-1, x.shape[1], -1), cache)
        return Frozen(tuple(_kept(layer) for layer in cache.layers), hidden, mask)

    def extend(
        self,
        frozen: Frozen,
        x: Float[Tensor, "B S D"],
        positions: Int[Tensor, "B S"],
        allowed: Bool[Tensor, "B S S"],
    ) -> Float[Tensor, "B S D"]:
        """Compute the states of soft tokens over cached text."""
        text = frozen.mask[:, None, :].expand(-1, x.shape[1], -1)
        cache = Cache(layers=[_FrozenLayer(k, v) for k, v in frozen.layers])
        return self._run(x, positions, torch.cat([text, allowed], dim=2), cache)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        positions: Int[Tensor, "B T"],
        allowed: Bool[Tensor, "B T T"],
    ) -> Float[Tensor, "B T D"]:
        """Compute the whole forward pass under an explicit attention pattern."""
        return self._run(x, positions, allowed, None)

    def unembed(
        self,
        hidden: Float[Tensor, "N D"],  # noqa: ARG002
        ids: Sequence[int],  # noqa: ARG002
    ) -> Float[Tensor, "N C"]:
        """Refuse: sentence encoders answer by similarity."""
        raise BackboneError(
            f"{self.facts.name} is a sentence encoder without a language-model head. Use "
            "head.kind=similarity."
        )

    def _run(self, x: Tensor, positions: Tensor, allowed: Tensor, cache: Cache | None) -> Tensor:
        """Run the model on table-space vectors with a boolean attention pattern B S T."""
        bias = torch.zeros(allowed.shape, dtype=x.dtype, device=x.device)
        bias = bias.masked_fill(~allowed, torch.finfo(x.dtype).min)
        out = self._model(
            inputs_embeds=x,
            attention_mask=bias[:, None],
            position_ids=positions + self._offset,
            past_key_values=cache,
        )
        return out.last_hidden_state
