"""How far a study is, and how long it will about take, from its events."""

import time
from dataclasses import dataclass, field

from polyprompt.experiments.events import Event

_SHARES = {"train": (0.0, 0.5), "read": (0.5, 0.45), "record": (0.95, 0.05)}
"""What of a group lies before a stage, and what in it: a guess that serves for all."""
_LEAST = 0.02
"""Of the work has to be done before a time left is told."""


@dataclass
class Pace:
    """Follows a study's events.

    Attributes:
        runs: In the study.
        done: Of them, complete.
    """

    runs: int = 0
    done: int = 0
    _shares: dict[int, float] = field(default_factory=dict)
    _since: float | None = None
    _before: float = 0.0

    def follow(self, event: Event) -> None:
        """Take note of an event."""
        if event.stage == "study":
            finished = event.done != self.done
            if event.total != self.runs or event.done < self.done:  # another study: its search's
                self._since, self._shares = None, {}
            self.runs, self.done = event.total, event.done
            if finished:
                self._shares.pop(event.worker, None)
            if self._since is None:
                self._since, self._before = time.monotonic(), self.share
        elif event.stage in _SHARES:
            before, within = _SHARES[event.stage]
            part = before + within * event.done / max(event.total, 1)
            first = event.worker not in self._shares
            self._shares[event.worker] = part * event.runs
            if first and part > 0 and self._since is not None:
                self._before += part * event.runs / max(self.runs, 1)  # taken up, not done now

    @property
    def share(self) -> float:
        """What of the study is done, 0–1."""
        return min((self.done + sum(self._shares.values())) / max(self.runs, 1), 1.0)

    def seconds_left(self) -> float | None:
        """Guess how long the rest takes; None as long as there is too little to tell by."""
        now = self.share - self._before
        if self._since is None or now < _LEAST:
            return None
        return (time.monotonic() - self._since) * (1 - self.share) / now

    def left(self) -> str:
        """Write the time left, as ``about 3 min left``; nothing if it is not known."""
        seconds = self.seconds_left()
        if seconds is None or seconds < 1:
            return ""
        if seconds < 90:
            return f"about {seconds:.0f} s left"
        minutes = seconds / 60
        return (
            f"about {minutes:.0f} min left" if minutes < 90 else f"about {minutes / 60:.1f} h left"
        )

    def words(self) -> str:
        """Write the time left of the study behind a line; nothing if it is not known."""
        left = self.left()
        return f" ({left} of the study)" if left else ""
