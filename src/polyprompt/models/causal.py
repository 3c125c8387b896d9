"""The causal family: decoders of transformers' Auto classes, answering through their LM head.

Soft prompts live in the space of the embedding table. A model that scales its look-ups (XGLM,
Gemma) scales them too; what it does behind the look-up (BLOOM's LayerNorm) it does itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from polyprompt.errors import BackboneError, listing
from polyprompt.models.backbone import BackboneFacts
from polyprompt.models.bloom import AlibiKeys
from polyprompt.models.frozen_cache import attention_bias
from polyprompt.models.packed import Pack
from polyprompt.models.passes import PackingBackbone
from polyprompt.models.placement import Placement, PositionArgument
from polyprompt.models.values import Part
from polyprompt.models.weights import device_of, is_exact, weight_of

PLACEMENTS: Mapping[str, type[Placement]] = {"bloom": AlibiKeys}
"""How a model type is told where its tokens stand; all others take ``position_ids``."""

_WINDOWED = ("window_size", "attention_window", "attention_chunk_size", "attention_window_size")


@dataclass(frozen=True)
class Windows:
    """How far back the layers of a model see.

    Attributes:
        of_kind: Tokens per kind of layer, None for all; the mask of a model with one kind stands
            under the empty name.
        of_layers: The same per layer.
    """

    of_kind: Mapping[str, int | None]
    of_layers: tuple[int | None, ...]

    @property
    def shortest(self) -> int | None:
        """The least window; None if every layer sees everything."""
        return min((w for w in self.of_kind.values() if w is not None), default=None)

    def masks(
        self,
        allowed: Bool[Tensor, "B S T"],
        positions: Int[Tensor, "B S"],
        key_positions: Int[Tensor, "B T"],
        dtype: torch.dtype,
    ) -> Tensor | dict[str, Tensor]:
        """Write the attention pattern as the model wants it, by places and not by columns."""
        distance = positions[:, :, None] - key_positions[:, None, :]
        masks = {
            kind: attention_bias(allowed if width is None else allowed & (distance < width), dtype)
            for kind, width in self.of_kind.items()
        }
        return masks.get("", masks)


def windows_of(config: PreTrainedConfig, name: str) -> Windows:
    """Read from a configuration how far back each layer sees.

    Raises:
        BackboneError: A kind of layer that keeps something else than keys and values of all tokens.
    """
    width = getattr(config, "sliding_window", None)
    of_layers: tuple[str, ...] = tuple(getattr(config, "layer_types", None) or ())
    _check_kinds(config, name, of_layers)
    layers = config.num_hidden_layers
    if not of_layers:
        one = width if getattr(config, "use_sliding_window", True) else None
        return Windows({"": one}, (one,) * layers)
    if set(of_layers) == {"full_attention"}:
        return Windows({"": None}, (None,) * layers)
    of_kind = {k: width if k == "sliding_attention" else None for k in dict.fromkeys(of_layers)}
    return Windows(of_kind, tuple(of_kind[kind] for kind in of_layers))


def _check_kinds(config: PreTrainedConfig, name: str, of_layers: Sequence[str]) -> None:
    """Refuse layers that keep something else than keys and values of all tokens."""
    known = {"full_attention", "sliding_attention"}
    unknown = [kind for kind in dict.fromkeys(of_layers) if kind not in known]
    unknown += [a for a in _WINDOWED if getattr(config, a, None)]
    if unknown:
        raise BackboneError(
            f"{name} ({config.model_type}) has layers of the kind {listing(unknown)}; the causal "
            "family reads models with full and sliding-window attention."
        )


class CausalBackbone(PackingBackbone):
    """A transformers decoder with a language-model head."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        facts: BackboneFacts,
    ) -> None:
        """Wrap a loaded model; it is frozen and set to evaluation here.

        Raises:
            BackboneError: It has no LM head, or a kind of layer that cannot be read.
        """
        self.model = model.eval().requires_grad_(requires_grad=False)
        self._body = _body(model)
        self._embeddings = model.get_input_embeddings()
        config = model.config.get_text_config(decoder=True)
        head = model.get_output_embeddings()
        if not isinstance(head, nn.Linear):
            raise BackboneError(f"{facts.name} has no language-model head.")
        self.is_exact = is_exact(model)
        self._head, self._head_weight = head, weight_of(head)
        self._table = weight_of(self._embeddings)
        self._softcap = getattr(config, "final_logit_softcapping", None)
        self._logit_scale = _logit_scale(config)
        self._windows = windows_of(config, facts.name)
        self._placement = PLACEMENTS.get(config.model_type, PositionArgument)(self._body)
        self._scale = _look_up_scale(self._embeddings, self._table)
        self.tokenizer = tokenizer
        self.facts = facts
        self.device, self.dtype = device_of(self._embeddings), model.dtype
        self.prepare(self._body, list({id(c): c for c in (model.config, config)}.values()))

    @property
    def window(self) -> int | None:
        """Tokens that the most short-sighted layer sees; None if every layer sees everything."""
        return self._windows.shortest

    @property
    def table(self) -> Float[Tensor, "V D"]:
        """The word embeddings, before any scaling."""
        return self._table

    @property
    def look_up_scale(self) -> float:
        """What the model multiplies what it looks up in its word table with (XGLM, Gemma)."""
        return float(self._scale)

    @torch.no_grad()
    def reference(self, ids: Int[Tensor, " T"]) -> Float[Tensor, " V"]:
        """Score the next word by transformers' own forward pass over one unpadded input."""
        with self.switch.own():
            out = self.model(input_ids=ids[None], use_cache=False, logits_to_keep=1)
        return out.logits[0, -1].to(self.device)

    @torch.no_grad()
    def reference_state(self, ids: Int[Tensor, " T"]) -> Float[Tensor, " D"]:
        """Compute the last token's state by transformers' own pass over one unpadded input."""
        with self.switch.own():
            out = self._body(input_ids=ids[None], use_cache=False)
        return out.last_hidden_state[0, -1].to(self.device)

    def pack(self, parts: Sequence[Part], *, keep: bool = False) -> Pack:
        """Prepare a packed pass."""
        return Pack(
            parts,
            self._windows.of_layers,
            self._placement.slopes,
            keep=keep,
            checkpointing=self.checkpointing,
        )

    def packed(self, x: Float[Tensor, "N D"], pack: Pack) -> Float[Tensor, "N D"]:
        """Run the decoder on a packed matrix of table-space vectors."""
        with self.switch.packed(pack):
            out = self._body(
                inputs_embeds=(x * self._scale.to(x.dtype))[None],
                past_key_values=pack.cache(),
                use_cache=True,
                **self._placement.arguments(pack.positions[None]),
            )
        return out.last_hidden_state[0].to(self.device)

    def unembed(
        self, hidden: Float[Tensor, "N D"], ids: Sequence[int] | None = None
    ) -> Float[Tensor, "N C"]:
        """Score words of the vocabulary by their rows of the LM head; a few of them in float32.

        In half precision the scores of two words could not be told apart.
        """
        if ids is None:
            assert self.has_whole_tables, (
                "the whole vocabulary is not scored while some of its rows train"
            )
            scores = self._head(hidden)
        else:
            rows = torch.as_tensor(list(ids), device=self._head_weight.device)
            weight = self.look_up(self._head_weight, rows).to(hidden.device)
            bias = None if self._head.bias is None else self._head.bias[rows.to(hidden.device)]
            scores = nn.functional.linear(
                hidden.float(), weight.float(), None if bias is None else bias.float()
            )
        scores = scores * self._logit_scale
        if self._softcap:
            scores = self._softcap * torch.tanh(scores / self._softcap)
        return scores

    def outputs(
        self,
        x: Float[Tensor, "B S D"],
        positions: Int[Tensor, "B S"],
        allowed: Bool[Tensor, "B S T"],
        key_positions: Int[Tensor, "B T"],
        cache: Any,
        **wanted: bool,
    ) -> Any:
        """Run the decoder on padded rows."""
        masks = self._windows.masks(allowed, positions, key_positions, x.dtype)
        with self._placement.placed(positions, key_positions) as options:
            return self._body(
                inputs_embeds=x * self._scale.to(x.dtype),
                attention_mask=masks,
                past_key_values=cache,
                use_cache=cache is not None,
                **options,
                **wanted,
            )


