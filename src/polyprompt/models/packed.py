"""Packed passes: tokens of all inputs and runs in one matrix, of which only attention knows rows.

Every projection, norm and activation of a transformers model sees 1 × N × D. Attention spreads the
queries out over their blocks, scores the block's frozen input without copying its keys, scores the
block itself, and takes one softmax over both.

Axes: as in ``blocks``; H query heads, J key heads (H = J · Q), K head width, T frozen tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PretrainedConfig
from transformers.cache_utils import Cache, DynamicLayer

from polyprompt.models.backbone import Frozen
from polyprompt.models.blocks import Blocks, lay_out

NAME = "polyprompt_packed"


@dataclass
class Pack:
    """One packed pass.

    Attributes:
        blocks: Of the tokens.
        frozen: What each row of blocks stands behind; None where nothing does.
        windows: How far back each layer sees, in places; None for all the way.
        slopes: ALiBi's slope of each head; None for other models.
        layers: Keys and values that a pass over whole inputs computed, B J S K, if they are wanted.
        checkpointing: Whether a pass with gradient computes each layer again on its way back.
        calls: Layers whose attention has run here.
    """

    blocks: Blocks
    frozen: Frozen | None
    windows: Sequence[int | None]
    slopes: Float[Tensor, " H"] | None = None
    layers: list[tuple[Tensor, Tensor]] | None = None
    checkpointing: bool = False
    calls: int = 0
    _layer: int = 0
    _known: dict[tuple[int | None, torch.device], tuple[Tensor | None, Tensor]] = field(
        default_factory=dict
    )
    _blocks: dict[torch.device, Blocks] = field(default_factory=dict)

    def blocks_on(self, device: torch.device) -> Blocks:
        """Give the blocks where a layer computes."""
        if device not in self._blocks:
            self._blocks[device] = self.blocks.to(device)
        return self._blocks[device]

    def cache(self, layers: int) -> Cache:
        """Give a cache that tells this pass which layer is computing and keeps nothing itself."""
        return Cache(layers=[_PackedLayer(self, index) for index in range(layers)])

    def enter(self, layer: int) -> None:
        """Note the layer whose attention comes next."""
        self._layer = layer

    def attend(
        self,
        query: Float[Tensor, "H N K"],
        key: Float[Tensor, "J N K"],
        value: Float[Tensor, "J N K"],
        scale: float,
        softcap: float | None = None,
    ) -> Float[Tensor, "N H K"]:
        """Attend within blocks and to their frozen inputs."""
        self.calls += 1
        blocks = self.blocks_on(query.device)
        spread = blocks.spread
        q, k, v = (spread(x).transpose(0, 1) for x in (query, key, value))  # B H G S K, B J G S K
        if self.layers is not None:
            self.layers.append((k[:, :, 0].contiguous(), v[:, :, 0].contiguous()))
        if self.frozen is None and softcap is None:
            out = self._alone(q, k, v, scale)
        else:
            out = self._over_text(q.unflatten(1, (k.shape[1], -1)), k, v, scale, softcap)
        return blocks.gather(out.transpose(0, 1)).transpose(0, 1)

    def _alone(self, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """Attend within blocks only; B H G S K."""
        _, own = self._biases(q)
        groups, bias = q.shape[2], own.transpose(1, 2).flatten(0, 1)
        q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v))
        out = scaled_dot_product_attention(
            q, k, v, attn_mask=bias, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
        return out.unflatten(0, (-1, groups)).transpose(1, 2)

    def _over_text(
        self, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None
    ) -> Tensor:
        """Attend to the frozen input and within blocks under one softmax; B H G S K."""
        text_bias, own_bias = self._biases(q)
        q = q * scale
        scores = _capped(q @ k[:, :, None].transpose(-1, -2), softcap)
        scores = scores + own_bias.unsqueeze(2)  # B J Q G S S
        if self.frozen is None:
            weights = scores.softmax(-1, dtype=torch.float32).to(q.dtype)
            return (weights @ v[:, :, None]).flatten(1, 2)
        assert text_bias is not None
        keys, values = (x.to(q.device) for x in self.frozen.layers[self._layer])
        shape = q.shape[2:5]
        over_text = q.flatten(2, 4) @ keys.transpose(-1, -2)
        over_text = _capped(over_text.unflatten(2, shape), softcap) + text_bias.unsqueeze(2)
        both = torch.cat([over_text, scores], dim=-1).softmax(-1, dtype=torch.float32).to(q.dtype)
        of_text, of_own = both.split([keys.shape[2], k.shape[3]], dim=-1)
        out = (of_text.flatten(2, 4) @ values).unflatten(2, shape) + of_own @ v[:, :, None]
        return out.flatten(1, 2)

    def _biases(self, like: Tensor) -> tuple[Tensor | None, Tensor]:
        """Write who sees whom as numbers to add: text B H|1 G|1 S|1 T, own block B H|1 G S|1 S.

        Args:
            like: The layer's queries, for precision and device.
        """
        window = self.windows[self._layer]
        key = window, like.device
        if key not in self._known:
            self._known[key] = self._make_biases(window, like)
        return self._known[key]

    def _make_biases(self, window: int | None, like: Tensor) -> tuple[Tensor | None, Tensor]:
        """Build the biases of layers that see ``window`` places back."""
        blocks, frozen, dtype = self.blocks_on(like.device), self.frozen, like.dtype
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


class _PackedLayer(DynamicLayer):
    """Stands where a model looks for a layer's cached keys and values."""

    def __init__(self, pack: Pack, index: int) -> None:
        super().__init__()
        disable: Callable[..., Any] = torch.compiler.disable
        self._enter, self._index = disable(pack.enter), index

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_options: Any
    ) -> tuple[Tensor, Tensor]:
        """Hand the new keys and values through."""
        self._enter(self._index)
        return key_states, value_states


