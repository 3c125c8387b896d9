"""Computes groups of runs one after the other; the models stay loaded between them."""

import errno
from collections.abc import Generator
from dataclasses import replace

from polyprompt.errors import ConfigError, PolypromptError, StoreError
from polyprompt.experiments import kept
from polyprompt.experiments.claims import Claims
from polyprompt.experiments.events import Event
from polyprompt.experiments.failures import describe, forget_failure, write_failure
from polyprompt.experiments.launch.jobs import Ending, Job, Outcome
from polyprompt.experiments.plan import GroupPlan
from polyprompt.experiments.run import run_group
from polyprompt.experiments.store import RunFolder, is_done
from polyprompt.models.backbone import Backbone
from polyprompt.tables import cannot_write
from polyprompt.training.peers import ALONE, Peers

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Of these every other run would fail, too."""


class Worker:
    """Computes groups in this process."""

    def __init__(self, claims: Claims | None, peers: Peers = ALONE) -> None:
        """Begin without a model.

        Args:
            claims: Through which programs that share a study keep out of each other's way; None if
                whoever gives the jobs sees to that.
            peers: Processes that compute the same jobs.
        """
        self._claims, self._peers = claims, peers
        self._pair: tuple[Backbone, Backbone | None] | None = None
        self._loaded: GroupPlan | None = None
        self._told = set[str]()

    def compute(self, job: Job) -> Generator[Event, None, Outcome]:
        """Compute a job's runs and write them down; yields progress, returns what became of it."""
        claims, names = self._claims, job.names
        try:
            if claims is not None and not claims.take(names):
                return Outcome(Ending.BUSY)
        except StoreError as error:
            return Outcome(Ending.STOP, describe(error), error)
        try:
            return (yield from self.compute_claimed(job))
        finally:
            if claims is not None:
                claims.release(names)

    def compute_claimed(self, job: Job) -> Generator[Event, None, Outcome]:
        """Compute a job whose runs are claimed; what goes wrong ends it, and nothing else."""
        job = _without_done(job)  # by another program, in the meantime
        folders = [RunFolder(job.study / name) for name in job.names]
        if not folders:
            return Outcome(Ending.DONE)
        loading = preparing = True
        try:
            for folder in folders:
                forget_failure(folder.path)
            pair = yield from self._models(job.group)
            loading = False
            for event in run_group(job.group, *pair, folders, self._peers):
                preparing = preparing and event.stage != "train"
                if self._claims is not None and self._claims.lost(job.names):
                    self._let_go()
                    return Outcome(Ending.BUSY, note="another program has taken these runs over")
                yield replace(event, runs=len(folders))
        except Exception as error:  # noqa: BLE001 (written down with its traceback)
            self._let_go()
            unfit = preparing and isinstance(error, ConfigError)  # settings, which all runs share
            return _outcome_of(error, job, whole=loading or unfit)
        if job.group.uses_up_backbone:
            self._let_go()
        return Outcome(Ending.DONE)

    def _models(self, group: GroupPlan) -> Generator[Event, None, tuple[Backbone, Backbone | None]]:
        """Give a group's models, loaded now unless the last group's serve."""
        wanted = group.runs[0].settings.backbone
        if self._loaded is None or not _serves(self._loaded, group):
            self._let_go()  # so that memory need not hold them and the next
        if self._pair is None:
            yield Event("load", 0, 1, f"loading {wanted.name}")
            self._pair, self._loaded = _load(group), group
            notes = [note for note in self._pair[0].facts.notes if note not in self._told]
            yield from (Event("load", 1, 1, note) for note in notes)
            self._told.update(notes)
        told = f"{len(group.runs)} runs; {group.choice.reason}"
        yield Event("plan", 0, len(group.runs), told)
        return self._pair

    def _let_go(self) -> None:
        """Let go of the models."""
        self._pair = self._loaded = None


def _without_done(job: Job) -> Job:
    """Leave out runs that are complete, unless their group goes on from a checkpoint."""
    runs = job.group.runs
    left = [run for run in runs if not is_done(RunFolder(job.study / run.name), run.settings)]
    begun = (kept.group_folder(job.study, job.names) / kept.GROUP).is_file()
    if len(left) == len(runs) or (left and begun):
        return job
    return replace(job, group=replace(job.group, runs=tuple(left)))


def _outcome_of(error: Exception, job: Job, *, whole: bool) -> Outcome:
    """Say what an error means: all has to stop, or this job has failed, perhaps as a whole."""
    if isinstance(error, OSError) and error.errno in _FULL:
        error = cannot_write(error.filename or job.study, error)
    if isinstance(error, StoreError):
        return Outcome(Ending.STOP, describe(error), error)
    if not whole:
        _write_down(job, error)  # while the claims are held
    raised = error if isinstance(error, PolypromptError) else None
    return Outcome(Ending.FAILED, describe(error), raised, whole=whole)


def _write_down(job: Job, error: Exception) -> None:
    """Write down that a run failed; several runs are tried in halves, from the beginning."""
    if len(job.names) == 1:
        write_failure(job.study / job.names[0], describe(error))
    else:
        kept.take_away(kept.group_folder(job.study, job.names))


def _load(group: GroupPlan) -> tuple[Backbone, Backbone | None]:
    """Load a group's backbone to train with and, where its weights stay frozen, to read with."""
    from polyprompt.models.load import load_backbone, load_pair

    wanted = group.runs[0].settings.backbone
    return (load_backbone(wanted), None) if group.uses_up_backbone else load_pair(wanted)


def _serves(group: GroupPlan, behind: GroupPlan) -> bool:
    """Say whether a group's models serve the next one: the same, unchanged, and both wanted."""
    same = group.runs[0].settings.backbone == behind.runs[0].settings.backbone
    return same and not group.uses_up_backbone and not behind.uses_up_backbone
