"""Turns examples into token ids around the layout's slots, truncating text and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from polyprompt.errors import ConfigError
from polyprompt.records import Example
from polyprompt.tasks.layout import Field, Hard, Layout

MIN_TEXT_TOKENS = 8
"""Least room for text that makes a layout usable."""


class Tokenizer(Protocol):
    """The part of a transformers fast tokenizer that encoding needs."""

    def __call__(self, text: list[str], **options: object) -> Mapping[str, Any]:
        """Tokenize several texts."""
        ...


@dataclass(frozen=True)
class Encoded:
    """An example as the backbone reads it.

    Attributes:
        hard: Token ids between the slots: n slots separate n + 1 runs, some of them empty.
        dropped: Pieces of text that truncation took away.
        words: White-space words of the example's fields.
        characters: Of the example's fields.
        own: Which of the hard tokens are the fields' own, and not the layout's words or the
            tokenizer's special tokens; in the shape of ``hard``.
    """

    hard: tuple[NDArray[np.int64], ...]
    dropped: int
    words: int
    characters: int
    own: tuple[NDArray[np.bool_], ...] = ()

    @property
    def tokens(self) -> int:
        """Hard tokens of the input (T)."""
        return sum(len(run) for run in self.hard)


class Encoder:
    """Encodes examples for one layout and tokenizer.

    Neighbouring fields and fixed words are tokenized as one text. The tokenizer's own beginning
    and end tokens wrap the words: before the first hard run that has any, after the last.

    Attributes:
        begin: The beginning tokens as they are used; empty where the input has none.
    """

    begin: NDArray[np.int64]

    def __init__(
        self,
        tokenizer: Tokenizer,
        layout: Layout,
        text_prefix: str,
        max_tokens: int,
        *,
        begins: bool = True,
        ends: bool = True,
    ) -> None:
        """Prepare an encoder.

        Args:
            tokenizer: A transformers fast tokenizer.
            layout: Where text, words and slots stand.
            text_prefix: Put in front of the first hard run, e.g. ``query: ``.
            max_tokens: Most hard tokens of an input; fields are cut to it, the longest first.
            begins: Whether the tokenizer's beginning tokens open the input.
            ends: Whether its end tokens close it; a decoder's answer follows instead.

        Raises:
            ConfigError: The limit leaves no room for text.
        """
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._prefix = text_prefix
        self._runs = layout.hard_runs()
        filled = [index for index, run in enumerate(self._runs) if run]
        self._first, self._last = filled[0], filled[-1]
        begin, end = _special_tokens(tokenizer)
        self.begin, self._end = begin[: None if begins else 0], end[: None if ends else 0]
        fixed = self.encode([Example("", "", dict.fromkeys(layout.fields, "."))])[0].tokens
        if fixed - len(layout.fields) + MIN_TEXT_TOKENS > max_tokens:
            raise ConfigError(
                f"Only {max_tokens} positions are left for the input, and its fixed words and "
                f"special tokens take {fixed - len(layout.fields)} of them. Make the prompt "
                "shorter, raise backbone.max_tokens, or shorten the layout's words."
            )

    def encode(self, examples: Sequence[Example]) -> list[Encoded]:
        """Encode examples, in order."""
        if not examples:
            return []
        texts, spans = [], []
        for example in examples:
            for index in range(len(self._runs)):
                text, owners = self._fill(index, example)
                texts.append(text)
                spans.append(owners)
        out = self._tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
        n = len(self._runs)
        encoded = []
        for i, example in enumerate(examples):
            part = slice(i * n, (i + 1) * n)
            ids = [np.asarray(row, dtype=np.int64) for row in out["input_ids"][part]]
            owners = [
                _owners(offsets, owner)
                for offsets, owner in zip(out["offset_mapping"][part], spans[part], strict=True)
            ]
            encoded.append(self._assemble(ids, owners, example))
        return encoded

    def _fill(self, index: int, example: Example) -> tuple[str, list[tuple[int, int, int]]]:
        """Write out a hard run; returns it and the (start, end, field) of its fields."""
        text = self._prefix if index == self._first else ""
        owners = []
        for segment in self._runs[index]:
            piece = _text_of(segment, example)
            if isinstance(segment, Field):
                owners.append((len(text), len(text) + len(piece), len(owners) + 100 * index))
            text += piece
        return text, owners

    def _assemble(
        self, ids: list[NDArray[np.int64]], owners: list[NDArray[np.int64]], example: Example
    ) -> Encoded:
        """Cut the fields to the limit and put the special tokens around the words."""
        limit = self._max_tokens - len(self.begin) - len(self._end)
        excess = sum(len(run) for run in ids) - limit
        dropped = 0
        if excess > 0:
            keep = _cut_longest(owners, excess)
            dropped = excess
            ids = [run[mask] for run, mask in zip(ids, keep, strict=True)]
            owners = [run[mask] for run, mask in zip(owners, keep, strict=True)]
        ids[self._first] = np.concatenate([self.begin, ids[self._first]])
        ids[self._last] = np.concatenate([ids[self._last], self._end])
        own = [run >= 0 for run in owners]
        own[self._first] = np.concatenate([np.zeros(len(self.begin), bool), own[self._first]])
        own[self._last] = np.concatenate([own[self._last], np.zeros(len(self._end), bool)])
        text = " ".join(example.fields.values())
        characters = sum(len(value) for value in example.fields.values())
        return Encoded(tuple(ids), dropped, len(text.split()), characters, tuple(own))


def _text_of(segment: Hard, example: Example) -> str:
    """Give the text of a hard segment for an example."""
    return example.fields[segment.name] if isinstance(segment, Field) else segment.text


def _owners(
    offsets: Sequence[Sequence[int]], spans: list[tuple[int, int, int]]
) -> NDArray[np.int64]:
    """Say for each piece which field it begins in; -1 for fixed words."""
    owner = np.full(len(offsets), -1, dtype=np.int64)
    ends = np.asarray([end for _, end in offsets], dtype=np.int64)
    for start, end, name in spans:
        owner[(ends > start) & (ends <= end)] = name
    return owner


def _cut_longest(owners: list[NDArray[np.int64]], excess: int) -> list[NDArray[np.bool_]]:
    """Choose which pieces stay: each dropped one is the last of the then longest field."""
    names, sizes = np.unique(np.concatenate([o[o >= 0] for o in owners]), return_counts=True)
    sizes = sizes.copy()
    for _ in range(excess):
        sizes[np.argmax(sizes)] -= 1
    left = dict(zip(names.tolist(), sizes.tolist(), strict=True))
    keep = []
    for owner in owners:
        mask = np.ones(len(owner), dtype=bool)
        for name in set(owner[owner >= 0].tolist()):
            where = np.flatnonzero(owner == name)
            mask[where[left[name] :]] = False
        keep.append(mask)
    return keep


def _special_tokens(tokenizer: Tokenizer) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find what the tokenizer puts before and after a text, by looking at one."""
    bare = tokenizer(["a"], add_special_tokens=False)["input_ids"][0]
    full = tokenizer(["a"], add_special_tokens=True)["input_ids"][0]
    start = next(
        (i for i in range(len(full) - len(bare) + 1) if full[i : i + len(bare)] == bare), 0
    )
    begin, end = full[:start], full[start + len(bare) :]
    return np.asarray(begin, dtype=np.int64), np.asarray(end, dtype=np.int64)
