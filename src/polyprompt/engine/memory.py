"""Keeps computing where memory runs out: smaller batches from then on."""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch

from polyprompt.data.batching import token_budget_batches
from polyprompt.models.backbone import Backbone

T = TypeVar("T")

_SIGNS = (
    "out of memory",
    "allocate memory",
    "not enough memory",
    "failed to allocate",
    "alloc_failed",
)


@dataclass
class Allowance:
    """How much is computed at once; less after memory has run out.

    Attributes:
        tokens: Most tokens of a pass without gradient, counted as its longest input's times inputs.
        rows: Most inputs of a pass with gradient; None for a whole batch.
    """

    tokens: int = 4096
    rows: int | None = None


_Asked = tuple[int, int | None]
_REMEMBERED: WeakKeyDictionary[Backbone, dict[_Asked, Allowance]] = WeakKeyDictionary()


def remembered(backbone: Backbone, tokens: int, rows: int | None) -> Allowance:
    """Give what is left of an allowance since memory ran out with this backbone.

    Args:
        backbone: As long as it is loaded, all its engines share one allowance.
        tokens: What the settings allow.
        rows: The same for passes with gradient.
    """
    left = _REMEMBERED.setdefault(backbone, {})
    return left.setdefault((tokens, rows), Allowance(tokens, rows))


def in_batches(
    allowance: Allowance, lengths: Sequence[int], compute: Callable[[list[int]], T]
) -> Iterator[tuple[list[int], T]]:
    """Compute rows in batches of similar length; where memory runs out, in smaller ones.

    Args:
        allowance: Halved where memory runs out, so that later calls know.
        lengths: Tokens of each row.
        compute: Given the indices of a batch.

    Yields:
        Every batch with its result, every row once.

    Raises:
        RuntimeError: Memory runs out for a single row, or something else is wrong.
    """
    pending = token_budget_batches(lengths, allowance.tokens)
    while pending:
        rows = pending.pop(0)
        found = _attempt(compute, rows)
        if found:
            yield rows, found[0]
            continue
        release()
        allowance.tokens = max(1, min(allowance.tokens, len(rows) * lengths[rows[-1]]) // 2)
        left = [row for batch in (rows, *pending) for row in batch]
        again = token_budget_batches([lengths[row] for row in left], allowance.tokens)
        pending = [[left[index] for index in batch] for batch in again]


def _attempt(compute: Callable[[list[int]], T], rows: list[int]) -> list[T]:
    """Compute rows together; returns nothing if memory runs out for several."""
    try:
        return [compute(rows)]
    except (RuntimeError, MemoryError) as error:
        if len(rows) == 1 or not is_out_of_memory(error):
            raise
    return []


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory has run out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(sign in str(error).lower() for sign in _SIGNS)


@cache
def _trim() -> Callable[[int], int] | None:
    """Find the C library's way to give free memory back; None where it has none."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None  # not glibc


def give_back() -> None:
    """Give free memory of the host back, of which passes of changing size leave scattered pieces.

    Reading on and on, a process grows without it, though it holds nothing more.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


def release() -> None:
    """Give cached memory of a device back."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
