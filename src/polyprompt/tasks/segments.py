"""What a layout is made of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """Fixed words, the same in every example."""

    text: str


@dataclass(frozen=True)
class Field:
    """A field of the example."""

    name: str


@dataclass(frozen=True)
class Slot:
    """A place of ``length`` soft tokens."""

    name: str
    length: int


@dataclass(frozen=True)
class Mask:
    """The word that a masked language model guesses."""


@dataclass(frozen=True)
class Given:
    """A place of a frozen soft prompt, read like words; at most ``length`` tokens."""

    name: str
    length: int


@dataclass(frozen=True)
class Decoder:
    """Where the decoder begins, in a layout for an encoder with a decoder."""


@dataclass(frozen=True)
class Instruction:
    """Words of the example's language; those of ``default`` where it has none of its own."""

    texts: tuple[tuple[str, str], ...] = ()

    def text(self, language: str) -> str:
        """Give the words for a language; the longest where it is not known."""
        texts = dict(self.texts)
        if language in texts or "default" in texts:
            return texts.get(language, texts.get("default", ""))
        return max(texts.values(), key=len, default="")


Segment = Words | Field | Slot | Mask | Given | Instruction | Decoder
Hard = Words | Field | Mask | Given | Instruction
