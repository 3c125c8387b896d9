"""Turns examples into token ids around the layout's slots, truncating text and nothing else."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyprompt.data.alignment import read_places
from polyprompt.data.chunks import ChunkPieces, chunks_of, owners_of, singles_of
from polyprompt.data.corruption import Corruption
from polyprompt.data.cutting import cut_longest, kept_places
from polyprompt.data.encoded import ANSWER_ALONE, NOTHING_SOURCED, Encoded, Reading, Sourced
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
from polyprompt.tasks.layout import Layout
from polyprompt.tasks.segments import Field, Given, Hard, Instruction, Mask

MIN_TEXT_TOKENS = 8
"""Least room for text that makes a layout usable."""


_NONE = np.zeros(0, dtype=np.int64)


class Encoder:
    """Encodes examples for one layout and tokenizer.

    Neighbouring fields and fixed words are tokenized as one text. The tokenizer's own beginning
    and end tokens wrap the words: before the first that there are, after the last.

    Attributes:
        begin: The beginning tokens as they are used; empty where the input has none.
        corruption: What is hidden of texts whose own words are guessed.
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
        reading: Reading = ANSWER_ALONE,
        segmentation: Segmentation | None = None,
        sourced: Sourced = NOTHING_SOURCED,
        corruption: Corruption | None = None,
        start: int | None = None,
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
            sourced: Frozen parts that inputs are read with.
            corruption: What is hidden of texts whose own words are guessed; None for other tasks.
            start: What a decoder begins with, where the layout has one.

        Raises:
            ConfigError: The limit leaves no room for text, or there is no mask to be guessed.
        """
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._prefix = text_prefix
        self.corruption = corruption
        self._chunks, self._runs = chunks_of(layout), len(layout.hard_runs())
        self._reading, self._segmentation, self._sourced = reading, segmentation, sourced
        self._mask = mask_of(tokenizer) if layout.masks else -1
        self._blank = blank_pieces(tokenizer) if reading.piece else ()
        filled = [index for index, chunk in enumerate(self._chunks) if chunk.given is None]
        self._first, self._last = filled[0], filled[-1]
        self._decoder, self._start = layout.decoder_run or 0, [] if start is None else [start]
        begin, end = special_tokens(tokenizer)
        self.begin, self.end = begin[: None if begins else 0], end[: None if ends else 0]
        fixed = self.whole([Example("", "", dict.fromkeys(layout.fields, "."))])[0].tokens
        if fixed - len(layout.fields) + MIN_TEXT_TOKENS > max_tokens:
            raise ConfigError(
                f"Only {max_tokens} positions are left for the input, and its fixed words and "
                f"special tokens take {fixed - len(layout.fields)} of them. Make the prompt "
                "shorter, raise backbone.max_tokens, or shorten the layout's words."
            )

    def encode(self, examples: Sequence[Example]) -> list[Encoded]:
        """Encode examples, in order; what is hidden of a text is always the same."""
        whole = self.whole(examples)
        if self.corruption is None:
            return whole
        return [
            self.corruption.of(one, generator(0, "corruption", example.language, example.id))
            for one, example in zip(whole, examples, strict=True)
        ]

    def whole(self, examples: Sequence[Example]) -> list[Encoded]:
        """Encode examples, nothing hidden."""
        if not examples:
            return []
        texts, spans = [], []
        for example in examples:
            for index in range(len(self._chunks)):
                text, owners = self._fill(index, example)
                texts.append(text)
                spans.append(owners)
        out = self._tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
        n = len(self._chunks)
        encoded = []
        for i, example in enumerate(examples):
            runs = []
            for j, chunk in enumerate(self._chunks, start=i * n):
                if chunk.given is not None:
                    runs.append(self._given(chunk.given, example))
                    continue
                pieces = out["input_ids"][j], out["offset_mapping"][j]
                runs.append(self._run(*pieces, texts[j], spans[j], example))
            encoded.append(self._assemble(runs, example))
        return encoded

    def _given(self, segment: Given, example: Example) -> ChunkPieces:
        """Give the tokens of a frozen soft prompt, none if the example's language has none."""
        own = self._sourced.words.get(segment.name, {})
        ids = own.get(example.language, own.get("", ()))  # one of all languages is under ""
        nothing = np.zeros(len(ids), dtype=bool)
        return ChunkPieces(
            np.asarray(ids, dtype=np.int64), np.full(len(ids), -1), nothing, None, _NONE
        )

    def _fill(self, index: int, example: Example) -> tuple[str, list[tuple[int, int, int]]]:
        """Write out a chunk; returns it and the (start, end, field) of its fields."""
        text = self._prefix if index == self._first else ""
        owners = []
        for segment in self._chunks[index].segments:
            piece = self._text_of(segment, example)
            if isinstance(segment, Field):
                owners.append((len(text), len(text) + len(piece), len(owners) + 100 * index))
            text += piece
        return text, owners

    def _text_of(self, segment: Hard, example: Example) -> str:
        """Give the text of a hard segment for an example."""
        if isinstance(segment, Mask):
            return self._tokenizer.mask_token or ""
        if isinstance(segment, Given):
            return ""
        if isinstance(segment, Instruction):
            return segment.text(example.language)
        return example.fields[segment.name] if isinstance(segment, Field) else segment.text

    def _run(
        self,
        pieces: Sequence[int],
        offset_pairs: Sequence[Sequence[int]],
        text: str,
        spans: list[tuple[int, int, int]],
        example: Example,
    ) -> ChunkPieces:
        """Find out what each piece of a hard run is."""
        ids = np.asarray(pieces, dtype=np.int64)
        offsets = np.asarray(offset_pairs, dtype=np.int64).reshape(-1, 2)
        owners = owners_of(offsets, spans)
        if self._segmentation is not None and self._segmentation.applies_to(example.language):
            rng = generator(0, "segmentation", example.language, example.id, text)
            ids, offsets = self._segmentation.apply(ids, offsets, owners >= 0, rng)
            owners = owners_of(offsets, spans)
        reads = None
        if example.words and self._reading.piece and spans:
            blank = np.isin(ids, self._blank)
            start = spans[-1][0]  # of a field that stands there twice, the last is read
            reads = read_places(example.words, start, offsets, blank, self._reading.piece)
        masks = np.flatnonzero((ids == self._mask) & (owners < 0))
        return ChunkPieces(ids, owners, singles_of(offsets, text), reads, masks)

    def _assemble(self, runs: Sequence[ChunkPieces], example: Example) -> Encoded:
        """Cut the fields to the limit and put the special tokens around the words."""
        limit = self._max_tokens - len(self.begin) - len(self.end)
        prompts = [
            len(run.ids)
            for run, chunk in zip(runs, self._chunks, strict=True)
            if chunk.given is not None
        ]
        excess = sum(len(run.ids) for run in runs) - sum(prompts) - limit
        keep = [np.ones(len(run.ids), dtype=bool) for run in runs]
        if excess > 0:
            keep = cut_longest([run.owners for run in runs], excess)
        ids = [run.ids[mask] for run, mask in zip(runs, keep, strict=True)]
        own = [run.owners[mask] >= 0 for run, mask in zip(runs, keep, strict=True)]
        starts = np.cumsum([0, *map(len, ids[:-1])])
        starts[self._first :] += len(self.begin)
        ids[self._first] = np.concatenate([self.begin, ids[self._first]])
        ids[self._last] = np.concatenate([ids[self._last], self.end])
        own[self._first] = np.concatenate([np.zeros(len(self.begin), bool), own[self._first]])
        own[self._last] = np.concatenate([own[self._last], np.zeros(len(self.end), bool)])
        triples = [*zip(runs, keep, starts.tolist(), strict=True)]
        masks = [kept_places(run.masks, kept, start) for run, kept, start in triples]
        reads = [kept_places(r.reads, k, s) for r, k, s in triples if r.reads is not None]
        fields = example.fields.values()
        return Encoded(
            self._joined(ids),
            max(excess, 0),
            len(example.words) or len(" ".join(fields).split()),
            sum(map(len, fields)),
            self._joined(own),
            reads=reads[-1] if reads else np.concatenate(masks),
            masks=np.concatenate(masks),
            continuations=self._continuations(example),
            pieces=sum(int((run.owners >= 0).sum()) for run in runs),
            singles=sum(int((run.singles & (run.owners >= 0)).sum()) for run in runs),
            answers=example.answers,
            given=sum(prompts),
            decoder=self._decoder,
            variant=example.language if example.language in self._sourced.variants else "",
        )

    def _joined(self, chunks: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], ...]:
        """Join the chunks of every hard run."""
        runs: list[list[NDArray[Any]]] = [[] for _ in range(self._runs)]
        for chunk, value in zip(self._chunks, chunks, strict=True):
            runs[chunk.run].append(value)
        start = np.array(self._start if self._decoder else [], dtype=chunks[0].dtype)
        if chunks[0].dtype == np.bool_:
            start[:] = False
        runs[-1].append(start)
        nothing = np.zeros(0, dtype=chunks[0].dtype)
        return tuple(np.concatenate([nothing, *run]) for run in runs)

    def _continuations(self, example: Example) -> tuple[tuple[int, ...], ...]:
        """Tokenize the texts one of which is the answer."""
        if not self._reading.continued:
            return ()
        reading = self._reading
        space = " " if reading.leading_space else ""
        texts, end = list(example.choices), ()
        if reading.target is not None:
            target = reading.target(example)
            texts, end = [] if target is None else [target], (reading.end,)
        behind = [
            pieces_behind(self._tokenizer, space + text.strip()) if text.strip() else ()
            for text in texts
        ]
        return tuple((*pieces, *end)[: reading.continued] for pieces in behind)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that are read."""
        segments = (one for chunk in self._chunks for one in chunk.segments)
        return tuple(one.name for one in segments if isinstance(one, Field))

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Say which letters of a text each of its pieces has."""
        out = self._tokenizer([text], add_special_tokens=False, return_offsets_mapping=True)
        return [(first, last) for first, last in out["offset_mapping"][0] if last > first]
