"""Seconds and work per stage of a group of runs."""

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from polyprompt.models.backbone import Backbone
from polyprompt.models.work import Work


@dataclass
class Clock:
    """Seconds spent, and work done, per stage of a group.

    Attributes:
        backbones: Whose work is counted.
        seconds: By stage.
        work: By stage.
    """

    backbones: tuple[Backbone, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    work: dict[str, Work] = field(default_factory=dict)
    _stage: str = ""
    _since: float = 0.0
    _before: Work = field(default_factory=Work)

    def enter(self, stage: str) -> None:
        """Begin a stage and end the one before."""
        now, done = time.perf_counter(), self._done()
        if self._stage:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
            so_far = self.work.get(self._stage, Work())
            self.work[self._stage] = so_far.plus(done.since(self._before))
        self._stage, self._since, self._before = stage, now, done

    def _done(self) -> Work:
        """Add up what the backbones have computed."""
        total = Work()
        for backbone in dict.fromkeys(self.backbones):
            total = total.plus(backbone.work)
        return total

    def record(self) -> dict[str, Any]:
        """End the last stage and give both for ``run.json``."""
        self.enter("")
        return {
            "group_seconds": {stage: round(value, 3) for stage, value in self.seconds.items()},
            "group_work": {stage: asdict(work) for stage, work in self.work.items()},
        }
