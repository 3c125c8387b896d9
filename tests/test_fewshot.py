"""Draws are seeded, per class, nested in k, and keep their distance where asked."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprompt.data.fewshot import Sampling, dev_shots, draw_examples
from polyprompt.errors import ConfigError, DataError
from polyprompt.records import Example

LABELS = ["a", "b", "c"]


def pool(per_class: int, *languages: str, step: int = 3) -> list[Example]:
    return [
        Example(str(step * (LABELS.index(label) + len(LABELS) * n)), language, {"text": "x"}, label)
        for language in languages or ("eng_Latn",)
        for label in LABELS
        for n in range(per_class)
    ]


def ids(examples):
    return {(e.language, e.id) for e in examples}


@given(st.integers(1, 9), st.integers(0, 2**31))
def test_each_class_gets_k_and_smaller_draws_are_contained(k, seed):
    draw = draw_examples(pool(10), pool(5), LABELS, Sampling(k, seed))
    more = draw_examples(pool(10), pool(5), LABELS, Sampling(k + 1, seed))
    assert Counter(e.label for e in draw.train) == dict.fromkeys(LABELS, k)
    assert Counter(e.label for e in draw.dev) == dict.fromkeys(LABELS, dev_shots(k))
    assert ids(draw.train) <= ids(more.train)
    assert ids(draw.dev) <= ids(more.dev)


def test_seed_zero_is_a_seed():
    draws = [draw_examples(pool(30), pool(30), LABELS, Sampling(4, s)).train for s in (0, 0, 1)]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]


def test_without_a_dev_split_dev_examples_are_left_over_ones():
    draw = draw_examples(pool(10), [], LABELS, Sampling(4, 0))
    assert len(draw.dev) == 3
    assert not ids(draw.dev) & ids(draw.train)


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(0, 1000))
def test_several_sources_share_equally_and_repeat_no_sentence(k, seed):
    draw = draw_examples(pool(20, "eng_Latn", "deu_Latn"), [], LABELS, Sampling(k, seed))
    for label in LABELS:
        counts = Counter(e.language for e in draw.train if e.label == label)
        assert max(counts.values()) - (min(counts.values()) if len(counts) > 1 else 0) <= 1
    assert len({e.id for e in draw.train}) == len(draw.train)


def test_temperature_follows_the_sizes_of_the_languages():
    uneven = pool(90, "eng_Latn") + pool(10, "deu_Latn")
    draw = draw_examples(uneven, uneven, LABELS, Sampling(10, 0, temperature=1.0))
    assert Counter(e.language for e in draw.train) == {"eng_Latn": 27, "deu_Latn": 3}


@settings(max_examples=25)
@given(st.integers(2, 5), st.integers(0, 1000))
def test_an_article_gap_keeps_items_apart(gap, seed):
    test = frozenset({0, 50})
    sampling = Sampling(3, seed, article_gap=gap, test_positions=test)
    draw = draw_examples(pool(40, step=1), pool(40, step=1), LABELS, sampling)
    places = sorted([int(e.id) for e in (*draw.train, *draw.dev)] + list(test))
    assert min(b - a for a, b in pairwise(places)) >= gap
    assert f"at least {gap} apart" in draw.note


def test_a_class_too_small_for_k_says_what_to_set():
    with pytest.raises(DataError, match=r"has 3 examples of the class 'a'.*Set shots to 3 or less"):
        draw_examples(pool(3), pool(3), LABELS, Sampling(4, 0))


def test_an_article_gap_needs_numbers():
    named = [Example(f"x{e.id}", e.language, e.fields, e.label) for e in pool(9)]
    with pytest.raises(ConfigError, match="ids that are numbers"):
        draw_examples(named, named, LABELS, Sampling(2, 0, article_gap=3))


def test_all_takes_everything():
    assert len(draw_examples(pool(7), pool(2), LABELS, Sampling("all", 0)).train) == 21
