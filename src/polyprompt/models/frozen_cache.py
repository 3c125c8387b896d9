"""Frozen keys and values in the form in which transformers' models read and write them."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from polyprompt.models.values import KeysValues


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


def reading(layers: KeysValues) -> Cache:
    """Give a cache in which a pass finds keys and values and leaves nothing behind."""
    return Cache(layers=[_FrozenLayer(keys, values) for keys, values in layers])


def growing(layers: KeysValues) -> DynamicCache:
    """Give a cache that begins with keys and values, and keeps those of a pass behind them."""
    cache = DynamicCache()
    for index, (keys, values) in enumerate(layers):
        cache.update(keys, values, index)
    return cache


def kept(cache: DynamicCache) -> KeysValues:
    """Take the keys and values that a forward pass left in a cache."""
    pairs = []
    for layer in cache.layers:
        assert isinstance(layer, DynamicLayer)
        assert layer.keys is not None
        assert layer.values is not None
        pairs.append((layer.keys, layer.values))
    return tuple(pairs)


def attention_bias(allowed: Bool[Tensor, "B S T"], dtype: torch.dtype) -> Float[Tensor, "B 1 S T"]:
    """Write who may see whom as numbers to add to attention scores.

    Every implementation of attention takes numbers; eager attention would add truth values as 0
    and 1. Half of the least number is far enough down, and a score added to it stays finite.
    """
    bias = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return bias.masked_fill(~allowed, torch.finfo(dtype).min / 2)[:, None]
