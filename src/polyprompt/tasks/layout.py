"""Layouts: where text, fixed words and soft prompts stand in the input.

``"{text}{task:10}"`` puts ten soft tokens of the slot ``task`` after the field ``text``. Everything
outside braces is fixed words; ``{{`` and ``}}`` are literal braces. ``{mask}`` is the word that a
masked language model guesses, ``{instruction}`` are words of the example's own language, unless
the task has a field of that name. In a layout for T5 what stands behind ``{decoder}`` stands in the
decoder, in front of its start token: soft prompts alone.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from polyprompt.errors import LayoutError, listing, nearest
from polyprompt.families import Attention
from polyprompt.part_settings import Reach
from polyprompt.tasks.segments import (
    Decoder,
    Field,
    Given,
    Hard,
    Instruction,
    Mask,
    Segment,
    Slot,
    Words,
)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


MASK, DECODER, INSTRUCTION = "mask", "decoder", "instruction"
_MARKS: Mapping[str, Segment] = {
    MASK: Mask(),
    DECODER: Decoder(),
    INSTRUCTION: Instruction(),
}
"""What names stand for that are no field of the task."""


@dataclass(frozen=True)
class Layout:
    """A parsed layout whose names are known to exist."""

    segments: tuple[Segment, ...]

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The soft prompts, in the order of the input."""
        return tuple(segment for segment in self.segments if isinstance(segment, Slot))

    @property
    def given_length(self) -> int:
        """Tokens of all frozen soft prompts together."""
        return sum(part.length for part in self.segments if isinstance(part, Given))

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the example, in the order of the input."""
        return tuple(segment.name for segment in self.segments if isinstance(segment, Field))

    @property
    def masks(self) -> int:
        """How many words are to be guessed."""
        return sum(isinstance(segment, Mask) for segment in self.segments)

    @property
    def prompt_length(self) -> int:
        """Soft tokens of all slots together (P)."""
        return sum(slot.length for slot in self.slots)

    @property
    def has_instruction(self) -> bool:
        """Whether words of the example's language stand in it."""
        return any(isinstance(segment, Instruction) for segment in self.segments)

    def with_instructions(self, texts: Mapping[str, str]) -> "Layout":
        """Say what the words of each language are."""
        words = Instruction(tuple(texts.items()))
        return replace(
            self,
            segments=tuple(
                words if isinstance(segment, Instruction) else segment for segment in self.segments
            ),
        )

    def with_given(self, names: Collection[str]) -> "Layout":
        """Have some soft prompts read like words, because nothing trains them."""
        return replace(
            self,
            segments=tuple(
                Given(one.name, one.length) if isinstance(one, Slot) and one.name in names else one
                for one in self.segments
            ),
        )

    @property
    def decoder_run(self) -> int | None:
        """Which hard run is the first of the decoder; None where there is none."""
        seen = 0
        for segment in self.segments:
            seen += isinstance(segment, (Slot, Decoder))
            if isinstance(segment, Decoder):
                return seen
        return None

    def with_decoder(self) -> "Layout":
        """Give the layout with a decoder, behind all of it where none is marked."""
        if self.decoder_run is not None:
            return self
        return replace(self, segments=(*self.segments, Decoder()))

    def hard_runs(self) -> tuple[tuple[Hard, ...], ...]:
        """Split what is not soft at the slots, and where a decoder begins.

        n slots make n + 1 runs, some of them empty; a decoder makes one more.
        """
        runs: list[list[Hard]] = [[]]
        for segment in self.segments:
            if isinstance(segment, (Slot, Decoder)):
                runs.append([])
            else:
                runs[-1].append(segment)
        return tuple(tuple(run) for run in runs)

    def reach(self, slot: str, attention: Attention) -> Reach:
        """Say how far a soft prompt in ``slot`` reaches under a kind of attention."""
        if attention is Attention.ONE_WAY:
            return Reach.AFTER_INPUT
        if attention is Attention.ENCODER_DECODER:
            return self._reach_beside_decoder(slot)
        names = [getattr(segment, "name", "") for segment in self.segments]
        text_follows = any(isinstance(s, Field) for s in self.segments[names.index(slot) + 1 :])
        if attention is Attention.CAUSAL and not text_follows:
            return Reach.AFTER_INPUT
        return Reach.WHOLE_SEQUENCE

    def _reach_beside_decoder(self, slot: str) -> Reach:
        """Say how far a soft prompt reaches in an encoder with a decoder: from there, to all."""
        before = self.segments
        for index, segment in enumerate(self.segments):
            before = self.segments[:index] if isinstance(segment, Decoder) else before
        in_encoder = any(isinstance(one, Slot) and one.name == slot for one in before)
        return Reach.WHOLE_SEQUENCE if in_encoder else Reach.AFTER_INPUT


