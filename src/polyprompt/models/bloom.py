"""BLOOM's oddity: ALiBi, a bias on every key that grows with its place (Press et al. 2022).

The bias of a key may be shifted by any number that is the same for all keys a query sees; softmax
does not notice. So one bias per key serves every run that reads a text, whatever stands between.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from polyprompt.models.placement import Placement


def alibi_slopes(heads: int) -> Float[Tensor, " H"]:
    """Give the slope of each head: a geometric series, every other term of the next for the rest.

    Source: Press et al. (2022), section 3; for numbers of heads that are no power of two, the
    interleaving of their published code.
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    slopes += [2 ** (-4 * (2 * i + 1) / power) for i in range(heads - power)]
    return torch.tensor(slopes)


class AlibiKeys(Placement):
    """Gives BLOOM a bias per key from the keys' places."""

    def __init__(self, body: nn.Module) -> None:
        """Serve a BLOOM decoder."""
        self._body = body
        heads = body.num_heads
        assert isinstance(heads, int)
        self._slopes = alibi_slopes(heads)

    @property
    def slopes(self) -> Float[Tensor, " H"]:
        """The slope of each head."""
        return self._slopes

    def arguments(
        self,
        positions: Int[Tensor, "B S"],  # noqa: ARG002 (attention knows them)
    ) -> dict[str, Tensor]:
        """Give nothing."""
        return {}

    @contextmanager
    def placed(
        self,
        positions: Int[Tensor, "B S"],
        key_positions: Int[Tensor, "B T"],
    ) -> Iterator[dict[str, Tensor]]:
        """Stand in for the model's own bias, which it derives from a mask of two axes.

        Places count back from the last one, so that half precision can tell them apart where
        attention is strongest.
        """
        back = key_positions - positions.amax(1, keepdim=True)

        def bias(_mask: Tensor, num_heads: int, dtype: torch.dtype) -> Tensor:
            slopes = alibi_slopes(num_heads).to(back.device)
            return (slopes[None, :, None] * back[:, None, :]).flatten(0, 1)[:, None].to(dtype)

        self._body.build_alibi_tensor = bias  # type: ignore[assignment]  # shadows the method
        try:
            yield {}
        finally:
            del self._body.build_alibi_tensor