def _body(model: PreTrainedModel) -> nn.Module:
    """Find the decoder under the LM head."""
    body = model.get_decoder() if hasattr(model, "get_decoder") else model.base_model
    return model.base_model if body is None or body is model else body


def _logit_scale(config: PreTrainedConfig) -> float:
    """Read what a model multiplies its scores by (Cohere) or divides them by (Granite)."""
    return getattr(config, "logit_scale", None) or 1 / getattr(config, "logits_scaling", 1.0)


def _look_up_scale(embeddings: nn.Module, weight: Tensor) -> Tensor:
    """Measure what a model multiplies its look-ups by.

    Raises:
        BackboneError: Looking up does more than scaling the table's rows.
    """
    ids = torch.arange(min(64, len(weight)), device=weight.device)
    ids = ids[weight[ids].abs().amax(1) > 0]
    with torch.no_grad():
        seen = embeddings(ids.to(device_of(embeddings))).float()
        rows = weight[ids].to(seen.device).float()
    scale = (seen * rows).sum() / (rows * rows).sum()
    if not torch.allclose(seen, rows * scale, rtol=1e-2, atol=1e-6):
        raise BackboneError(
            "This model's word embeddings are not the rows of one table times a number; a soft "
            "prompt has no place in them."
        )
    exact = getattr(embeddings, "embed_scale", None)
    return scale.detach() if exact is None else torch.as_tensor(exact, device=seen.device)
