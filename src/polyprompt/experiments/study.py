"""A study from its plan to its folders: what is complete is skipped, the rest is computed."""

from collections.abc import Collection, Iterator, Sequence
from itertools import zip_longest
from typing import Any

import yaml

from polyprompt.experiments.config import Study
from polyprompt.experiments.events import Event
from polyprompt.experiments.kept import Begun, begun_groups, take_away
from polyprompt.experiments.plan import GroupPlan, RunPlan, make_group, plan_study
from polyprompt.experiments.run import run_group
from polyprompt.experiments.search import choices, resolved, search_study
from polyprompt.experiments.store import CHOSEN, RunFolder, check_writable, dotted, is_done
from polyprompt.models.backbone import Backbone
from polyprompt.tables import write_json, write_text


def run_study(study: Study) -> Iterator[Event]:
    """Run what is not complete yet.

    Yields:
        Progress; every fault of the configuration is raised before the first model is loaded.

    Raises:
        PolypromptError: The study cannot be planned, or its folder cannot be written.
    """
    if study.settings.search is None:
        if (study.folder / CHOSEN).is_file():
            (study.folder / CHOSEN).unlink()  # of an earlier form of the study
    else:
        plan_study(study)
        yield from _run_all(search_study(study))
        asked, study = study, resolved(study)
        write_json(study.folder / CHOSEN, _chosen(asked, study))
        yield from (
            Event("plan", 0, 1, f"the arm '{arm}' is now the same as another: run once")
            for arm in asked.settings.arms
            if arm not in study.settings.arms
        )
    yield from _run_all(study)


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


def _run_all(study: Study) -> Iterator[Event]:
    """Run what is not complete of a study without a search, or with one that has ended."""
    yield Event("plan", 0, len(study.runs))
    groups = plan_study(study)
    check_writable(study.folder)
    text = yaml.safe_dump(study.settings.model_dump(mode="json"), sort_keys=False, width=100)
    write_text(study.folder / "study.yaml", text)
    begun, notes = _clean(study, groups)
    yield from (Event("plan", 0, len(study.runs), note) for note in notes)
    left = _left(study, groups, begun)
    skipped = len(study.runs) - len(_open(study, groups))
    if skipped:
        yield Event("plan", skipped, len(study.runs), f"{skipped} runs are complete, skipped")
    pair: tuple[Backbone, Backbone | None] | None = None
    told = set[str]()
    for group, behind in zip_longest(left, left[1:]):
        wanted = group.runs[0].settings.backbone
        if pair is None:
            yield Event("load", 0, 1, f"loading {wanted.name}")
            pair = _load(group)
            notes = [note for note in pair[0].facts.notes if note not in told]
            yield from (Event("load", 1, 1, note) for note in notes)
            told.update(notes)
        yield Event("plan", 0, len(group.runs), f"{len(group.runs)} runs; {group.choice.reason}")
        folders = [RunFolder(study.folder / run.name) for run in group.runs]
        yield from run_group(group, *pair, folders)
        if behind is None or not _serves(group, behind):
            pair = None  # lets go of the models, so that memory need not hold them and the next
    yield Event("done", len(study.runs), len(study.runs))


def _load(group: GroupPlan) -> tuple[Backbone, Backbone | None]:
    """Load a group's backbone to train with and, where its weights stay frozen, to read with."""
    from polyprompt.models.load import load_backbone, load_pair

    wanted = group.runs[0].settings.backbone
    return (load_backbone(wanted), None) if group.trains_weights else load_pair(wanted)


def _serves(group: GroupPlan, behind: GroupPlan) -> bool:
    """Say whether a group's models serve the next one: the same, unchanged, and both wanted."""
    same = group.runs[0].settings.backbone == behind.runs[0].settings.backbone
    return same and not group.trains_weights and not behind.trains_weights


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
    study: Study, groups: Sequence[GroupPlan], begun: Sequence[Begun] = ()
) -> list[GroupPlan]:
    """Leave out what is complete; a group that was broken off goes on as it began."""
    names = {run.name for run in _open(study, groups)}
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
