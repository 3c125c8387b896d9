"""Packed passes: tokens of all inputs and runs in one matrix, of which only attention knows rows.

Every projection, norm and activation of a transformers model sees 1 × N × D.

Axes: as in ``blocks``; H query heads, J key heads, K head width.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from threading import RLock
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, PretrainedConfig
from transformers.cache_utils import Cache, DynamicLayer

from polyprompt.models.blocks import Blocks, lay_out
from polyprompt.models.parts import How, PartAttention
from polyprompt.models.relative import RelativeBias
from polyprompt.models.values import Frozen, Part

NAME = "polyprompt_packed"


class Pack:
    """One packed pass.

    Attributes:
        positions: Of all its tokens, in their whole inputs.
        layers: Keys and values that a pass over whole inputs computed, B J S K, if they are wanted.
        checkpointing: Whether a pass with gradient computes each layer again on its way back.
        calls: Layers whose attention has run here.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        windows: Sequence[int | None],
        slopes: Float[Tensor, " H"] | None = None,
        *,
        relative: RelativeBias | None = None,
        read: Sequence[Frozen | None] = (),
        keep: bool = False,
        checkpointing: bool = False,
    ) -> None:
        """Prepare a pass.

        Args:
            parts: Of its tokens, in order.
            windows: How far back each layer sees, in places; None for all the way.
            slopes: ALiBi's slope of each head; None for other models.
            relative: T5's numbers for distances; None for other models.
            read: What an encoder made of each part's inputs, which a decoder's tokens read.
            keep: Whether keys and values are wanted.
            checkpointing: Whether layers are to be computed again.
        """
        self.positions = torch.cat([part.blocks.positions for part in parts])
        self.layers: list[tuple[Tensor, Tensor]] | None = [] if keep else None
        self.checkpointing = checkpointing
        self.calls = 0
        self.windows = windows
        self._parts = [PartAttention(part, slopes, relative) for part in parts]
        self._read = tuple(read)
        self._sizes = [len(part.blocks.positions) for part in parts]
        self._layer = 0

    def cache(self) -> Cache:
        """Give a cache that tells this pass which layer is computing and keeps nothing itself."""
        return Cache(layers=[_PackedLayer(self, index) for index in range(len(self.windows))])

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
        """Attend, part by part."""
        self.calls += 1
        how = How(self._layer, self.windows[self._layer], scale, softcap)
        pieces = (x.split(self._sizes, dim=1) for x in (query, key, value))
        out = []
        for part, *qkv in zip(self._parts, *pieces, strict=True):
            q, k, v = (part.spread(x) for x in qkv)
            if self.layers is not None:
                self.layers.append((k[:, :, 0].contiguous(), v[:, :, 0].contiguous()))
            out.append(part.attend(q, k, v, how))
        return out[0] if len(out) == 1 else torch.cat(out)

    def attend_to_encoder(
        self, query: Float[Tensor, "H N K"], scale: float
    ) -> Float[Tensor, "N H K"]:
        """Let a decoder's tokens attend to what an encoder made of their inputs, part by part."""
        out = []
        queries = query.split(self._sizes, dim=1)
        for part, frozen, own in zip(self._parts, self._read, queries, strict=True):
            assert frozen is not None
            out.append(part.attend_to(frozen, part.spread(own), self._layer, scale))
        return out[0] if len(out) == 1 else torch.cat(out)


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
        with self._as(NAME):
            token = _current.set(pack)
            try:
                yield
            finally:
                _current.reset(token)

    @contextmanager
    def own(self) -> Iterator[None]:
        """Let the model attend as it does for the length of one pass."""
        with self._lock:
            yield

    @contextmanager
    def eager(self) -> Iterator[None]:
        """Let the model write its attention weights out for the length of one pass."""
        with self._as("eager"):
            yield

    @contextmanager
    def _as(self, name: str) -> Iterator[None]:
        """Name an implementation of attention in all configurations."""
        with self._lock:
            before = [config._attn_implementation for config in self._configs]
            try:
                for config in self._configs:
                    config._attn_implementation_internal = name
                yield
            finally:
                for config, old in zip(self._configs, before, strict=True):
                    config._attn_implementation_internal = old


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
