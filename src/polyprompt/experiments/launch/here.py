"""Computes a study's groups in this process, one after the other."""

import time
from collections.abc import Iterator

from polyprompt.experiments.events import Event
from polyprompt.experiments.launch.jobs import Ending
from polyprompt.experiments.launch.schedule import POLL_SECONDS, Schedule
from polyprompt.experiments.launch.worker import Worker


def compute_here(schedule: Schedule, worker: Worker) -> Iterator[Event]:
    """Compute what is scheduled.

    Yields:
        Progress.

    Raises:
        StoreError: Results cannot be written.
    """
    told = ""
    if not schedule.is_over:
        yield Event("study", schedule.done, schedule.runs)
    while not schedule.is_over:
        job = schedule.next()
        if job is None:
            waits = schedule.waits_for()
            if waits and waits != told:
                yield Event("study", schedule.done, schedule.runs, waits)
                told = waits
            time.sleep(POLL_SECONDS)
            continue
        outcome = yield from worker.compute(job)
        for note in schedule.ended(job, outcome):
            yield Event("study", schedule.done, schedule.runs, note)
        if outcome.ending is not Ending.BUSY:
            yield Event("study", schedule.done, schedule.runs)
