"""What is left to compute, in which order, and what became of the rest."""

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from polyprompt.capabilities import BackboneSettings
from polyprompt.experiments import kept
from polyprompt.experiments.claims import Claims
from polyprompt.experiments.failures import FAILURE, Failure, failure_of, write_failure
from polyprompt.experiments.launch.jobs import Ending, Job, Outcome
from polyprompt.experiments.store import RunFolder, is_done

LOSSES = 3
"""With so many lost workers a job has failed."""
POLL_SECONDS = 1.0
"""How often it is looked whether another program's runs have ended."""


class Schedule:
    """The jobs of a study.

    Attributes:
        runs: In the study.
        done: Of them, complete or failed.
        failures: Runs that failed now.
        raised: Errors of failed runs that a person can cause, by run.
    """

    def __init__(self, jobs: Iterable[Job], runs: int, done: int) -> None:
        """Take the jobs that are left of a study."""
        self._pending = deque(jobs)
        self._waiting: list[tuple[float, Job]] = []
        self._under_way = 0
        self.runs, self.done = runs, done
        self.failures: list[Failure] = []
        self.raised: dict[str, Exception] = {}

    @property
    def is_over(self) -> bool:
        """Whether nothing is left, and nothing under way."""
        return not self._pending and not self._waiting and not self._under_way

    def next(self, loaded: BackboneSettings | None = None) -> Job | None:
        """Give the next job, one that needs the model that is loaded if there is one.

        Returns:
            None if nothing can be done now: ``is_over``, or others are at it.
        """
        self._look_at_others()
        if not self._pending:
            return None
        fitting = [job for job in self._pending if _backbone(job) == loaded]
        job = fitting[0] if fitting else self._pending[0]
        self._pending.remove(job)
        self._under_way += 1
        return job

    def waits_for(self) -> str:
        """Say whom it waits for, in words; nothing if there is something to do."""
        if self._pending or not self._waiting:
            return ""
        owners = {
            str(owner) for _, job in self._waiting for owner in Claims(job.study).owners(job.names)
        }
        who = ", ".join(sorted(owners)) or "another program"
        runs = sum(len(job.names) for _, job in self._waiting)
        return f"waiting for {runs} runs that {who} computes"

    def ended(self, job: Job, outcome: Outcome) -> list[str]:
        """Note what became of a job; gives what is to be told.

        Raises:
            StoreError: Results cannot be written.
        """
        self._under_way -= 1
        notes = [outcome.note] if outcome.note else []
        if outcome.ending is Ending.STOP:
            assert outcome.raised is not None
            raise outcome.raised
        if outcome.ending is Ending.DONE:
            self.done += len(job.names)
        elif outcome.ending is Ending.BUSY:
            self._waiting.append((time.monotonic() + POLL_SECONDS, job))
        elif outcome.ending is Ending.LOST and job.losses + 1 < LOSSES:
            self._pending.appendleft(replace(job, losses=job.losses + 1))
            notes.append(f"a worker was lost ({_reason(outcome)}); its runs go on with another")
        else:
            notes += self._failed(job, outcome)
        return notes

    def _failed(self, job: Job, outcome: Outcome) -> list[str]:
        """Write down that a run failed; of several runs find out which."""
        reason = _reason(outcome)
        if len(job.names) > 1 and not outcome.whole:
            if outcome.ending is Ending.LOST:
                kept.take_away(kept.group_folder(job.study, job.names))
            self._pending.extendleft(reversed(_halves(job)))
            return [f"{len(job.names)} runs failed together ({reason}); they are tried in halves"]
        error = dict(outcome.error or {"error": reason, "kind": "", "traceback": ""})
        if outcome.ending is Ending.LOST:
            error["error"] = f"{LOSSES} workers were lost with it, the last one so: {reason}"
        if outcome.whole and not outcome.raised:
            error["error"] += f"\n{error['traceback']}"
        for name in job.names:
            if outcome.ending is Ending.LOST:  # else the worker has written it down
                write_failure(job.study / name, error)
            # a model that cannot be loaded is tried again by the same command
            path = None if outcome.whole else job.study / name / FAILURE
            self.failures.append(Failure(name, error["error"], path))
            self.done += 1
            if outcome.raised is not None:
                self.raised[name] = outcome.raised
        return [f"failed, the others go on: {reason}"]

    def _look_at_others(self) -> None:
        """Find out which runs of other programs have ended, well or not, or may be taken over."""
        now, still = time.monotonic(), []
        for due, job in self._waiting:
            folders = [RunFolder(job.study / name) for name in job.names]
            left = [
                folder
                for folder, run in zip(folders, job.group.runs, strict=True)
                if not is_done(folder, run.settings)
            ]
            if due > now:
                still.append((due, job))
            elif all(failures := [failure_of(folder.path) for folder in left]):
                self.done += len(folders)
                self.failures += [failure for failure in failures if failure is not None]
            else:
                self._pending.append(job)
        self._waiting = still


def _backbone(job: Job) -> BackboneSettings:
    """Give the model that a job needs."""
    return job.group.runs[0].settings.backbone


def _halves(job: Job) -> list[Job]:
    """Divide a job."""
    group = job.group
    middle = (len(group.runs) + 1) // 2
    return [
        Job(replace(group, runs=runs), job.study)
        for runs in (group.runs[:middle], group.runs[middle:])
    ]


def _reason(outcome: Outcome) -> str:
    """Give the first line of what went wrong."""
    text = str(outcome.error["error"]).strip() if outcome.error else ""
    return text.splitlines()[0] if text else "no reason known"
