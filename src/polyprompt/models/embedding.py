"""The embedding family: XLM-R and BERT sentence encoders, with one-way or full attention."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache

from polyprompt.errors import BackboneError
from polyprompt.models.backbone import BackboneFacts
from polyprompt.models.frozen_cache import attention_bias
from polyprompt.models.packed import Pack
from polyprompt.models.passes import PackingBackbone
from polyprompt.models.values import Part
from polyprompt.models.weights import device_of, is_exact, weight_of


class EmbeddingBackbone(PackingBackbone):
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
        self.model = model.eval().requires_grad_(requires_grad=False)
        self._body = model.base_model
        self.tokenizer = tokenizer
        self.facts = facts
        self._offset = position_offset
        self.is_exact = is_exact(model)
        embeddings = model.get_input_embeddings()
        self._table = weight_of(embeddings)
        self.device, self.dtype = device_of(embeddings), model.dtype
        self.prepare(self._body, [model.config])

    @property
    def table(self) -> Float[Tensor, "V D"]:
        """The word embeddings."""
        return self._table

    def pack(self, parts: Sequence[Part], *, keep: bool = False) -> Pack:
        """Prepare a packed pass."""
        windows = [None] * self.model.config.num_hidden_layers
        return Pack(parts, windows, keep=keep, checkpointing=self.checkpointing)

    def packed(self, x: Float[Tensor, "N D"], pack: Pack) -> Float[Tensor, "N D"]:
        """Run the encoder on a packed matrix of table-space vectors."""
        with self.switch.packed(pack):
            out = self._body(
                inputs_embeds=x[None],
                position_ids=pack.positions[None] + self._offset,
                past_key_values=pack.cache(),
            )
        return out.last_hidden_state[0].to(self.device)

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

    def outputs(
        self,
        x: Float[Tensor, "B S D"],
        positions: Int[Tensor, "B S"],
        allowed: Bool[Tensor, "B S T"],
        key_positions: Int[Tensor, "B T"],  # noqa: ARG002 (the keys carry their positions already)
        cache: Cache | None,
        **wanted: bool,
    ) -> Any:
        """Run the encoder on padded rows."""
        return self._body(
            inputs_embeds=x,
            attention_mask=attention_bias(allowed, x.dtype),
            position_ids=positions + self._offset,
            past_key_values=cache,
            **wanted,
        )
