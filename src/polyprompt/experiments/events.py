"""What a running study tells whoever drives it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """Progress of one stage.

    Attributes:
        stage: ``plan``, ``study`` (runs), ``load``, ``train``, ``read``, ``record``,
            ``baselines``, ``write`` or ``done``.
        done: Steps of the stage that are done.
        total: Steps of the stage.
        note: A sentence for the reader; empty while a stage goes on.
        worker: Which of several it comes from.
        runs: In the group that it is about.
    """

    stage: str
    done: int = 0
    total: int = 0
    note: str = ""
    worker: int = 0
    runs: int = 1
