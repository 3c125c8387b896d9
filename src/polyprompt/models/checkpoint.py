"""Gradient checkpointing of packed passes (Chen et al. 2016).

transformers' own needs a model in training mode, where frozen layers would drop out.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from polyprompt.models.packed import Pack, Switch, current_pack
from polyprompt.models.takeover import own_forward


def make_checkpointable(model: nn.Module, switch: Switch) -> tuple[nn.Module, ...]:
    """Let every layer of a model be computed again on the way back, if its pass asks for it.

    Args:
        model: Its layers are those that transformers marks as such.
        switch: Of its attention.

    Returns:
        The layers.
    """
    layers = tuple(m for m in model.modules() if isinstance(m, GradientCheckpointingLayer))
    for layer in layers:
        layer.forward = _kept_or_repeated(own_forward(layer), switch)
    return layers


def _kept_or_repeated(own: Callable[..., Any], switch: Switch) -> Callable[..., Any]:
    """Give a forward pass that keeps its activations unless the current pass says otherwise."""

    def forward(*args: Any, **options: Any) -> Any:
        pack = current_pack()
        if pack is None or not pack.checkpointing or not torch.is_grad_enabled():
            return own(*args, **options)
        call, contexts = partial(own, **options), partial(_contexts, pack, switch)
        return checkpoint(call, *args, use_reentrant=False, context_fn=contexts)

    return forward


def _contexts(
    pack: Pack, switch: Switch
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Give the contexts of the first and of the second computation, which is outside the pass."""
    return nullcontext(), switch.packed(pack)
