"""Counts what a backbone computes, and measures what the processor could."""

import time
from dataclasses import dataclass, fields

import torch
from torch import nn


@dataclass
class Work:
    """What has been computed so far.

    Attributes:
        sentences: Inputs that were read, each once per run that read it.
        tokens: Real tokens that went through the model.
        slots: The same with padding.
        multiplications: Multiply-add pairs in the model's projections, backward passes included.
    """

    sentences: int = 0
    tokens: int = 0
    slots: int = 0
    multiplications: int = 0

    def since(self, before: "Work") -> "Work":
        """Give what was added since a copy was taken."""
        return Work(*(getattr(self, f.name) - getattr(before, f.name) for f in fields(self)))

    def plus(self, more: "Work") -> "Work":
        """Add up."""
        return Work(*(getattr(self, f.name) + getattr(more, f.name) for f in fields(self)))

    def count(self, tokens: int, slots: int, weights: int, *, backward: bool) -> None:
        """Add a pass.

        Args:
            tokens: Real ones.
            slots: With padding.
            weights: Numbers in the projections that every token is multiplied by.
            backward: Whether gradients will flow back through it; with frozen weights that costs
                as much as the pass.
        """
        self.tokens += tokens
        self.slots += slots
        self.multiplications += slots * weights * (2 if backward else 1)


def projection_weights(body: nn.Module) -> int:
    """Count the numbers of a model's projections: its matrices but for look-up tables."""
    return sum(_numbers(m) for m in body.modules() if not isinstance(m, nn.Embedding))


def _numbers(module: nn.Module) -> int:
    """Count a projection's weights, however they are stored; 0 for other modules."""
    if isinstance(module, nn.Linear):
        return module.in_features * module.out_features
    weight = getattr(module, "weight", None)
    return weight.numel() if isinstance(weight, torch.Tensor) and weight.dim() == 2 else 0


def peak_multiplications(
    device: torch.device, dtype: torch.dtype, rows: int = 512, times: int = 8
) -> float:
    """Measure multiply-add pairs per second of a large matrix product; the best of a few times."""
    size = 2048
    a = torch.randn(rows, size, device=device, dtype=dtype)
    b = torch.randn(size, size, device=device, dtype=dtype)
    best = 0.0
    for _ in range(times):
        _wait(device)
        start = time.perf_counter()
        torch.nn.functional.linear(a, b)
        _wait(device)
        best = max(best, rows * size * size / (time.perf_counter() - start))
    return best


def _wait(device: torch.device) -> None:
    """Wait until a device has computed what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
