"""A study from its plan to its folders: what is complete is skipped, the rest is computed."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import yaml

from polyprompt.errors import PolypromptError, StoreError
from polyprompt.experiments.config import Study
from polyprompt.experiments.events import Event
from polyprompt.experiments.failures import (
    Failure,
    failed_runs_error,
    failure_of,
    forget_failure,
)
from polyprompt.experiments.kept import Begun, begun_groups, take_away
from polyprompt.experiments.launch.jobs import Job
from polyprompt.experiments.launch.launched import launched
from polyprompt.experiments.launch.schedule import Schedule
from polyprompt.experiments.launch.together import dismiss
from polyprompt.experiments.nested import dotted
from polyprompt.experiments.overview import strangers, what_differs, write_plan
from polyprompt.experiments.plan import GroupPlan, RunPlan, make_group, plan_study
from polyprompt.experiments.remote import Store, is_url
from polyprompt.experiments.search import choices, resolved, search_studies, search_study
from polyprompt.experiments.store import CHOSEN, RunFolder, is_done
from polyprompt.experiments.tracking import check_trackers
from polyprompt.tables import write_json, write_text


def run_study(study: Study, *, retry_failed: bool = False) -> Iterator[Event]:
    """Run what is not complete yet.

    Args:
        study: Checked.
        retry_failed: Whether runs that failed in an earlier call are tried again.

    Yields:
        Progress; every fault of the configuration is raised before the first model is loaded.

    Raises:
        PolypromptError: The study cannot be planned, or its folder cannot be written, or runs
            failed; whatever did not fail is complete then.
    """
    output = study.settings.output
    run = _run(study, retry_failed=retry_failed)
    yield from _with_store(study, Store(output), run) if is_url(output) else run
    if study.settings.launch.kind == "together":
        dismiss()


def _with_store(study: Study, store: Store, run: Iterator[Event]) -> Iterator[Event]:
    """Fetch what is complete in a store, and put there what is complete behind every group."""
    fetched = store.fetch(study.settings.name)
    note = f"{fetched} runs fetched from {study.settings.output}; computing in {study.folder}"
    yield Event("plan", 0, len(study.runs), note)
    try:
        for event in run:
            if event.stage in {"study", "done"}:
                store.put(study.folder)
            yield event
    except PolypromptError:
        with suppress(StoreError):
            store.put(study.folder)  # what did not fail
        raise


def _run(study: Study, *, retry_failed: bool) -> Iterator[Event]:
    """Run a study's search, if it has one, and then the study."""
    output = study.settings.output
    if study.settings.search is None:
        with suppress(OSError):  # of an earlier form of the study, if there was one
            (study.folder / CHOSEN).unlink()
    else:
        plan_study(study)
        for trial in search_studies(study):
            yield from _run_all(trial, output, retry_failed=retry_failed)
        asked, study = study, resolved(study)
        write_json(study.folder / CHOSEN, _chosen(asked, study))
        yield from (
            Event("plan", 0, 1, f"the arm '{arm}' is now the same as another: run once")
            for arm in asked.settings.arms
            if arm not in study.settings.arms
        )
    yield from _run_all(study, output, retry_failed=retry_failed)


def _chosen(asked: Study, study: Study) -> dict[str, dict[str, Any]]:
    """Give what a search chose for each arm, as its runs' settings have it."""
    runs = {run.settings.arm: run.settings for group in plan_study(study) for run in group.runs}
    values = {arm: run.model_dump(mode="json") for arm, run in runs.items()}
    points = {choice.arm: choice.chosen.point for choice in choices(asked)}
    return {
        arm: {key: dotted(values[arm], key) for key in point}
        for arm, point in points.items()
        if arm in values
    }


def _run_all(study: Study, output: str, *, retry_failed: bool) -> Iterator[Event]:
    """Run what is not complete of a study without a search, or with one that has ended.

    Args:
        study: A study, or a study's search.
        output: Of the study.
        retry_failed: Whether runs that failed in an earlier call are tried again.
    """
    yield Event("plan", 0, len(study.runs))
    groups = plan_study(study)
    check_trackers(study.settings.trackers)
    text = yaml.safe_dump(study.settings.model_dump(mode="json"), sort_keys=False, width=100)
    write_text(study.folder / "study.yaml", text)
    write_plan(study.folder, groups)
    begun, notes = _clean(study, groups)
    notes += _of_strangers(study, groups)
    yield from (Event("plan", 0, len(study.runs), note) for note in notes)
    failures = _failed_before(study, groups, retry=retry_failed)
    left = _left(study, groups, begun, {failure.run for failure in failures})
    skipped = len(study.runs) - len(_open(study, groups))
    if skipped:
        yield Event("plan", skipped, len(study.runs), f"{skipped} runs are complete, skipped")
    if failures:
        told = f"{len(failures)} runs failed earlier, skipped; --retry-failed tries them again"
        yield Event("plan", skipped, len(study.runs), told)
    tracked = [replace(group, trackers=study.settings.trackers) for group in left]
    settled = skipped + len(failures)
    schedule = Schedule([Job(group, study.folder) for group in tracked], len(study.runs), settled)
    yield from launched(study.settings.launch, schedule, study.folder, output)
    _raise_failures(study, schedule, failures)
    yield Event("done", len(study.runs), len(study.runs))


