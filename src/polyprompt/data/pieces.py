"""Pieces of a text alone, as it stands behind another one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from polyprompt.errors import ConfigError


class Tokenizer(Protocol):
    """The part of a transformers fast tokenizer that encoding needs."""

    @property
    def mask_token(self) -> str | None:
        """The word that stands for one that is to be guessed."""
        ...

    @property
    def unk_token_id(self) -> int | None:
        """The id of what is not in the vocabulary."""
        ...

    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int | None]:
        """Find pieces' ids; that of the unknown piece, or None, for others."""
        ...

    def __call__(self, text: list[str], **options: object) -> Mapping[str, Any]:
        """Tokenize several texts."""
        ...


def pieces_of(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """Tokenize a text without special tokens."""
    return tuple(tokenizer([text], add_special_tokens=False)["input_ids"][0])


def pieces_behind(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """Tokenize a text that begins with a space or line break as it stands behind another one.

    Some tokenizers put a blank of their own in front of every text; it is not part of this one. A
    text that begins with a letter is tokenized alone, as paper A does.
    """
    if not text[:1].isspace():
        return pieces_of(tokenizer, text)
    before, both = pieces_of(tokenizer, "x"), pieces_of(tokenizer, f"x{text}")
    joined = both[: len(before)] == before
    return both[len(before) :] if joined else pieces_of(tokenizer, text)


def blank_pieces(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Give the ids of pieces that hold a blank alone, in the ways in which tokenizers write it."""
    found = tokenizer.convert_tokens_to_ids(["▁", "Ġ", " "])
    return tuple(i for i in found if i is not None and i != tokenizer.unk_token_id)


def mask_of(tokenizer: Tokenizer) -> int:
    """Give the id of the mask.

    Raises:
        ConfigError: The tokenizer knows none.
    """
    if tokenizer.mask_token is None:
        raise ConfigError("The layout has a {mask}, and the backbone's tokenizer knows no mask.")
    return tokenizer.convert_tokens_to_ids([tokenizer.mask_token])[0] or 0


@dataclass(frozen=True)
class Vocabulary:
    """What of a tokenizer hiding words needs.

    Attributes:
        pieces: Ids that a random piece is drawn from; special tokens are left out.
        mask: Id of the mask; None where there is none.
        sentinels: Ids that stand for spans, the first first; empty where there are none.
        end: Id that closes what is to be written; None for none.
    """

    pieces: NDArray[np.int64]
    mask: int | None = None
    sentinels: tuple[int, ...] = ()
    end: int | None = None


def vocabulary_of(tokenizer: Any) -> Vocabulary:
    """Read what hiding words needs from a transformers tokenizer.

    T5's sentinels are ``<extra_id_0>``, ``<extra_id_1>`` …, in this order.
    """
    known: Mapping[str, int] = tokenizer.get_vocab()
    numbered = {
        int(found[1]): i for w, i in known.items() if (found := _SENTINEL.fullmatch(w)) is not None
    }
    sentinels = tuple(numbered[number] for number in sorted(numbered))
    special = {*tokenizer.all_special_ids, *sentinels}
    pieces = np.array(sorted(set(known.values()) - special), dtype=np.int64)
    return Vocabulary(pieces, tokenizer.mask_token_id, sentinels, tokenizer.eos_token_id)


_SENTINEL = re.compile(r"[▁]?<extra_id_(\d+)>")


def special_tokens(tokenizer: Tokenizer) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find what the tokenizer puts before and after a text, by looking at one."""
    bare = tokenizer(["a"], add_special_tokens=False)["input_ids"][0]
    full = tokenizer(["a"], add_special_tokens=True)["input_ids"][0]
    start = next(
        (i for i in range(len(full) - len(bare) + 1) if full[i : i + len(bare)] == bare), 0
    )
    begin, end = full[:start], full[start + len(bare) :]
    return np.asarray(begin, dtype=np.int64), np.asarray(end, dtype=np.int64)
