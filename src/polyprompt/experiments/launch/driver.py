"""Gives the jobs of a study to workers and tells of all of them in one stream."""

from collections.abc import Iterator
from dataclasses import replace

from polyprompt.capabilities import BackboneSettings
from polyprompt.experiments.events import Event
from polyprompt.experiments.launch.jobs import Ending, Job, Outcome
from polyprompt.experiments.launch.pools import Pool
from polyprompt.experiments.launch.schedule import Schedule

_WAIT_SECONDS = 0.5


def drive(schedule: Schedule, pool: Pool, count: int) -> Iterator[Event]:
    """Compute what is scheduled.

    Args:
        schedule: The jobs.
        pool: Closed at the end.
        count: How many workers are started at most.

    Yields:
        Progress.

    Raises:
        StoreError: Results cannot be written.
    """
    crew, told = _Crew(schedule, pool, count), ""
    try:
        while not schedule.is_over:
            yield from crew.give_jobs()
            waits = crew.waits_for()
            if waits and waits != told:
                yield Event("study", schedule.done, schedule.runs, waits)
                told = waits
            for worker, message in pool.messages(_WAIT_SECONDS):
                yield from crew.hear(worker, message)
    finally:
        pool.close()


class _Crew:
    """Who of the workers does what."""

    def __init__(self, schedule: Schedule, pool: Pool, count: int) -> None:
        """Begin with nobody at work."""
        self._schedule, self._pool, self._count = schedule, pool, count
        self._busy: dict[int, Job] = {}
        self._loaded: dict[int, BackboneSettings] = {}

    def give_jobs(self) -> Iterator[Event]:
        """Give jobs to those who have none; workers are started when they are needed."""
        for worker in range(self._count):
            if worker in self._busy:
                continue
            job = self._schedule.next(self._loaded.get(worker))
            if job is None:
                return
            if worker not in self._loaded:
                self._pool.start(worker)
            self._pool.send(worker, job)
            self._busy[worker] = job
            self._loaded[worker] = job.group.runs[0].settings.backbone
            yield Event("study", self._schedule.done, self._schedule.runs)

    def waits_for(self) -> str:
        """Say whom all wait for, in words; nothing if one is at work."""
        return "" if self._busy else self._schedule.waits_for()

    def hear(self, worker: int, message: Event | Outcome) -> Iterator[Event]:
        """Pass on what a worker tells, and note what became of its job."""
        if isinstance(message, Event):
            yield replace(message, worker=worker)
            return
        if message.ending is Ending.LOST:
            self._loaded.pop(worker, None)
        if worker not in self._busy:
            return  # it was lost while it had nothing to do
        schedule = self._schedule
        for note in schedule.ended(self._busy.pop(worker), message):
            yield Event("study", schedule.done, schedule.runs, note)
        if message.ending is not Ending.BUSY:
            yield Event("study", schedule.done, schedule.runs, worker=worker)
