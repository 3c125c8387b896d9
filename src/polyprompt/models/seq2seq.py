"""The seq2seq family: T5 and mT5, an encoder that reads and a decoder that answers.

The tokens of the encoder see one another; those of the decoder see what the encoder made of them
and what stands before them in the decoder. What is frozen is the encoder's part: its keys and
values for the decoder are what is computed once where no trained prompt stands in it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.mt5.modeling_mt5 import MT5Attention
from transformers.models.t5.modeling_t5 import T5Attention

from polyprompt.errors import BackboneError
from polyprompt.models import padded
from polyprompt.models.backbone import BackboneFacts, LayerFacts
from polyprompt.models.blocks import Blocks
from polyprompt.models.packed import Pack
from polyprompt.models.passes import PackingBackbone
from polyprompt.models.relative import RelativeBias
from polyprompt.models.values import Frozen, Inside, Part
from polyprompt.models.weights import device_of, is_exact, weight_of


class Seq2SeqBackbone(PackingBackbone):
    """A transformers T5 with a language-model head."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, facts: BackboneFacts
    ) -> None:
        """Wrap a loaded model; it is frozen and set to evaluation here.

        Raises:
            BackboneError: Its attention is not T5's, or it has no start token.
        """
        self.model = model.eval().requires_grad_(requires_grad=False)
        body: Any = model
        self._encoder, self._decoder = body.encoder, body.decoder
        self._embeddings = model.get_input_embeddings()
        head = model.get_output_embeddings()
        start = model.config.decoder_start_token_id
        if not isinstance(head, nn.Linear) or start is None:
            raise BackboneError(f"{facts.name} has no language-model head or no start token.")
        self.start_token = int(start)
        self.is_exact = is_exact(model)
        self._head, self._head_weight = head, weight_of(head)
        self._table = weight_of(self._embeddings)
        scales = getattr(model.config, "scale_decoder_outputs", False)
        self._scale = model.config.d_model**-0.5 if scales else 1.0
        self._cross = [block.layer[1].EncDecAttention for block in self._decoder.block]
        self.tokenizer, self.facts = tokenizer, facts
        self.device, self.dtype = device_of(self._embeddings), model.dtype
        self.prepare(model, [model.config, self._encoder.config, self._decoder.config])
        if not self.packs:
            raise BackboneError(
                f"{facts.name} ({model.config.model_type}): its attention cannot be taken over; "
                "the seq2seq family reads T5 and mT5."
            )

    @property
    def table(self) -> Float[Tensor, "V D"]:
        """The word embeddings, of encoder and decoder alike."""
        return self._table

    @property
    def stream_width(self) -> int:
        """Width of the residual stream."""
        return int(self.model.config.d_model)

    def pack(self, parts: Sequence[Part], *, keep: bool = False) -> Pack:
        """Prepare a packed pass of the encoder."""
        windows = [None] * len(self._encoder.block)
        relative = self._relative(self._encoder, bidirectional=True)
        return Pack(parts, windows, relative=relative, keep=keep, checkpointing=self.checkpointing)

    def packed(self, x: Float[Tensor, "N D"], pack: Pack) -> Float[Tensor, "N D"]:
        """Run the encoder on a packed matrix of table-space vectors."""
        with self.switch.packed(pack):
            out = self._encoder(inputs_embeds=x[None])
        return out.last_hidden_state[0].to(self.device)

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "N D"], blocks: Blocks) -> Frozen:
        """Read what stands in the encoder, without gradient."""
        return self.read_encoder(x, blocks)

    def read_encoder(self, x: Float[Tensor, "N D"], blocks: Blocks) -> Frozen:
        """Read what stands in the encoder; gradients flow into ``x``.

        Returns:
            The encoder's states, and the decoder's keys and values of them.
        """
        self._count(x, blocks)
        hidden = padded.rows(blocks, self.packed(x, self.pack([Part(blocks)])))
        real = blocks.real.flatten(1)
        hidden = hidden.masked_fill(~real[..., None], 0)
        layers = tuple(
            (
                own.k(hidden).unflatten(-1, (own.n_heads, -1)).transpose(1, 2),
                own.v(hidden).unflatten(-1, (own.n_heads, -1)).transpose(1, 2),
            )
            for own in self._cross
        )
        return Frozen(layers, hidden, real, padded.places(blocks))

    def extend(self, x: Float[Tensor, "N D"], parts: Sequence[Part]) -> Float[Tensor, "N D"]:
        """Run the decoder on live tokens, which see the encoder's part and what is before them."""
        return self._decode(x, parts, keep=False)[0]

    def grow(self, x: Float[Tensor, "N D"], part: Part) -> tuple[Float[Tensor, "N D"], Frozen]:
        """Run the decoder on live tokens, and keep them for what follows; see ``Backbone``."""
        states, pack = self._decode(x, [part], keep=True)
        assert part.frozen is not None
        assert pack.layers is not None
        return states, part.frozen.with_live(tuple(pack.layers), part.blocks, of_decoder=True)

    def _decode(
        self, x: Float[Tensor, "N D"], parts: Sequence[Part], *, keep: bool
    ) -> tuple[Float[Tensor, "N D"], Pack]:
        """Run the decoder on a packed matrix of table-space vectors."""
        self._count(x, *(part.blocks for part in parts))
        own = [
            replace(part, frozen=None if part.frozen is None else part.frozen.decoded)
            for part in parts
        ]
        pack = Pack(
            own,
            [None] * len(self._decoder.block),
            relative=self._relative(self._decoder, bidirectional=False),
            read=[part.frozen for part in parts],
            keep=keep,
            checkpointing=self.checkpointing,
        )
        with self.switch.packed(pack):
            out = self._decoder(
                inputs_embeds=x[None],
                past_key_values=pack.cache(),
                encoder_hidden_states=x[None],  # only says that there is something to be read
                use_cache=True,
            )
        return out.last_hidden_state[0].to(self.device), pack

    def whole(self, x: Float[Tensor, "N D"], blocks: Blocks) -> Float[Tensor, "N D"]:
        """Compute the encoder's states of whole inputs."""
        self._count(x, blocks)
        return self.packed(x, self.pack([Part(blocks)]))

    def unembed(
        self, hidden: Float[Tensor, "N D"], ids: Sequence[int] | None = None
    ) -> Float[Tensor, "N C"]:
        """Score words of the vocabulary from the decoder's states; a few of them in float32."""
        hidden = hidden * self._scale
        if ids is None:
            assert self.has_whole_tables, (
                "the whole vocabulary is not scored while some of its rows train"
            )
            return self._head(hidden.to(self._head_weight.dtype))
        rows = torch.as_tensor(list(ids), device=self._head_weight.device)
        weight = self.look_up(self._head_weight, rows).to(hidden.device)
        return nn.functional.linear(hidden.float(), weight.float())

    @torch.no_grad()
    def reference(
        self, ids: Int[Tensor, " T"], behind: Int[Tensor, " S"]
    ) -> tuple[Float[Tensor, "S V"], Float[Tensor, "T D"]]:
        """Score what follows each decoder token, by transformers' own pass over one input.

        Args:
            ids: Of the encoder.
            behind: Of the decoder, start token included.

        Returns:
            Scores, and the encoder's states.
        """
        with self.switch.own():
            out = self.model(input_ids=ids[None], decoder_input_ids=behind[None], use_cache=False)
        return out.logits[0].to(self.device), out.encoder_last_hidden_state[0].to(self.device)

    @property
    def layer_facts(self) -> LayerFacts:
        """What is known of the layers; a decoder behind relative positions does not move."""
        shapes = tuple((own.n_heads, *[own.key_value_proj_dim] * 2) for own in self._cross)
        return LayerFacts(shapes, self.stream_width, is_shift_invariant=True)

    def forward(
        self,
        x: Float[Tensor, "B T D"],  # noqa: ARG002 (refused)
        positions: Int[Tensor, "B T"],  # noqa: ARG002 (refused)
        allowed: Bool[Tensor, "B T T"],  # noqa: ARG002 (refused)
    ) -> Float[Tensor, "B T D"]:
        """Refuse: there is no one pattern of attention over an encoder and a decoder."""
        raise self._not_one_sequence()

    def look_inside(
        self,
        x: Float[Tensor, "B T D"],  # noqa: ARG002 (refused)
        positions: Int[Tensor, "B T"],  # noqa: ARG002 (refused)
        allowed: Bool[Tensor, "B T T"],  # noqa: ARG002 (refused)
    ) -> Inside:
        """Refuse, as ``forward`` does.

        Raises:
            BackboneError: Always.
        """
        raise self._not_one_sequence()

    def outputs(self, *_: Any, **__: Any) -> Any:
        """Refuse, as ``forward`` does."""
        raise self._not_one_sequence()

    def _not_one_sequence(self) -> BackboneError:
        """Say what cannot be done."""
        return BackboneError(
            f"{self.facts.name} is an encoder with a decoder: its inputs are no one sequence of "
            "layers' states. Take states and attention out of record."
        )

    def _relative(self, stack: nn.Module, *, bidirectional: bool) -> RelativeBias:
        """Read what a stack adds to its scores, as it is trained now."""
        first: Any = stack
        own = first.block[0].layer[0].SelfAttention
        assert isinstance(own, (T5Attention, MT5Attention))

        def bucket(distances: Tensor) -> Tensor:
            return own._relative_position_bucket(
                distances,
                bidirectional=bidirectional,
                num_buckets=own.relative_attention_num_buckets,
                max_distance=own.relative_attention_max_distance,
            )

        return RelativeBias(own.relative_attention_bias.weight, bucket)