def _of_strangers(study: Study, groups: Sequence[GroupPlan]) -> list[str]:
    """Say that there are complete runs which the study as it is now does not have, and why."""
    planned = {run.name: run.settings for group in groups for run in group.runs}
    others = strangers(study.folder, planned.keys())
    if not others:
        return []
    configs = [settings.model_dump(mode="json") for settings in planned.values()]
    try:
        found = what_differs(RunFolder(study.folder / others[0]).config(), configs)
        differs = f"differs in {found or 'its data or the weights it was computed with'}"
    except StoreError:  # stops nothing
        differs = "is damaged"
    counted = "1 complete run" if len(others) == 1 else f"{len(others)} complete runs"
    return [
        f"{study.folder} has {counted} that the study as it is now does not have; the first "
        f"{differs}"
    ]


def _failed_before(study: Study, groups: Sequence[GroupPlan], *, retry: bool) -> list[Failure]:
    """Find the runs that failed in an earlier call; none if they are to be tried again."""
    found = [failure_of(study.folder / run.name) for run in _open(study, groups)]
    failures = [failure for failure in found if failure is not None]
    for failure in failures if retry else ():
        forget_failure(study.folder / failure.run)
    return [] if retry else failures


def _raise_failures(study: Study, schedule: Schedule, before: Sequence[Failure]) -> None:
    """Raise what runs failed with.

    Raises:
        PolypromptError: The one error a person can cause that all failed with, as it was; else
            ``FailedRunsError``, which names them.
    """
    raised = {str(error): error for error in schedule.raised.values()}
    if len(raised) == 1 and len(schedule.raised) == len(study.runs):
        raise next(iter(raised.values()))
    failures = [*schedule.failures, *before]
    if failures:
        raise failed_runs_error(failures, len(study.runs), again=not schedule.failures)


def study_folders(study: Study) -> list[RunFolder]:
    """Name the folders of a study's own runs, group by group.

    Raises:
        StoreError: What its search has chosen is not known yet.
    """
    study = resolved(study)
    return [RunFolder(study.folder / run.name) for group in plan_study(study) for run in group.runs]


def groups_left(study: Study) -> Iterator[list[GroupPlan]]:
    """Plan what is not complete of a study: of its search, if it has one, and of itself.

    Raises:
        PolypromptError: The study cannot be planned.
    """
    if study.settings.search is not None:
        plan_study(study)
        trial = search_study(study)
        searching = _left(trial, plan_study(trial))
        yield searching
        study = study if searching else resolved(study)
    yield _left(study, plan_study(study))


def _open(study: Study, groups: Sequence[GroupPlan]) -> list[RunPlan]:
    """Name the runs that are not complete."""
    runs = [run for group in groups for run in group.runs]
    return [run for run in runs if not is_done(RunFolder(study.folder / run.name), run.settings)]


def _left(
    study: Study,
    groups: Sequence[GroupPlan],
    begun: Sequence[Begun] = (),
    without: Collection[str] = (),
) -> list[GroupPlan]:
    """Leave out what is complete; a group that was broken off goes on as it began."""
    names = {run.name for run in _open(study, groups)}.difference(without)
    return [part for group in groups for part in _parts_left(group, names, begun)]


def _parts_left(
    group: GroupPlan, names: Collection[str], begun: Sequence[Begun]
) -> list[GroupPlan]:
    """Divide a group into those that were broken off, and whatever else of ``names`` it has."""
    own = {run.name for run in group.runs}
    parts = [one.runs for one in begun if own >= set(one.runs) and set(names) & set(one.runs)]
    rest = own.intersection(names).difference(*parts)
    parts.append(tuple(run.name for run in group.runs if run.name in rest))
    return [_part_of(group, part) for part in parts if part]


def _part_of(group: GroupPlan, names: Sequence[str]) -> GroupPlan:
    """Build a group of some runs of another."""
    by_name = {run.name: run for run in group.runs}
    return make_group([by_name[name] for name in names], group.card, group.data, group.engine)


def _clean(study: Study, groups: Sequence[GroupPlan]) -> tuple[list[Begun], list[str]]:
    """Find groups that were broken off, and take away those that have ended all the same.

    Returns:
        Those that go on, and notes on those that cannot.
    """
    planned = [{run.name for run in group.runs} for group in groups]
    left = {run.name for run in _open(study, groups)}
    begun, notes = begun_groups(study.folder)
    going_on: list[Begun] = []
    for one in begun:
        runs, taken = set(one.runs), {name for other in going_on for name in other.runs}
        if runs <= set().union(*planned) and not runs & left:
            take_away(one.path)
        elif any(runs <= names for names in planned) and not runs & taken:
            going_on.append(one)
        elif runs & left:
            notes.append(
                f"what was kept in {one.path} is not used, its runs are not computed together now; "
                "the folder can be deleted"
            )
    return going_on, notes
