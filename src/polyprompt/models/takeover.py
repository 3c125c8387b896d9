"""Replaces a module's forward pass without keeping the module alive."""

from collections.abc import Callable
from typing import Any
from weakref import ref

from torch import nn


def own_forward(module: nn.Module) -> Callable[..., Any]:
    """Give a module's forward pass without a reference to the module.

    A closure over the module, stored in it, would keep a whole model in memory until Python looks
    for cycles. Where accelerate has replaced the pass already, its own counts.
    """
    if "forward" in vars(module):
        return module.forward
    forward, held = type(module).forward, ref(module)

    def own(*args: Any, **options: Any) -> Any:
        return forward(held(), *args, **options)

    return own
