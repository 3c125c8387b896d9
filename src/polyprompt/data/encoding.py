"""Turns examples into token ids around the layout's slots, truncating text and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from polyprompt.data.alignment import read_places
from polyprompt.data.cutting import cut_longest, kept_places
from polyprompt.data.pieces import (
    Tokenizer,
    blank_pieces,
    mask_of,
    pieces_behind,
    special_tokens,
)
from polyprompt.data.segmentation import Segmentation
from polyprompt.errors import ConfigError
from polyprompt.records import Example
from polyprompt.seeds import generator
from polyprompt.tasks.layout import Field, Hard, Layout, Mask

MIN_TEXT_TOKENS = 8
"""Least room for text that makes a layout usable."""


_NONE = np.zeros(0, dtype=np.int64)


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
        reads: Which hard tokens, counted over all runs, are read one by one: a piece of each word
            that is tagged, -1 for words that were cut off, or the masks.
        masks: Which hard tokens are masks.
        continuations: Pieces of the texts one of which is the answer.
        pieces: Of the example's fields, before anything is cut off.
        singles: Those of them that hold one character or none.
        answers: How many answers are wanted: one per word that is tagged, or one.
    """

    hard: tuple[NDArray[np.int64], ...]
    dropped: int
    words: int
    characters: int
    own: tuple[NDArray[np.bool_], ...] = ()
    reads: NDArray[np.int64] = field(default_factory=_NONE.copy)
    masks: NDArray[np.int64] = field(default_factory=_NONE.copy)
    continuations: tuple[tuple[int, ...], ...] = ()
    pieces: int = 0
    singles: int = 0
    answers: int = 1

    @property
    def tokens(self) -> int:
        """Hard tokens of the input (T)."""
        return sum(len(run) for run in self.hard)

    @property
    def continued(self) -> int:
        """Tokens that are read behind it, those of its continuations but for their last pieces."""
        return sum(max(len(pieces) - 1, 0) for pieces in self.continuations)


@dataclass(frozen=True)
class Reading:
    """Which tokens of an input a head reads one by one.

    Attributes:
        piece: Which piece of each word that is tagged; None where none are.
        continued: Most pieces of a text one of which is the answer.
        leading_space: Whether such a text is tokenized as it stands behind another word.
    """

    piece: Literal["first", "last"] | None = None
    continued: int = 0
    leading_space: bool = True


