"""What a model of language is to guess: the next word, masked words, or spans that are left out.

Source: next words and masked words as usual (Devlin et al. 2019: of the chosen pieces 80 % become
the mask, 10 % a random piece, 10 % stay); spans as T5 draws them (Raffel et al. 2020).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
from numpy.typing import NDArray

from polyprompt.data.encoded import Encoded
from polyprompt.data.pieces import Vocabulary
from polyprompt.errors import ConfigError
from polyprompt.head_settings import LanguageModelSettings
from polyprompt.seeds import generator

AS_MASK, AS_RANDOM = 0.8, 0.1
"""Shares of the chosen pieces that become the mask, and a random piece."""


@dataclass(frozen=True)
class Corruption:
    """Makes something to guess of a text.

    Attributes:
        settings: What, and how much of it.
        vocabulary: Of the tokenizer.
    """

    settings: LanguageModelSettings
    vocabulary: Vocabulary

    def __post_init__(self) -> None:
        """Find out whether the tokenizer has what it takes.

        Raises:
            ConfigError: It has no mask, or no sentinels.
        """
        missing = {
            "masked_words": self.vocabulary.mask is None,
            "spans": not self.vocabulary.sentinels,
        }
        if missing.get(self.settings.objective or "", False):
            masked = self.settings.objective == "masked_words"
            what = "mask" if masked else "sentinels (<extra_id_…>)"
            raise ConfigError(
                f"head.objective={self.settings.objective}: the backbone's tokenizer has no {what}."
            )

    def of(self, encoded: Encoded, rng: np.random.Generator) -> Encoded:
        """Corrupt a text.

        Args:
            encoded: Its pieces, cut to the limit.
            rng: Decides what is left out.
        """
        if self.settings.objective == "next_word":
            return next_words(encoded)
        if self.settings.objective == "masked_words":
            return masked_words(encoded, self.settings.density, self.vocabulary, rng)
        return left_out_spans(encoded, self.settings, self.vocabulary, rng)


def next_words(encoded: Encoded) -> Encoded:
    """Let every piece of the text be guessed from the hard token in front of it, if there is one.

    A soft token is none: a text without a beginning token leaves its first piece out.
    """
    runs = [len(run) for run in encoded.hard]
    codes, own = np.concatenate(encoded.hard), np.concatenate(encoded.own)
    first_of_run = np.zeros(len(codes), dtype=bool)
    starts = np.cumsum([0, *runs[:-1]])
    first_of_run[starts[starts < len(codes)]] = True
    guessed = np.flatnonzero(own & ~first_of_run)
    return replace(encoded, reads=guessed - 1, targets=codes[guessed])


def masked_words(
    encoded: Encoded, density: float, vocabulary: Vocabulary, rng: np.random.Generator
) -> Encoded:
    """Choose a share of the pieces, one at least, and hide most of them."""
    assert vocabulary.mask is not None
    own = np.flatnonzero(np.concatenate(encoded.own))
    count = min(max(round(density * len(own)), 1), len(own))
    chosen = np.sort(rng.choice(own, count, replace=False))
    codes = np.concatenate(encoded.hard)
    targets, kind = codes[chosen], rng.random(count)
    drawn = rng.choice(vocabulary.pieces, count)
    hidden = np.where(kind < AS_MASK, vocabulary.mask, targets)
    hidden = np.where((kind >= AS_MASK) & (kind < AS_MASK + AS_RANDOM), drawn, hidden)
    codes[chosen] = hidden
    hard = np.split(codes, np.cumsum([len(run) for run in encoded.hard])[:-1])
    return replace(encoded, hard=tuple(hard), reads=chosen, masks=chosen, targets=targets)


def left_out_spans(
    encoded: Encoded,
    settings: LanguageModelSettings,
    vocabulary: Vocabulary,
    rng: np.random.Generator,
) -> Encoded:
    """Leave spans out, a sentinel in the place of each; they are to be written behind theirs.

    The first span has the first sentinel; what is to be written ends with the end token.
    """
    own = np.concatenate(encoded.own)
    codes = np.concatenate(encoded.hard)
    text = np.flatnonzero(own)
    noise = np.zeros(len(codes), dtype=bool)
    noise[text] = noise_mask(len(text), settings.density, settings.mean_span, rng)
    begins = noise & ~np.concatenate([[False], noise[:-1]])
    number = np.cumsum(begins) - 1
    most = len(vocabulary.sentinels)
    if number[-1] >= most:
        raise ConfigError(
            f"A text has {number[-1] + 1} spans and the tokenizer {most} sentinels. Set "
            "backbone.max_tokens to a smaller number, or head.mean_span to a larger one."
        )
    sentinels = np.asarray(vocabulary.sentinels, dtype=np.int64)
    shown = np.where(begins, sentinels[np.clip(number, 0, most - 1)], codes)
    kept = ~noise | begins
    runs = np.repeat(np.arange(len(encoded.hard)), [len(run) for run in encoded.hard])
    hard = tuple(shown[kept & (runs == index)] for index in range(len(encoded.hard)))
    still = tuple((own & ~noise)[kept & (runs == index)] for index in range(len(encoded.hard)))
    written: list[int] = []
    for span in range(number[-1] + 1):
        written += [vocabulary.sentinels[span], *codes[noise & (number == span)].tolist()]
    written += [] if vocabulary.end is None else [vocabulary.end]
    return replace(encoded, hard=hard, own=still, continuations=(tuple(written),))


def noise_mask(
    length: int, density: float, mean_span: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Choose spans as T5 does: kept and left-out stretches in turn, a kept one first.

    Args:
        length: Pieces of the text.
        density: Share that is left out.
        mean_span: Mean length of a span.
        rng: Divides both kinds of pieces into as many stretches at random.
    """
    if length < 2:  # nothing would be left
        return np.ones(length, dtype=bool)
    noise = min(max(round(length * density), 1), length - 1)
    spans = min(max(round(noise / mean_span), 1), noise, length - noise)
    kept, left_out = (_stretches(count, spans, rng) for count in (length - noise, noise))
    sizes = np.stack([kept, left_out], axis=1).flatten()
    return np.repeat(np.arange(len(sizes)) % 2 == 1, sizes)


