"""Models that have seen a benchmark's sentences in training: said wherever results name them."""

import re
from collections.abc import Sequence

_WARNING = "CONTAMINATED: "

_FLORES = (
    _WARNING + "{name} was fine-tuned on xP3, which holds FLORES-200 sentences; SIB-200 is made "
    "of them. Do not use its scores on SIB-200 as evidence of transfer (bigscience-workshop/xmtf, "
    "issue 22); BLOOM, XGLM and mT5 have not seen them so."
)

CONTAMINATED = {r"bloomz(?![a-z])": _FLORES, r"mt0(?![a-z0-9])": _FLORES}
"""By a pattern that a word of the model's name or path begins with, without regard to case."""

MARK = "‡"
"""Stands behind the name of a contaminated model."""


def contamination_of(*names: str) -> tuple[str, ...]:
    """Say what a model has seen that it is tested on.

    Args:
        names: By which the model goes; any of them may tell.
    """
    for pattern, sentence in CONTAMINATED.items():
        for name in names:
            if re.search(rf"(?<![a-z0-9]){pattern}", name.casefold()):
                return (sentence.format(name=name),)
    return ()


def renamed(notes: Sequence[str], name: str) -> tuple[str, ...]:
    """Give what is said of a contaminated model under another name of the same model."""
    pattern = re.compile(rf"^{re.escape(_WARNING)}.*? was fine-tuned")
    return tuple(pattern.sub(f"{_WARNING}{name} was fine-tuned", note) for note in notes)


def contamination_notes(notes: Sequence[str]) -> tuple[str, ...]:
    """Pick out of a backbone's notes those on what it has seen."""
    return tuple(note for note in notes if note.startswith(_WARNING))


def marked(name: str) -> str:
    """Give a model's name, marked if it is contaminated."""
    return f"{name} {MARK}" if contamination_of(name) else name
