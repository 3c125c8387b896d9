"""Orders rows into batches: shuffled for training, sorted by length for reading."""

from collections.abc import Iterator, Sequence

import numpy as np


def epoch_batches(n: int, batch_size: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Shuffle n rows and cut them into batches; the last may be smaller."""
    order = rng.permutation(n).tolist()
    for start in range(0, n, batch_size):
        yield order[start : start + batch_size]


def token_budget_batches(lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Group rows of similar length so that rows × longest stays within a budget.

    Args:
        lengths: Tokens of each row.
        tokens_per_batch: Most padded tokens of a batch; a longer row is a batch of its own.

    Returns:
        Indices of the rows, every row once.
    """
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    batches: list[list[int]] = []
    for index in order:
        if batches and lengths[index] * (len(batches[-1]) + 1) <= tokens_per_batch:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def packs(lengths: Sequence[int], budget: int) -> Iterator[slice]:
    """Cut a sequence of items, in order, into runs of at most ``budget`` tokens.

    An item that is longer than the budget stands alone.
    """
    start, tokens = 0, 0
    for index, length in enumerate(lengths):
        if index > start and tokens + length > budget:
            yield slice(start, index)
            start, tokens = index, 0
        tokens += length
    if start < len(lengths):
        yield slice(start, len(lengths))