def whole_length(most: int, settings: LanguageModelSettings) -> int:
    """Say how long a text may be of which so many tokens are left once spans are left out.

    Args:
        most: Tokens that are read, one end token and a sentinel per span among them.
        settings: Density and mean span.

    Returns:
        Pieces of the text and the end token; for 256 and T5's settings 285.
    """
    length = most
    while _read_of(length + 1, settings) <= most:
        length += 1
    return length


def _read_of(length: int, settings: LanguageModelSettings) -> int:
    """Count what is read of a text of so many pieces, its end token included."""
    text = length - 1
    noise = min(max(round(text * settings.density), 1), max(text - 1, 1))
    return text - noise + max(round(noise / settings.mean_span), 1) + 1


def _stretches(count: int, parts: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Divide a number into so many of 1 or more, every division equally likely."""
    cuts = np.sort(rng.choice(count - 1, parts - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [count]]))


class CorruptedInputs(Sequence[Encoded]):
    """Training texts that are corrupted anew in every epoch."""

    def __init__(
        self, texts: Sequence[Encoded], corruption: Corruption, seed: int, names: Sequence[str]
    ) -> None:
        """Corrupt texts.

        Args:
            texts: Encoded, as they are.
            corruption: What is done to them.
            seed: Of the run.
            names: One per text, of which its own stream of randomness is made.
        """
        self._texts, self._corruption, self._seed = texts, corruption, seed
        self._names = names

    def __len__(self) -> int:
        """Count the texts."""
        return len(self._texts)

    @overload
    def __getitem__(self, index: int) -> Encoded: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Encoded]: ...

    def __getitem__(self, index: int | slice) -> Encoded | Sequence[Encoded]:
        """Give a text as the first epoch has it, or some."""
        if isinstance(index, slice):
            return [self.drawn(row, 0) for row in range(*index.indices(len(self)))]
        return self.drawn(index, 0)

    def drawn(self, row: int, epoch: int) -> Encoded:
        """Give a text as an epoch has it."""
        rng = generator(self._seed, "corruption", epoch, self._names[row])
        return self._corruption.of(self._texts[row], rng)
