"""Long texts in windows, each of which is read alone.

The best answer to any of them counts; where an answer lists what is in a text, all count together.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from polyprompt.data.encoded import Encoded
from polyprompt.data.encoding import Encoder
from polyprompt.records import Example
from polyprompt.scoring.answers import kept_entities

NO_PIECE = -1
"""Stands behind the last piece of an answer."""

NEXT_WINDOW = -2
"""Stands between the pieces that were written for one window and for the next."""


@dataclass(frozen=True)
class Windowing:
    """How long texts are read.

    Attributes:
        stride: Pieces that neighbouring windows share; at most half of a window.
        lists: Whether an answer lists what is in the text.
    """

    stride: int
    lists: bool = False


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
    name = _longest(encoder, example)
    slices = _slices(encoder, example, name, stride)
    return [_cut(example, name, own) for own in slices] or [example]


def _longest(encoder: Encoder, example: Example) -> str:
    """Find the longest field of those that are read."""
    return max(encoder.fields, key=lambda own: len(example.fields[own]))


def _cut(example: Example, name: str, letters: tuple[int, int]) -> Example:
    """Give an example with these letters of a field alone."""
    first, last = letters
    return replace(example, fields={**example.fields, name: example.fields[name][first:last]})


def _slices(
    encoder: Encoder, example: Example, name: str, stride: int | None
) -> list[tuple[int, int]]:
    """Find the letters of a field that each window has; none where nothing is to be cut."""
    whole = encoder.whole([example])[0]
    if stride is None or not whole.dropped:
        return []
    offsets, over = encoder.offsets(example.fields[name]), whole.dropped
    if not offsets or encoder.whole([_cut(example, name, offsets[0])])[0].dropped:
        return []  # the other fields alone are too long
    room = len(offsets) - over
    if room <= 0:  # of a field that is cut into more pieces than the tokenizer's own
        room = len(offsets) * whole.tokens // (whole.tokens + over)
    while room > 0:
        found = _cuts(offsets, room, stride)
        read = encoder.whole([_cut(example, name, own) for own in found])
        over = max(one.dropped for one in read)
        if not over:
            return found
        # a window's first and last pieces may be others than in the whole text
        room = min(room - 1, room * whole.tokens // (whole.tokens + over))
    return []


def _cuts(offsets: Sequence[tuple[int, int]], room: int, stride: int) -> list[tuple[int, int]]:
    """Cut a text's pieces, of which the letters are given, into windows of so many."""
    step = room - min(stride, room // 2)
    starts = range(0, max(len(offsets) - room, 0) + step, step)
    windows = [offsets[start : start + room] for start in starts]
    return [(own[0][0], own[-1][1]) for own in windows if own]


def with_answers(
    encoder: Encoder, examples: Sequence[Example], windowing: Windowing | None
) -> list[Example]:
    """Give examples to learn from, of a text that is too long one window.

    It is the first that has the answer where this begins, or its letters if the data does not say
    where; of a list the first window, with as much of the list as is in it.
    """
    if windowing is None:
        return [*examples]
    return [_with_answer(encoder, example, windowing) for example in examples]


def _with_answer(encoder: Encoder, example: Example, windowing: Windowing) -> Example:
    """Give the first window that has the answer; the text as it is where none has."""
    if not (example.is_open and example.label):
        return example
    name = _longest(encoder, example)
    slices = _slices(encoder, example, name, windowing.stride)
    if not slices:
        return example
    if windowing.lists:
        window = _cut(example, name, slices[0])
        return replace(window, label=kept_entities(example.label, window.fields[name]))
    text, answer = example.fields[name], example.label.split("\n")[0]
    spaced = re.compile(r"\s*" + r"\s+".join(map(re.escape, answer.split())))
    there = None if example.answer_start is None else spaced.match(text, example.answer_start)
    if there is not None:
        begin, end = there.end() - len(there[0].lstrip()), there.end()
        having = [own for own in slices if own[0] <= begin and end <= own[1]]
    else:
        having = [own for own in slices if answer in " ".join(text[slice(*own)].split())]
    return _cut(example, name, having[0]) if having else example


@dataclass(frozen=True)
class Asked:
    """Items as they are read.

    Attributes:
        items: Encoded whole, N.
        inputs: What is read: the items, or windows of them.
        starts: Where each item's windows begin among the inputs, and their number, N + 1.
        lists: Whether the answers to an item's windows count together.
    """

    items: Sequence[Encoded]
    inputs: Sequence[Encoded]
    starts: NDArray[np.int64]
    lists: bool = False

    def answers(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give each item's likeliest answer, or those to all its windows.

        Args:
            scores: R × windows × columns, of which the first says how likely an answer is.

        Returns:
            R × N × columns; the same where every item is one input. Answers that count together
            have ``NEXT_WINDOW`` between them, and the mean of their first columns.
        """
        if len(self.inputs) == len(self.items):
            return scores
        spans = [slice(*own) for own in zip(self.starts[:-1], self.starts[1:], strict=True)]
        if self.lists:
            return _together([scores[:, own] for own in spans])
        chosen = [own.start + scores[:, own, 0].argmax(1) for own in spans]
        rows = np.arange(len(scores))[:, None]
        return scores[rows, np.stack(chosen, axis=1)]


def _together(windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Put the answers to each item's windows, R × windows × columns, one behind the other."""
    columns = max(own.shape[1] for own in windows) * windows[0].shape[2]
    table = np.full((len(windows[0]), len(windows), columns), NO_PIECE, dtype=np.float32)
    for item, own in enumerate(windows):
        runs, count, each = own.shape
        behind = own.copy()
        behind[:, :, 0] = NEXT_WINDOW
        table[:, item, : count * each] = behind.reshape(runs, count * each)
        table[:, item, 0] = own[:, :, 0].mean(1)
    return table


def asked(encoder: Encoder, examples: Sequence[Example], windowing: Windowing | None) -> Asked:
    """Encode examples that are to be answered, long ones in windows.

    Args:
        encoder: Of the layout.
        examples: In any order.
        windowing: How long texts are read; None cuts them off.
    """
    items = encoder.encode(examples)
    if windowing is None or not any(one.dropped for one in items):
        return Asked(items, items, np.arange(len(items) + 1))
    inputs: list[Encoded] = []
    starts = [0]
    for index, example in enumerate(examples):
        if items[index].dropped:
            inputs += encoder.encode(windows_of(encoder, example, windowing.stride))
            if len(inputs) > starts[-1] + 1:
                items[index] = replace(items[index], dropped=0)
        else:
            inputs.append(items[index])
        starts.append(len(inputs))
    return Asked(items, inputs, np.array(starts), windowing.lists)
