"""Encoding keeps fixed words and special tokens and cuts nothing but text."""

import numpy as np
import pytest

from polyprompt.data.batching import epoch_batches, token_budget_batches
from polyprompt.data.encoding import Encoder
from polyprompt.errors import ConfigError
from polyprompt.models.tiny import tiny_tokenizer
from polyprompt.records import Example
from polyprompt.tasks.layout import parse_layout

FIELDS = ["text", "more"]


def encoder(layout: str, limit: int = 64, prefix: str = "") -> Encoder:
    slots = {"task": None} if "{task" in layout else {}
    return Encoder(tiny_tokenizer(), parse_layout(layout, FIELDS, slots), prefix, limit)


def text_of(ids) -> str:
    return "".join(tiny_tokenizer().convert_ids_to_tokens(ids.tolist()))


def test_special_tokens_wrap_the_words_and_the_prefix_begins_them():
    (encoded,) = encoder("{text}{task:3}", prefix="q: ").encode([Example("", "", {"text": "ab"})])
    assert [text_of(run) for run in encoded.hard] == ["<s>q: ab</s>", ""]


def test_words_on_both_sides_of_a_prompt():
    example = Example("", "", {"text": "ab", "more": "cd"})
    (encoded,) = encoder("{text}? {task:3} {more}").encode([example])
    assert [text_of(run) for run in encoded.hard] == ["<s>ab? ", " cd</s>"]


def test_a_prompt_in_front_stands_before_the_begin_token():
    (encoded,) = encoder("{task:2}{text}").encode([Example("", "", {"text": "ab"})])
    assert [text_of(run) for run in encoded.hard] == ["", "<s>ab</s>"]


def test_the_whole_text_gives_the_tokenizers_own_ids():
    (encoded,) = encoder("{text}").encode([Example("", "", {"text": "hello you"})])
    assert encoded.hard[0].tolist() == tiny_tokenizer()("hello you")["input_ids"]


def test_truncation_cuts_the_longest_field_and_counts_what_it_cut():
    example = Example("", "", {"text": "a" * 30, "more": "b" * 10})
    (encoded,) = encoder("{text}-{more}!{task:1}", limit=24).encode([example])
    assert text_of(encoded.hard[0]) == "<s>" + "a" * 10 + "-" + "b" * 10 + "!</s>"
    assert encoded.tokens == 24
    assert encoded.dropped == 20
    assert (encoded.words, encoded.characters) == (2, 40)


def test_fixed_words_that_leave_no_room_are_refused():
    with pytest.raises(ConfigError, match=r"Only 20 positions.*take 1[0-9] of them"):
        encoder("a long story told {text}{task:1}", limit=20)


def test_batches_hold_every_row_once_within_the_budget():
    lengths = np.random.default_rng(0).integers(1, 60, 200).tolist()
    batches = token_budget_batches(lengths, 256)
    assert sorted(row for batch in batches for row in batch) == list(range(200))
    assert all(max(lengths[r] for r in b) * len(b) <= 256 for b in batches)
    padding = sum(max(lengths[r] for r in b) * len(b) for b in batches) / sum(lengths)
    assert padding < 1.15


def test_a_row_over_the_budget_is_a_batch_of_its_own():
    assert token_budget_batches([5, 1000], 64) == [[0], [1]]


def test_an_epoch_holds_every_row_once():
    batches = list(epoch_batches(10, 4, np.random.default_rng(0)))
    assert [len(b) for b in batches] == [4, 4, 2]
    assert sorted(row for batch in batches for row in batch) == list(range(10))