@dataclass(frozen=True)
class _Run:
    """A hard run of an input, before anything is cut.

    Attributes:
        ids: Its pieces.
        owners: Which field each of them is of; -1 for fixed words.
        singles: Which of them hold one character or none.
        reads: Which of them are read one by one; None where the run has nothing of the kind.
        masks: Which of them are masks.
    """

    ids: NDArray[np.int64]
    owners: NDArray[np.int64]
    singles: NDArray[np.bool_]
    reads: NDArray[np.int64] | None
    masks: NDArray[np.int64]


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
        reading: Reading = Reading(),
        segmentation: Segmentation | None = None,
    ) -> None:
        """Prepare an encoder.

        Args:
            tokenizer: A transformers fast tokenizer.
            layout: Where text, words and slots stand.
            text_prefix: Put in front of the first hard run, e.g. ``query: ``.
            max_tokens: Most hard tokens of an input; fields are cut to it, the longest first.
            begins: Whether the tokenizer's beginning tokens open the input.
            ends: Whether its end tokens close it; a decoder's answer follows instead.
            reading: What heads read one by one.
            segmentation: Cuts fields more finely; None for the tokenizer's own pieces.

        Raises:
            ConfigError: The limit leaves no room for text, or there is no mask to be guessed.
        """
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._prefix = text_prefix
        self._runs = layout.hard_runs()
        self._reading, self._segmentation = reading, segmentation
        self._mask = mask_of(tokenizer) if layout.masks else -1
        self._blank = blank_pieces(tokenizer) if reading.piece else ()
        filled = [index for index, run in enumerate(self._runs) if run]
        self._first, self._last = filled[0], filled[-1]
        begin, end = special_tokens(tokenizer)
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
            runs = [
                self._run(
                    out["input_ids"][j], out["offset_mapping"][j], texts[j], spans[j], example
                )
                for j in range(i * n, (i + 1) * n)
            ]
            encoded.append(self._assemble(runs, example))
        return encoded

    def _fill(self, index: int, example: Example) -> tuple[str, list[tuple[int, int, int]]]:
        """Write out a hard run; returns it and the (start, end, field) of its fields."""
        text = self._prefix if index == self._first else ""
        owners = []
        for segment in self._runs[index]:
            piece = self._text_of(segment, example)
            if isinstance(segment, Field):
                owners.append((len(text), len(text) + len(piece), len(owners) + 100 * index))
            text += piece
        return text, owners

    def _text_of(self, segment: Hard, example: Example) -> str:
        """Give the text of a hard segment for an example."""
        if isinstance(segment, Mask):
            return self._tokenizer.mask_token or ""
        return example.fields[segment.name] if isinstance(segment, Field) else segment.text

    def _run(
        self,
        pieces: Sequence[int],
        offset_pairs: Sequence[Sequence[int]],
        text: str,
        spans: list[tuple[int, int, int]],
        example: Example,
    ) -> _Run:
        """Find out what each piece of a hard run is."""
        ids = np.asarray(pieces, dtype=np.int64)
        offsets = np.asarray(offset_pairs, dtype=np.int64).reshape(-1, 2)
        owners = _owners(offsets, spans)
        if self._segmentation is not None and self._segmentation.applies_to(example.language):
            rng = generator(0, "segmentation", example.language, example.id, text)
            ids, offsets = self._segmentation.apply(ids, offsets, owners >= 0, rng)
            owners = _owners(offsets, spans)
        reads = None
        if example.words and self._reading.piece and spans:
            blank = np.isin(ids, self._blank)
            start = spans[-1][0]  # of a field that stands there twice, the last is read
            reads = read_places(example.words, start, offsets, blank, self._reading.piece)
        masks = np.flatnonzero((ids == self._mask) & (owners < 0))
        return _Run(ids, owners, _singles(offsets, text), reads, masks)

    def _assemble(self, runs: Sequence[_Run], example: Example) -> Encoded:
        """Cut the fields to the limit and put the special tokens around the words."""
        limit = self._max_tokens - len(self.begin) - len(self._end)
        excess = sum(len(run.ids) for run in runs) - limit
        keep = [np.ones(len(run.ids), dtype=bool) for run in runs]
        if excess > 0:
            keep = cut_longest([run.owners for run in runs], excess)
        ids = [run.ids[mask] for run, mask in zip(runs, keep, strict=True)]
        own = [run.owners[mask] >= 0 for run, mask in zip(runs, keep, strict=True)]
        starts = np.cumsum([len(self.begin), *map(len, ids[:-1])])  # special tokens come first
        ids[self._first] = np.concatenate([self.begin, ids[self._first]])
        ids[self._last] = np.concatenate([ids[self._last], self._end])
        own[self._first] = np.concatenate([np.zeros(len(self.begin), bool), own[self._first]])
        own[self._last] = np.concatenate([own[self._last], np.zeros(len(self._end), bool)])
        triples = [*zip(runs, keep, starts.tolist(), strict=True)]
        masks = [kept_places(run.masks, kept, start) for run, kept, start in triples]
        reads = [kept_places(r.reads, k, s) for r, k, s in triples if r.reads is not None]
        fields = example.fields.values()
        return Encoded(
            tuple(ids),
            max(excess, 0),
            len(example.words) or len(" ".join(fields).split()),
            sum(map(len, fields)),
            tuple(own),
            reads=reads[-1] if reads else np.concatenate(masks),
            masks=np.concatenate(masks),
            continuations=self._continuations(example),
            pieces=sum(int((run.owners >= 0).sum()) for run in runs),
            singles=sum(int((run.singles & (run.owners >= 0)).sum()) for run in runs),
            answers=example.answers,
        )

    def _continuations(self, example: Example) -> tuple[tuple[int, ...], ...]:
        """Tokenize the texts one of which is the answer."""
        if not self._reading.continued:
            return ()
        space = " " if self._reading.leading_space else ""
        texts = [space + choice.strip() for choice in example.choices]
        found = [pieces_behind(self._tokenizer, text) for text in texts]
        return tuple(pieces[: self._reading.continued] for pieces in found)


def _singles(offsets: NDArray[np.int64], text: str) -> NDArray[np.bool_]:
    """Say which pieces hold one character of a text or none, blanks not counted."""
    blank = np.concatenate([[0], np.cumsum([char.isspace() for char in text])])
    sizes = offsets[:, 1] - offsets[:, 0]
    return sizes - (blank[offsets[:, 1]] - blank[offsets[:, 0]]) <= 1


def _owners(offsets: NDArray[np.int64], spans: list[tuple[int, int, int]]) -> NDArray[np.int64]:
    """Say for each piece which field it begins in; -1 for fixed words."""
    owner = np.full(len(offsets), -1, dtype=np.int64)
    ends = offsets[:, 1]
    for start, end, name in spans:
        owner[(ends > start) & (ends <= end)] = name
    return owner
