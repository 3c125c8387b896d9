"""Where a model's weights are, also when accelerate keeps some of them elsewhere until needed."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def weight_of(module: nn.Module) -> Tensor:
    """Give a module's weight; if it waits in memory or on disk, as it lies there."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    if weight.device.type != "meta":
        return weight
    stored = next(h.weights_map for h in _hooks(module) if getattr(h, "weights_map", None))
    return stored["weight"]


def device_of(module: nn.Module) -> torch.device:
    """Say where a module computes."""
    for hook in _hooks(module):
        device = getattr(hook, "execution_device", None)
        if device is not None:
            return torch.device(device)
    return next(module.parameters()).device


def is_exact(model: PreTrainedModel) -> bool:
    """Say whether a model computes in float32 throughout.

    Matrices of 8 bits round a token's activations too, by what stands beside it.
    """
    return model.dtype is torch.float32 and not getattr(model, "is_loaded_in_8bit", False)


def _hooks(module: nn.Module) -> Iterator[Any]:
    """List the hooks that accelerate has put on a module."""
    hook = getattr(module, "_hf_hook", None)
    yield from getattr(hook, "hooks", [] if hook is None else [hook])
