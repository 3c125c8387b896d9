"""What a running study tells whoever drives it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """Progress of one stage.

    Attributes:
        stage: ``plan``, ``load``, ``train``, ``read``, ``record``, ``baselines``, ``write``
            or ``done``.
        done: Steps of the stage that are done.
        total: Steps of the stage.
        note: A sentence for the reader; empty while a stage goes on.
    """

    stage: str
    done: int = 0
    total: int = 0
    note: str = ""