def without_slots(text: str, fields: Collection[str], parts: Collection[str]) -> str:
    """Take out of a layout the slots that no part stands in.

    Args:
        text: The layout of a card, which is written for a soft prompt.
        fields: The task's fields.
        parts: Names of the soft prompts there are.
    """

    def kept(found: re.Match[str]) -> str:
        name = found["name"]
        is_kept = name is None or name in {*fields, *parts, MASK, DECODER, INSTRUCTION}
        return found[0] if is_kept else ""

    return re.sub(r"\{\{|\{(?P<name>[A-Za-z_][A-Za-z0-9_-]*)(?::\d+)?\}", kept, text)


def parse_layout(
    text: str, fields: Collection[str], lengths: Mapping[str, int | None] | None = None
) -> Layout:
    """Parse a layout and check its names.

    Args:
        text: The layout as written.
        fields: The task's fields.
        lengths: The parts that need a slot and their length, None where the layout gives it.

    Raises:
        LayoutError: The layout is malformed, names what does not exist, has no field, or gives a
            slot no length or two; the message points at the character.
    """
    lengths = lengths or {}
    segments: list[Segment] = []
    position = 0
    while position < len(text):
        words, position = _read_words(text, position)
        if words:
            segments.append(Words(words))
        if position < len(text):
            segment, after = _read_placeholder(text, position, fields, lengths)
            if isinstance(segment, Slot) and segment.name in {
                s.name for s in segments if isinstance(s, Slot)
            }:
                raise _fault(text, position, f"the slot '{segment.name}' stands here twice")
            segments.append(segment)
            position = after
    layout = Layout(tuple(segments))
    _check_whole(text, layout, fields, lengths)
    return layout


def _check_whole(
    text: str, layout: Layout, fields: Collection[str], lengths: Mapping[str, int | None]
) -> None:
    """Refuse a layout in which no example can be read or a part has no place."""
    if not layout.fields:
        hint = listing([f"{{{name}}}" for name in fields])
        raise _fault(text, 0, f"there is no text in it. Add a field of the task: {hint}")
    for name in lengths:
        if name not in {slot.name for slot in layout.slots}:
            raise _fault(text, 0, f"the part '{name}' has no slot. Add {{{name}:10}} to the layout")


def _read_words(text: str, position: int) -> tuple[str, int]:
    """Read fixed words up to the next placeholder; returns them and where they end."""
    words = ""
    while position < len(text):
        pair = text[position : position + 2]
        if pair in {"{{", "}}"}:
            words, position = words + pair[0], position + 2
        elif text[position] == "{":
            break
        elif text[position] == "}":
            raise _fault(text, position, "this '}' closes nothing; write '}}' for a literal brace")
        else:
            words, position = words + text[position], position + 1
    return words, position


def _read_placeholder(
    text: str, start: int, fields: Collection[str], lengths: Mapping[str, int | None]
) -> tuple[Segment, int]:
    """Read one ``{name}`` or ``{name:n}``; returns the segment and where it ends."""
    end = text.find("}", start)
    if end < 0:
        raise _fault(text, start, "there is no closing '}' for this '{'")
    name, colon, number = text[start + 1 : end].partition(":")
    if not _NAME.fullmatch(name):
        raise _fault(text, start + 1, f"'{name}' is not a name (letters, digits, '_', '-')")
    if not colon and name not in lengths:
        if name in _MARKS and name not in fields:
            return _MARKS[name], end + 1
        if name not in fields:
            known = [*fields, *lengths]
            raise _fault(
                text,
                start + 1,
                f"there is no field '{name}'.{nearest(name, known)} The task has the fields "
                f"{listing(list(fields))}; a soft prompt is written {{{name}:10}}",
            )
        return Field(name), end + 1
    length = _slot_length(text, start, name, number if colon else None, lengths)
    return Slot(name, length), end + 1


def _slot_length(
    text: str, start: int, name: str, number: str | None, lengths: Mapping[str, int | None]
) -> int:
    """Find a slot's length, said once: in the layout or in the part."""
    if name not in lengths:
        raise _fault(
            text,
            start + 1,
            f"there is no part '{name}'.{nearest(name, lengths)} Add 'parts: {{{name}: …}}' or use "
            f"one of: {listing(list(lengths)) or 'none'}",
        )
    if number is not None and not (number.isdecimal() and int(number) > 0):
        raise _fault(text, start + len(name) + 2, f"'{number}' is not a length of 1 or more")
    written, said = (int(number) if number is not None else None), lengths[name]
    if written is not None and said is not None and written != said:
        raise _fault(
            text,
            start + len(name) + 2,
            f"the layout says {written}, parts.{name}.length says {said}. Say it once: write "
            f"{{{name}}} here or take the length out of the part",
        )
    length = written if written is not None else said
    if length is None:
        raise _fault(
            text,
            start + 1,
            f"the slot '{name}' has no length. Write {{{name}:10}} or set parts.{name}.length",
        )
    return length


def _fault(text: str, position: int, message: str) -> LayoutError:
    """Compose an error that points at a character of the layout."""
    return LayoutError(
        f"Layout, character {position + 1}: {message}.\n    {text}\n    {' ' * position}^"
    )