_current: ContextVar[Pack | None] = ContextVar("pack", default=None)


class Switch:
    """Turns a model's attention over to packs.

    transformers looks its implementation up in a configuration that all passes share, so one pass
    at a time has it: others, of other threads too, wait.
    """

    def __init__(self, configs: Sequence[PretrainedConfig]) -> None:
        """Switch in some configurations."""
        self._configs = configs
        self._lock = RLock()

    @contextmanager
    def packed(self, pack: Pack) -> Iterator[None]:
        """Let the model attend by a pack for the length of one pass."""
        with self._lock:
            before = [config._attn_implementation for config in self._configs]
            token = _current.set(pack)
            try:
                for config in self._configs:
                    config._attn_implementation_internal = NAME
                yield
            finally:
                _current.reset(token)
                for config, name in zip(self._configs, before, strict=True):
                    config._attn_implementation_internal = name

    @contextmanager
    def own(self) -> Iterator[None]:
        """Let the model attend as it does for the length of one pass."""
        with self._lock:
            yield


def current_pack() -> Pack | None:
    """Give the pack of the pass that is being computed, if it is a packed one."""
    return _current.get()


@torch.compiler.disable
def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 (the pack knows who sees whom)
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend as transformers' attention functions do, by the pack of this pass."""
    pack = _current.get()
    assert pack is not None
    unknown = [name for name in ("s_aux", "position_bias") if options.get(name) is not None]
    if unknown:
        raise NotImplementedError(f"{type(module).__name__} attends with {unknown[0]}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return pack.attend(query[0], key[0], value[0], scale, softcap)[None], None


AttentionInterface.register(NAME, _attention)


def _as_bias(sees: Tensor, dtype: torch.dtype) -> Tensor:
    """Write truth values as numbers to add to scores; finite, so that sums of them stay so."""
    bias = torch.zeros(sees.shape, dtype=dtype, device=sees.device)
    return bias.masked_fill(~sees, torch.finfo(dtype).min / 2)


def _capped(scores: Tensor, softcap: float | None) -> Tensor:
    """Squeeze scores as Gemma 2 does."""
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap


def attends_by_packs(
    make: Callable[[Blocks], Pack], run: Callable[[Tensor, Pack], Tensor], device: torch.device
) -> bool:
    """Find out whether every layer of a model lets its attention be replaced.

    Whether the result is right is for the probe to say; this is about whether it is asked at all.

    Args:
        make: Prepares a pass that keeps its keys and values.
        run: Runs the model on token ids.
        device: Of the model.
    """
    blocks = lay_out([[3], [1]], np.array([0, 1, 2, 0]), device, causal=True)
    pack = make(blocks)
    try:
        with torch.no_grad():
            run(torch.arange(2, 6, device=device), pack)
    except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError):
        return False
    assert pack.layers is not None
    return pack.calls == len(pack.windows) == len(pack.layers)
