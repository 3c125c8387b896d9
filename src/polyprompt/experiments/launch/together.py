"""Several processes that share every step of a run; torchrun or accelerate has started them.

The first process leads: it decides what is computed, and writes the results. The others follow:
they compute their share of the same jobs, with a scratch folder for what they would write.
"""

import shutil
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

from polyprompt.experiments import kept
from polyprompt.experiments.claims import Claims
from polyprompt.experiments.events import Event
from polyprompt.experiments.launch.here import compute_here
from polyprompt.experiments.launch.jobs import Ending, Job, Outcome
from polyprompt.experiments.launch.schedule import Schedule
from polyprompt.experiments.launch.worker import Worker
from polyprompt.study_settings import LaunchSettings
from polyprompt.training.peers import Peers, Together


def follows(settings: LaunchSettings) -> bool:
    """Say whether this process is to follow another.

    Raises:
        ConfigError: Another number of processes was started than settings say.
    """
    return settings.kind == "together" and Together(settings.count).index > 0


def lead(settings: LaunchSettings, schedule: Schedule, study: Path) -> Iterator[Event]:
    """Compute what is scheduled, together with those who follow.

    Yields:
        Progress.

    Raises:
        ConfigError: Another number of processes was started.
        PolypromptError: A run failed; the others would wait for ever, so that all ends.
    """
    yield from compute_here(schedule, _Leader(Claims(study), Together(settings.count)))


class _Leader(Worker):
    """Computes jobs with those who follow."""

    def compute_claimed(self, job: Job) -> Generator[Event, None, Outcome]:
        """Tell the others of a job and compute it with them; what fails ends them all."""
        self._peers.same(job)
        self._peers.gathered(None)  # they have read what was kept of it
        outcome = yield from super().compute_claimed(job)
        if outcome.ending is Ending.FAILED and outcome.error:
            told = f"{outcome.error['traceback']}\nOther processes wait: the study ends here."
            raise outcome.raised or RuntimeError(told)
        return outcome


def dismiss() -> None:
    """Tell those who follow that there is nothing more to do."""
    Together(None).same(None)


def follow(settings: LaunchSettings) -> None:
    """Compute a share of every job that the first process tells of, until it has no more.

    Raises:
        ConfigError: Another number of processes was started.
        PolypromptError: A run failed.
    """
    peers = Together(settings.count)
    worker = Worker(None, peers)
    while (job := peers.same(None)) is not None:
        with tempfile.TemporaryDirectory() as scratch:
            outcome = _follow_one(worker, job, Path(scratch), peers)
        if outcome.ending is not Ending.DONE and outcome.error:
            raise outcome.raised or RuntimeError(str(outcome.error["traceback"]))


def _follow_one(worker: Worker, job: Job, scratch: Path, peers: Peers) -> Outcome:
    """Compute a share of one job, from where the first process goes on."""
    before = kept.group_folder(job.study, job.names)
    if before.is_dir():
        shutil.copytree(before, kept.group_folder(scratch, job.names), dirs_exist_ok=True)
    peers.gathered(None)
    engine = job.group.engine.model_copy(update={"resume_seconds": None})
    own = replace(job, study=scratch, group=replace(job.group, engine=engine))
    events = worker.compute(own)
    while True:
        try:
            next(events)
        except StopIteration as end:
            return end.value
