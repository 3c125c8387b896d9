"""The masked family: XLM-R and BERT with their language-model head, answering at a mask."""

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polyprompt.errors import BackboneError
from polyprompt.models.backbone import BackboneFacts
from polyprompt.models.embedding import EmbeddingBackbone
from polyprompt.models.weights import weight_of


class MaskedBackbone(EmbeddingBackbone):
    """A transformers encoder with a head that guesses words."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        facts: BackboneFacts,
        position_offset: int,
    ) -> None:
        """Wrap a loaded model; it is frozen and set to evaluation here.

        Raises:
            BackboneError: It has no head that guesses words, or its tokenizer has no mask.
        """
        super().__init__(model, tokenizer, facts, position_offset)
        if tokenizer.mask_token is None:
            raise BackboneError(f"{facts.name} has no mask in its tokenizer. {_AS_EMBEDDING}")
        decoder = model.get_output_embeddings()
        if not isinstance(decoder, nn.Linear):
            raise BackboneError(f"{facts.name} has no masked-language-model head. {_AS_EMBEDDING}")
        self._decoder, self._head_weight = decoder, weight_of(decoder)
        self._transform = _without(decoder, model, facts.name)

    @torch.no_grad()
    def reference(self, ids: Int[Tensor, " T"], at: int) -> Float[Tensor, " V"]:
        """Score the word at a place by transformers' own pass over one unpadded input."""
        with self.switch.own():
            return self.model(input_ids=ids[None]).logits[0, at].to(self.device)

    def unembed(
        self, hidden: Float[Tensor, "N D"], ids: Sequence[int] | None = None
    ) -> Float[Tensor, "N C"]:
        """Score words of the vocabulary by what the head makes of states; a few in float32."""
        states = self._transform(hidden.to(self.dtype))
        if ids is None:
            assert self.has_whole_tables, (
                "the whole vocabulary is not scored while some of its rows train"
            )
            return self._decoder(states)
        rows = torch.as_tensor(list(ids), device=self._head_weight.device)
        weight = self.look_up(self._head_weight, rows).to(hidden.device)
        bias = None if self._decoder.bias is None else self._decoder.bias[rows].to(hidden.device)
        return nn.functional.linear(
            states.float(), weight.float(), None if bias is None else bias.float()
        )


_AS_EMBEDDING = "Set backbone.family=embedding to read it as a sentence encoder."


def _without(decoder: nn.Linear, model: PreTrainedModel, name: str) -> nn.Module:
    """Give the language-model head without its last layer; both have the same parameters.

    Raises:
        BackboneError: The last layer is not part of a head.
    """
    for module in model.modules():
        for child, own in module.named_children():
            if own is decoder and module is not model:
                twin = copy.copy(module)
                twin._modules = {**module._modules, child: nn.Identity()}
                return twin
    raise BackboneError(
        f"{name}: the masked-language-model head of {type(model).__name__} cannot be read. "
        f"{_AS_EMBEDDING}"
    )
