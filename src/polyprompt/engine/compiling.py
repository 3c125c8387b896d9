"""Compiles a backbone's layers where trying shows that it pays."""

import time
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from polyprompt.models.backbone import Backbone
from polyprompt.models.blocks import lay_out

LEAST_GAIN = 1.1
SENTENCES, TOKENS, TURNS = 8, 48, 5


_GAINS: WeakKeyDictionary[Backbone, float] = WeakKeyDictionary()


def compile_where_it_pays(backbone: Backbone) -> float:
    """Compile the layers of a backbone and keep that only if a pass with gradient gets faster.

    Attention stays as it is; what is compiled is what stands around it. A backbone is tried once.

    Returns:
        How many times as fast the compiled pass is; it is kept from 1.1 on.
    """
    if backbone not in _GAINS:
        _GAINS[backbone] = _try(backbone)
    return _GAINS[backbone]


def _try(backbone: Backbone) -> float:
    """Time a pass before and after; undo what does not pay."""
    layers = backbone.layers
    own = [layer.forward for layer in layers]
    # or every layer's number would be a further case, until there are too many
    torch._dynamo.config.allow_unspec_int_on_nn_module = True
    before = _seconds(backbone)
    for layer, forward in zip(layers, own, strict=True):
        layer.forward = torch.compile(forward, dynamic=True)
    try:
        gain = before / _seconds(backbone)
    except RuntimeError:  # no compiler, or a model that it cannot read
        gain = 0.0
    if gain < LEAST_GAIN:
        for layer, forward in zip(layers, own, strict=True):
            layer.forward = forward
    return gain


def _seconds(backbone: Backbone) -> float:
    """Time a training step's pass; the best of a few, after two to warm up."""
    device = backbone.device
    places = np.tile(np.arange(TOKENS), SENTENCES)
    blocks = lay_out([[TOKENS]] * SENTENCES, places, device, causal=True)
    ids = torch.arange(SENTENCES * TOKENS, device=device) % len(backbone.table)
    seconds = []
    for _ in range(2 + TURNS):
        x = backbone.embed(ids).detach().requires_grad_()
        began = _now(x)
        (backbone.whole(x, blocks).sum()).backward()
        seconds.append(_now(x) - began)
    return min(seconds[2:])


def _now(x: Tensor) -> float:
    """Give the time when everything asked for is computed."""
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return time.perf_counter()
