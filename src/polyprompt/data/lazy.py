"""Examples that are encoded when they are used, for training sets that are larger than memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import overload

from polyprompt.data.encoded import Encoded
from polyprompt.records import Example

BLOCK = 1024
"""Examples that are encoded together when all are read in order."""


Encoding = Callable[[Sequence[Example]], list[Encoded]]
"""Encodes examples, in order."""


class LazyInputs(Sequence[Encoded]):
    """Encoded examples of which none is kept."""

    def __init__(self, encode: Encoding, examples: Sequence[Example]) -> None:
        """Encode examples when they are asked for."""
        self._encode, self._examples = encode, examples

    def __len__(self) -> int:
        """Count the examples."""
        return len(self._examples)

    @overload
    def __getitem__(self, index: int) -> Encoded: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Encoded]: ...

    def __getitem__(self, index: int | slice) -> Encoded | Sequence[Encoded]:
        """Encode one example, or some."""
        if isinstance(index, slice):
            return self._encode(self._examples[index])
        return self._encode([self._examples[index]])[0]

    def __iter__(self) -> Iterator[Encoded]:
        """Encode all, block by block."""
        for start in range(0, len(self), BLOCK):
            yield from self._encode(self._examples[start : start + BLOCK])


def inputs_of(encode: Encoding, examples: Sequence[Example], ahead: int) -> Sequence[Encoded]:
    """Encode examples: at once, or when they are used if there are more than ``ahead``."""
    return LazyInputs(encode, examples) if len(examples) > ahead else encode(examples)
