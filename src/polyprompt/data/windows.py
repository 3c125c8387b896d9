"""Long texts in windows: each is read alone, and the best answer to any of them counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from polyprompt.data.encoded import Encoded
from polyprompt.data.encoding import Encoder
from polyprompt.records import Example


def windows_of(encoder: Encoder, example: Example, stride: int | None) -> list[Example]:
    """Cut an example's longest field into windows that fit, where it is too long.

    Args:
        encoder: Says what fits.
        example: Any.
        stride: Pieces that neighbouring windows share; at most half of a window. None for no
            windows.

    Returns:
        The example itself where it fits, or where nothing would be left of the field.
    """
    excess = 0 if stride is None else encoder.whole([example])[0].dropped
    if not excess or stride is None:
        return [example]
    name = max(encoder.fields, key=lambda own: len(example.fields[own]))
    text, offsets = example.fields[name], encoder.offsets(example.fields[name])
    room = len(offsets) - excess
    while room > 0:
        step = room - min(stride, room // 2)
        starts = range(0, max(len(offsets) - room, 0) + step, step)
        slices = [offsets[start : start + room] for start in starts]
        parts = [text[own[0][0] : own[-1][1]] for own in slices if own]
        found = [replace(example, fields={**example.fields, name: part}) for part in parts]
        over = max(one.dropped for one in encoder.whole(found))
        if not over:
            return found
        room -= over  # a window's first and last pieces may be others than in the whole text
    return [example]


def with_answers(
    encoder: Encoder, examples: Sequence[Example], stride: int | None
) -> list[Example]:
    """Give examples to learn from: of a text that is too long, the first window with the answer."""
    if stride is None:
        return [*examples]
    return [_with_answer(encoder, example, stride) for example in examples]


def _with_answer(encoder: Encoder, example: Example, stride: int | None) -> Example:
    """Give the first window that has the answer; the text as it is where none has."""
    answer = (example.label or "").split("\n")[0] if example.is_open else ""
    for window in windows_of(encoder, example, stride) if answer else ():
        if any(answer in " ".join(text.split()) for text in _cut(window, example)):
            return window
    return example


def _cut(window: Example, example: Example) -> list[str]:
    """Give the fields of a window that it does not have whole."""
    whole: Mapping[str, str] = example.fields
    return [text for name, text in window.fields.items() if text != whole[name]]


@dataclass(frozen=True)
class Asked:
    """Items as they are read.

    Attributes:
        items: Encoded whole, N.
        inputs: What is read: the items, or windows of them.
        starts: Where each item's windows begin among the inputs, and their number, N + 1.
    """

    items: Sequence[Encoded]
    inputs: Sequence[Encoded]
    starts: NDArray[np.int64]

    def best(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give each item's likeliest answer.

        Args:
            scores: R × windows × columns, of which the first says how likely an answer is.

        Returns:
            R × N × columns; the same where every item is one input.
        """
        if len(self.inputs) == len(self.items):
            return scores
        spans = zip(self.starts[:-1], self.starts[1:], strict=True)
        chosen = [first + scores[:, first:last, 0].argmax(1) for first, last in spans]
        rows = np.arange(len(scores))[:, None]
        return scores[rows, np.stack(chosen, axis=1)]


def asked(encoder: Encoder, examples: Sequence[Example], stride: int | None) -> Asked:
    """Encode examples that are to be answered, long ones in windows.

    Args:
        encoder: Of the layout.
        examples: In any order.
        stride: As for ``windows_of``.
    """
    items = encoder.encode(examples)
    if stride is None or not any(one.dropped for one in items):
        return Asked(items, items, np.arange(len(items) + 1))
    inputs: list[Encoded] = []
    starts = [0]
    for index, example in enumerate(examples):
        if items[index].dropped:
            inputs += encoder.encode(windows_of(encoder, example, stride))
            if len(inputs) > starts[-1] + 1:
                items[index] = replace(items[index], dropped=0)
        else:
            inputs.append(items[index])
        starts.append(len(inputs))
    return Asked(items, inputs, np.array(starts))
