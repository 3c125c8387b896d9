"""Batches hold every row once and keep to their budget."""

from hypothesis import given
from hypothesis import strategies as st

from polyprompt.data.batching import packs


@given(st.lists(st.integers(0, 50)), st.integers(1, 60))
def test_packs_hold_every_item_once_and_keep_to_the_budget(lengths, budget):
    slices = list(packs(lengths, budget))
    joined = [i for part in slices for i in range(part.start, part.stop)]
    assert joined == list(range(len(lengths)))
    for part in slices:
        own = lengths[part]
        assert len(own) == 1 or sum(own) <= budget
