"""Cuts texts into other pieces than the tokenizer's own, finer ones, from a generator of its own.

What is kept: the characters, in their order; pieces are those of the vocabulary.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyprompt.capabilities import SegmentationSettings
from polyprompt.errors import ConfigError

MARKS = ("▁", "Ġ")
"""How tokenizers write the blank in front of a word."""

Places = list[tuple[int, int]]


@dataclass(frozen=True)
class Segmentation:
    """Cuts pieces of some languages' texts.

    Attributes:
        cut: From the pieces of a word (texts) to others of the same characters.
        vocabulary: Ids by piece.
        pieces: Pieces by id.
        languages: Whose texts; None for all.
    """

    cut: Callable[[Sequence[str], np.random.Generator], list[str]]
    vocabulary: Mapping[str, int]
    pieces: Mapping[int, str]
    languages: tuple[str, ...] | None

    def applies_to(self, language: str) -> bool:
        """Say whether texts of a language are cut."""
        return self.languages is None or language in self.languages

    def apply(
        self,
        ids: NDArray[np.int64],
        offsets: NDArray[np.int64],
        chosen: NDArray[np.bool_],
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Cut some pieces of a text, word by word.

        Args:
            ids: Of the text's pieces, N.
            offsets: Where each of them begins and ends in the text, N × 2.
            chosen: Which of them may be cut, N.
            rng: The item's own generator.

        Returns:
            Ids and offsets of the pieces that stand in their place.
        """
        new_ids: list[int] = []
        new_offsets: Places = []
        at = 0
        while at < len(ids):
            end = at + 1
            if not chosen[at]:
                new_ids.append(int(ids[at]))
                new_offsets.append((int(offsets[at, 0]), int(offsets[at, 1])))
                at = end
                continue
            while (
                end < len(ids) and chosen[end] and not self.pieces[int(ids[end])].startswith(MARKS)
            ):
                end += 1
            word = [self.pieces[int(i)] for i in ids[at:end]]
            cut = self.cut(word, rng)
            new_ids += [self.vocabulary[piece] for piece in cut]
            new_offsets += _places(cut, _characters(word, offsets[at:end]))
            at = end
        return np.array(new_ids, dtype=np.int64), np.array(new_offsets, dtype=np.int64).reshape(
            -1, 2
        )


def segmentation_of(settings: SegmentationSettings, tokenizer: Any) -> Segmentation:
    """Prepare to cut texts of a tokenizer.

    Args:
        settings: How.
        tokenizer: A transformers fast tokenizer.

    Raises:
        ConfigError: Pieces are to be drawn, and the tokenizer has no probabilities.
    """
    vocabulary = tokenizer.get_vocab()
    pieces = {index: piece for piece, index in vocabulary.items()}
    special = set(tokenizer.all_special_tokens)
    plain = {piece for piece in vocabulary if piece not in special}
    if settings.kind == "split":

        def cut(word: Sequence[str], rng: np.random.Generator) -> list[str]:
            return [part for piece in word for part in split(piece, plain, settings.rate, rng)]
    else:
        scores = _scores(tokenizer)
        longest = max(map(len, scores), default=0)

        def cut(word: Sequence[str], rng: np.random.Generator) -> list[str]:
            return sample("".join(word), scores, settings.rate, rng, longest) or list(word)

    return Segmentation(cut, vocabulary, pieces, settings.languages)


def split(piece: str, vocabulary: set[str], rate: float, rng: np.random.Generator) -> list[str]:
    """Cut a piece in two with a probability, and the halves again.

    Args:
        piece: One of the vocabulary.
        vocabulary: Pieces there are.
        rate: The probability.
        rng: Decides.
    """
    places = [
        i for i in range(1, len(piece)) if piece[:i] in vocabulary and piece[i:] in vocabulary
    ]
    if piece not in vocabulary or not places or rng.random() >= rate:
        return [piece]
    at = places[int(rng.integers(len(places)))]
    return [
        *split(piece[:at], vocabulary, rate, rng),
        *split(piece[at:], vocabulary, rate, rng),
    ]


def sample(
    word: str, scores: Mapping[str, float], power: float, rng: np.random.Generator, longest: int
) -> list[str]:
    """Draw the pieces of a word by forward filtering and backward sampling (Kudo 2018).

    Args:
        word: Its characters, the mark of a blank included.
        scores: Log-probabilities of pieces.
        power: 1 draws by the unigram model, 0 every way of cutting alike.
        rng: Decides.
        longest: Characters of the longest piece.

    Returns:
        Nothing if the word cannot be cut into pieces.
    """
    forward = np.full(len(word) + 1, -np.inf)
    forward[0] = 0.0
    for end in range(1, len(word) + 1):
        terms = [
            forward[start] + power * scores[word[start:end]]
            for start in range(max(0, end - longest), end)
            if word[start:end] in scores
        ]
        if terms:
            forward[end] = np.logaddexp.reduce(terms)
    if not np.isfinite(forward[-1]):
        return []
    found: list[str] = []
    end = len(word)
    while end:
        starts = [s for s in range(max(0, end - longest), end) if word[s:end] in scores]
        terms = np.array([forward[s] + power * scores[word[s:end]] for s in starts])
        weights = np.exp(terms - forward[end])
        start = starts[int(rng.choice(len(starts), p=weights / weights.sum()))]
        found.append(word[start:end])
        end = start
    return found[::-1]


def _scores(tokenizer: Any) -> dict[str, float]:
    """Read the log-probabilities of a unigram tokenizer's pieces.

    Raises:
        ConfigError: It is of another kind.
    """
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    if model["type"] != "Unigram":
        raise ConfigError(
            f"segmentation.kind=sampled: this backbone's tokenizer is of the kind {model['type']}, "
            "without probabilities. Set segmentation.kind=split."
        )
    special = set(tokenizer.all_special_tokens)
    return {piece: score for piece, score in model["vocab"] if piece not in special}


def _characters(word: Sequence[str], offsets: NDArray[np.int64]) -> Places:
    """Say where each character of a word's pieces stands in the text.

    Where normalisation made another number of characters of a piece, each of them has all of its
    place; the mark of a blank stands where its piece begins.
    """
    found: Places = []
    for piece, (begin, end) in zip(word, offsets.tolist(), strict=True):
        size = len(piece)
        if size == end - begin:
            found += [(begin + i, begin + i + 1) for i in range(size)]
        elif piece.startswith(MARKS) and size - 1 == end - begin:
            found += [(begin, begin), *((begin + i, begin + i + 1) for i in range(size - 1))]
        else:
            found += [(begin, end)] * size
    return found


def _places(pieces: Sequence[str], characters: Places) -> Places:
    """Say where pieces stand in the text."""
    found, at = [], 0
    for piece in pieces:
        own = characters[at : at + len(piece)]
        found.append((min(begin for begin, _ in own), max(end for _, end in own)))
        at += len(piece)
    return found
