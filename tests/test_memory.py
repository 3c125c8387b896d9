"""Where memory runs out, batches shrink, and nothing else changes."""

import pytest
import torch

from polyprompt.engine.memory import Allowance, in_batches, is_out_of_memory, remembered
from polyprompt.models.tiny import tiny_backbone


def failing(limit, lengths, error):
    """Compute what fits; count what did not."""
    failed = []

    def compute(rows):
        if len(rows) * max(lengths[row] for row in rows) > limit:
            failed.append(rows)
            raise error
        return sorted(rows)

    return compute, failed


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("x"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: y"),
        MemoryError(),
    ],
)
def test_batches_shrink_until_they_fit_and_stay_so(error):
    lengths = [1 + (7 * i) % 30 for i in range(100)]
    allowance = Allowance(tokens=1000)
    compute, failed = failing(130, lengths, error)
    seen = [row for rows, result in in_batches(allowance, lengths, compute) for row in result]
    assert sorted(seen) == list(range(100))
    assert failed
    assert allowance.tokens <= 130
    failed.clear()
    list(in_batches(allowance, lengths, compute))
    assert not failed


def test_a_single_row_that_does_not_fit_is_an_error():
    compute, _ = failing(10, [50], MemoryError())
    with pytest.raises(MemoryError):
        list(in_batches(Allowance(100), [50], compute))


def test_other_errors_are_not_swallowed():
    compute, failed = failing(10, [8, 8], RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        list(in_batches(Allowance(100), [8, 8], compute))
    assert len(failed) == 1
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_what_is_left_is_remembered_as_long_as_the_backbone_is_loaded():
    first, second = tiny_backbone(), tiny_backbone()
    allowance = remembered(first, 1000, None)
    lengths = [10] * 50
    compute, _ = failing(100, lengths, MemoryError())
    list(in_batches(allowance, lengths, compute))
    assert remembered(first, 1000, None).tokens <= 100
    assert remembered(first, 2000, None).tokens == 2000
    assert remembered(second, 1000, None).tokens == 1000
