"""Seconds and work per stage of a group of runs."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from polyprompt.models.backbone import Backbone
from polyprompt.models.work import Work


class Clock:
    """Seconds spent, and work done, per stage of a group."""

    def __init__(self, *backbones: Backbone) -> None:
        """Begin to count the work of backbones."""
        self._backbones = list(dict.fromkeys(backbones))
        self._seconds: dict[str, float] = {}
        self._work: dict[str, Work] = {}
        self._stage, self._since, self._before = "", 0.0, Work()

    def watch(self, backbone: Backbone) -> None:
        """Count the work of a backbone that was loaded on the way, too."""
        if backbone not in self._backbones:
            self._backbones.append(backbone)

    def enter(self, stage: str) -> None:
        """Begin a stage and end the one before."""
        now, done = time.perf_counter(), self._done()
        if self._stage:
            self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._since
            so_far = self._work.get(self._stage, Work())
            self._work[self._stage] = so_far.plus(done.since(self._before))
        self._stage, self._since, self._before = stage, now, done

    def so_far(self) -> dict[str, Any]:
        """Give the seconds and the work of every stage up to now, for ``take_up``."""
        stage = self._stage
        self.enter(stage)
        work = {name: asdict(done) for name, done in self._work.items()}
        return {"seconds": dict(self._seconds), "work": work}

    def take_up(self, before: Mapping[str, Any]) -> None:
        """Add what ``so_far`` gave of an earlier part of the same group."""
        for stage, seconds in before["seconds"].items():
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds
        for stage, work in before["work"].items():
            self._work[stage] = self._work.get(stage, Work()).plus(Work(**work))

    def _done(self) -> Work:
        """Add up what the backbones have computed."""
        total = Work()
        for backbone in self._backbones:
            total = total.plus(backbone.work)
        return total

    def record(self) -> dict[str, Any]:
        """End the last stage and give both for ``run.json``."""
        self.enter("")
        return {
            "group_seconds": {stage: round(value, 3) for stage, value in self._seconds.items()},
            "group_work": {stage: asdict(work) for stage, work in self._work.items()},
        }
