"""Attention of packed tokens: within their blocks, and to the frozen inputs they stand behind.

Axes: as in ``blocks``; H query heads, J key heads (H = J · Q), K head width, T frozen tokens.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from polyprompt.models.blocks import Blocks
from polyprompt.models.relative import RelativeBias
from polyprompt.models.values import Frozen, Part

_Key = tuple[int | None, torch.device]


@dataclass(frozen=True)
class How:
    """How a layer attends.

    Attributes:
        layer: Its number.
        window: How far back it sees, in places; None for all the way.
        scale: Of the scores.
        softcap: Gemma 2's; None for other models.
    """

    layer: int
    window: int | None
    scale: float
    softcap: float | None


@dataclass
class PartAttention:
    """Attention of one part of a packed pass.

    Attributes:
        part: Its tokens and what they stand behind.
        slopes: ALiBi's slope of each head; None for other models.
        relative: T5's numbers for distances; None for other models.
    """

    part: Part
    slopes: Float[Tensor, " H"] | None
    relative: RelativeBias | None = None
    _known: "dict[_Key, _Bias]" = field(default_factory=dict)
    _blocks: dict[torch.device, Blocks] = field(default_factory=dict)

    def spread(self, packed: Float[Tensor, "H N K"]) -> Float[Tensor, "B H G S K"]:
        """Lay heads' vectors out over the part's blocks."""
        return self._blocks_on(packed.device).spread(packed).transpose(0, 1)

    def attend(
        self,
        q: Float[Tensor, "B H G S K"],
        k: Float[Tensor, "B J G S K"],
        v: Float[Tensor, "B J G S K"],
        how: How,
    ) -> Float[Tensor, "N H K"]:
        """Attend within blocks, to the frozen inputs and to deep prompts."""
        bias = self._bias(q, how.window)
        if self.part.beside is not None:
            k, v = (
                torch.cat(pair, dim=3) for pair in zip(self._beside(k, how), (k, v), strict=True)
            )
        if self.part.frozen is None and how.softcap is None:
            out = _alone(q, k, v, bias.own, how)
        else:
            out = self._over_text(q.unflatten(1, (k.shape[1], -1)), k, v, bias, how)
        return self._blocks_on(q.device).gather(out.transpose(0, 1)).transpose(0, 1)

    def attend_to(
        self, frozen: Frozen, q: Float[Tensor, "B H G S K"], layer: int, scale: float
    ) -> Float[Tensor, "N H K"]:
        """Attend to what an encoder made of the part's inputs, and to nothing else."""
        keys, values = (x.to(q.device) for x in frozen.layers[layer])
        mask = _as_bias(frozen.mask.to(q.device)[:, None, None, :], q.dtype)
        scores = (q * scale).flatten(2, 3) @ keys.transpose(-1, -2) + mask
        weights = scores.softmax(-1, dtype=torch.float32).to(q.dtype)
        out = (weights @ values).unflatten(2, q.shape[2:4])
        return self._blocks_on(q.device).gather(out.transpose(0, 1)).transpose(0, 1)

    def _blocks_on(self, device: torch.device) -> Blocks:
        """Give the blocks where a layer computes."""
        if device not in self._blocks:
            self._blocks[device] = self.part.blocks.to(device)
        return self._blocks[device]

    def _beside(self, like: Tensor, how: How) -> tuple[Tensor, Tensor]:
        """Give every block the keys and values of its deep prompt, B J G P K."""
        beside = self.part.beside
        assert beside is not None
        shape = beside.of_block.shape
        keys, values = (
            one.to(like).expand(shape.numel(), *one.shape[1:])
            if len(one) == 1
            else one.to(like)[beside.of_block.to(like.device).flatten()]
            for one in beside.layers[how.layer]
        )
        return keys.unflatten(0, shape).transpose(1, 2), values.unflatten(0, shape).transpose(1, 2)

    def _over_text(self, q: Tensor, k: Tensor, v: Tensor, bias: "_Bias", how: How) -> Tensor:
        """Attend to the frozen input and within blocks under one softmax; B H G S K."""
        q = q * how.scale
        scores = _capped(q @ k[:, :, None].transpose(-1, -2), how.softcap)
        scores = scores + bias.own.unsqueeze(2)  # B J Q G S P+S
        if self.part.frozen is None:
            weights = scores.softmax(-1, dtype=torch.float32).to(q.dtype)
            return (weights @ v[:, :, None]).flatten(1, 2)
        assert bias.text is not None
        keys, values = (x.to(q.device) for x in self.part.frozen.layers[how.layer])
        shape = q.shape[2:5]
        over_text = q.flatten(2, 4) @ keys.transpose(-1, -2)
        over_text = _capped(over_text.unflatten(2, shape), how.softcap) + bias.text.unsqueeze(2)
        both = torch.cat([over_text, scores], dim=-1).softmax(-1, dtype=torch.float32).to(q.dtype)
        of_text, of_own = both.split([keys.shape[2], k.shape[3]], dim=-1)
        out = (of_text.flatten(2, 4) @ values).unflatten(2, shape) + of_own @ v[:, :, None]
        return out.flatten(1, 2)

    def _bias(self, like: Tensor, window: int | None) -> "_Bias":
        """Write who sees whom as numbers to add to scores.

        Args:
            like: The layer's queries, for precision and device.
            window: How far back it sees.
        """
        key = window, like.device
        if key not in self._known:
            own = self._own_bias(window, like)
            if self.part.beside is not None:
                own = torch.cat([*_of_one_shape(self._beside_bias(window, like), own)], dim=-1)
            self._known[key] = _Bias(own, self._text_bias(window, like))
        return self._known[key]

    def _places(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Give the places of all tokens of the blocks, B G S, and of the last of each, B G."""
        blocks = self._blocks_on(device)
        places = blocks.positions[blocks.place]
        return places, places.masked_fill(~blocks.real, 0).amax(2)

    def _own_bias(self, window: int | None, like: Tensor) -> Float[Tensor, "B H G S S"]:
        """Write which token of a block sees which; H or S may be 1."""
        sees, (places, last) = self._blocks_on(like.device).sees, self._places(like.device)
        if window is not None:
            sees = sees & (places[..., :, None] - places[..., None, :] < window)
        own = _as_bias(sees, like.dtype)[:, None]
        if self.relative is not None:
            return own + self.relative.between(places, places).to(like.dtype)
        if self.slopes is None:
            return own
        return own + self._alibi(places - last[:, :, None], like.dtype)[..., None, :]

    def _text_bias(self, window: int | None, like: Tensor) -> Float[Tensor, "B H G S T"] | None:
        """Write which token of a block sees which frozen one; H, G or S may be 1."""
        frozen = self.part.frozen
        if frozen is None:
            return None
        places, last = self._places(like.device)
        mask = frozen.mask.to(like.device)[:, None, None, :]
        standing = frozen.positions.to(like.device)
        if window is not None:
            mask = mask & (places[..., None] - standing[:, None, None, :] < window)
        text = _as_bias(mask, like.dtype)[:, None]
        if self.relative is not None:
            return text + self.relative.between(places, standing[:, None, :]).to(like.dtype)
        if self.slopes is None:
            return text
        back = standing[:, None] - last[:, :, None]
        return text + self._alibi(back[:, :, None, :], like.dtype)

    def _beside_bias(self, window: int | None, like: Tensor) -> Float[Tensor, "B H G S P"]:
        """Write which token of a block sees which place of its deep prompt; H may be 1."""
        beside, blocks = self.part.beside, self._blocks_on(like.device)
        assert beside is not None
        places, last = self._places(like.device)
        standing = beside.positions.to(like.device)
        sees = beside.sees(blocks)
        if window is not None:
            sees = sees & (places[..., None] - standing[:, :, None, :] < window)
        bias = _as_bias(sees, like.dtype)[:, None]
        if self.slopes is None:
            return bias
        return bias + self._alibi(standing - last[:, :, None], like.dtype)[..., None, :]

    def _alibi(self, back: Tensor, dtype: torch.dtype) -> Tensor:
        """Multiply places (B …), counted back from the block's last, by the slopes: B H ….

        A shift of all that a query sees changes nothing; half precision can write small numbers.
        """
        assert self.slopes is not None
        slopes = self.slopes.to(back.device).view(1, -1, *[1] * (back.dim() - 1))
        return (slopes * back[:, None]).to(dtype)


@dataclass(frozen=True)
class _Bias:
    """Numbers to add to scores.

    Attributes:
        own: Of the tokens of a block, behind those of its deep prompt, B H|1 G S|1 P+S.
        text: Of frozen tokens, B H|1 G|1 S|1 T; None where there are none.
    """

    own: Tensor
    text: Tensor | None


def _alone(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, how: How) -> Tensor:
    """Attend within blocks and to their deep prompts only; B H G S K."""
    groups, bias = q.shape[2], bias.transpose(1, 2).flatten(0, 1)
    q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v))
    out = scaled_dot_product_attention(
        q, k, v, attn_mask=bias, scale=how.scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    return out.unflatten(0, (-1, groups)).transpose(1, 2)


def _of_one_shape(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Expand tensors to one shape but for their last axis."""
    shape = torch.broadcast_shapes(*(one.shape[:-1] for one in tensors))
    return tuple(one.expand(*shape, one.shape[-1]) for one in tensors)


def _as_bias(sees: Tensor, dtype: torch.dtype) -> Tensor:
    """Write truth values as numbers to add to scores; finite, so that sums of them stay so."""
    bias = torch.zeros(sees.shape, dtype=dtype, device=sees.device)
    return bias.masked_fill(~sees, torch.finfo(dtype).min / 2)


def _capped(scores: Tensor, softcap: float | None) -> Tensor:
    """Squeeze scores as Gemma 2 does."""
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap
