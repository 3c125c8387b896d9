"""Attention of packed tokens: within their blocks, and to the frozen inputs they stand behind.

Axes: as in ``blocks``; H query heads, J key heads (H = J · Q), K head width, T frozen tokens.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from polyprompt.models.backbone import Part
from polyprompt.models.blocks import Blocks

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
    """

    part: Part
    slopes: Float[Tensor, " H"] | None
    _known: dict[_Key, tuple[Tensor | None, Tensor]] = field(default_factory=dict)
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
        """Attend within blocks and to the frozen inputs."""
        if self.part.frozen is None and how.softcap is None:
            out = self._alone(q, k, v, how)
        else:
            out = self._over_text(q.unflatten(1, (k.shape[1], -1)), k, v, how)
        return self._blocks_on(q.device).gather(out.transpose(0, 1)).transpose(0, 1)

    def _blocks_on(self, device: torch.device) -> Blocks:
        """Give the blocks where a layer computes."""
        if device not in self._blocks:
            self._blocks[device] = self.part.blocks.to(device)
        return self._blocks[device]

    def _alone(self, q: Tensor, k: Tensor, v: Tensor, how: How) -> Tensor:
        """Attend within blocks only; B H G S K."""
        _, own = self._biases(q, how.window)
        groups, bias = q.shape[2], own.transpose(1, 2).flatten(0, 1)
        q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v))
        out = scaled_dot_product_attention(
            q, k, v, attn_mask=bias, scale=how.scale, enable_gqa=q.shape[1] != k.shape[1]
        )
        return out.unflatten(0, (-1, groups)).transpose(1, 2)

    def _over_text(self, q: Tensor, k: Tensor, v: Tensor, how: How) -> Tensor:
        """Attend to the frozen input and within blocks under one softmax; B H G S K."""
        text_bias, own_bias = self._biases(q, how.window)
        q = q * how.scale
        scores = _capped(q @ k[:, :, None].transpose(-1, -2), how.softcap)
        scores = scores + own_bias.unsqueeze(2)  # B J Q G S S
        if self.part.frozen is None:
            weights = scores.softmax(-1, dtype=torch.float32).to(q.dtype)
            return (weights @ v[:, :, None]).flatten(1, 2)
        assert text_bias is not None
        keys, values = (x.to(q.device) for x in self.part.frozen.layers[how.layer])
        shape = q.shape[2:5]
        over_text = q.flatten(2, 4) @ keys.transpose(-1, -2)
        over_text = _capped(over_text.unflatten(2, shape), how.softcap) + text_bias.unsqueeze(2)
        both = torch.cat([over_text, scores], dim=-1).softmax(-1, dtype=torch.float32).to(q.dtype)
        of_text, of_own = both.split([keys.shape[2], k.shape[3]], dim=-1)
        out = (of_text.flatten(2, 4) @ values).unflatten(2, shape) + of_own @ v[:, :, None]
        return out.flatten(1, 2)

    def _biases(self, like: Tensor, window: int | None) -> tuple[Tensor | None, Tensor]:
        """Write who sees whom as numbers to add: text B H|1 G|1 S|1 T, own block B H|1 G S|1 S.

        Args:
            like: The layer's queries, for precision and device.
            window: How far back it sees.
        """
        key = window, like.device
        if key not in self._known:
            self._known[key] = self._make_biases(window, like)
        return self._known[key]

    def _make_biases(self, window: int | None, like: Tensor) -> tuple[Tensor | None, Tensor]:
        """Build the biases of layers that see ``window`` places back."""
        blocks, frozen, dtype = self._blocks_on(like.device), self.part.frozen, like.dtype
        places = blocks.positions[blocks.place]
        sees = blocks.sees
        if window is not None:
            sees = sees & (places[..., :, None] - places[..., None, :] < window)
        own = _as_bias(sees, dtype)[:, None]
        last = places.masked_fill(~blocks.real, 0).amax(2)
        if self.slopes is not None:
            own = own + self._alibi(places - last[:, :, None], dtype)[..., None, :]
        if frozen is None:
            return None, own
        mask = frozen.mask.to(like.device)[:, None, None, :]
        standing = frozen.positions.to(like.device)
        if window is not None:
            mask = mask & (places[..., None] - standing[:, None, None, :] < window)
        text = _as_bias(mask, dtype)[:, None]
        if self.slopes is not None:
            back = standing[:, None] - last[:, :, None]
            text = text + self._alibi(back[:, :, None, :], dtype)
        return text, own

    def _alibi(self, back: Tensor, dtype: torch.dtype) -> Tensor:
        """Multiply places (B …), counted back from the block's last, by the slopes: B H ….

        A shift of all that a query sees changes nothing; half precision can write small numbers.
        """
        assert self.slopes is not None
        slopes = self.slopes.to(back.device).view(1, -1, *[1] * (back.dim() - 1))
        return (slopes * back[:, None]).to(dtype)


def _as_bias(sees: Tensor, dtype: torch.dtype) -> Tensor:
    """Write truth values as numbers to add to scores; finite, so that sums of them stay so."""
    bias = torch.zeros(sees.shape, dtype=dtype, device=sees.device)
    return bias.masked_fill(~sees, torch.finfo(dtype).min / 2)


def _capped(scores: Tensor, softcap: float | None) -> Tensor:
    """Squeeze scores as Gemma 2 does."""
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap
