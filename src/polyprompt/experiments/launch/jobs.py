"""What a worker is given, and what it says became of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from polyprompt.experiments.plan import GroupPlan


@dataclass(frozen=True)
class Job:
    """A group of runs to compute.

    Attributes:
        group: The runs.
        study: The folder their folders are in.
        losses: How many workers were lost with it.
    """

    group: GroupPlan
    study: Path
    losses: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The runs' names."""
        return tuple(run.name for run in self.group.runs)


class Ending(StrEnum):
    """What became of a job."""

    DONE = "done"
    BUSY = "busy"
    """Another program computes some of its runs."""
    FAILED = "failed"
    LOST = "lost"
    """The worker ended with it."""
    STOP = "stop"
    """Results cannot be written: nothing else can go on either."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job, and why.

    Attributes:
        ending: In a word.
        error: As ``failures.describe`` gives it, of what failed or stopped.
        raised: The error itself, if a person can cause it.
        whole: Whether the failure is that of every run of the job, as when a model cannot be
            loaded or settings do not fit it.
        note: What else is to be told.
    """

    ending: Ending
    error: Mapping[str, Any] | None = None
    raised: Exception | None = None
    whole: bool = False
    note: str = ""
