"""Chooses arms' settings on the source languages' dev split, before a study is run."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from polyprompt.analysis.selection import Tried, choose, measure
from polyprompt.capabilities import RunSettings
from polyprompt.errors import ConfigError, StoreError
from polyprompt.experiments.config import Study, build_study, set_dotted
from polyprompt.experiments.grid import points
from polyprompt.experiments.plan import run_names
from polyprompt.experiments.store import RunFolder
from polyprompt.report.score_tables import Table, percent
from polyprompt.study_settings import SearchSettings

_SEEDS = {"seed", "draw_seed", "train_seed"}
_OF_THE_STUDY = {"arms", "grid", "search", "title", *_SEEDS}


@dataclass(frozen=True)
class Choice:
    """What a search found for one arm.

    Attributes:
        arm: Its name; empty in a study without arms.
        tried: All points.
        chosen: One of them.
    """

    arm: str
    tried: tuple[Tried, ...]
    chosen: Tried


def search_study(study: Study) -> Study:
    """Compose the runs of a study's search, of all arms and points, into one study.

    Raises:
        ConfigError: A seed of the search is one of the study's.
    """
    search = study.settings.search
    assert search is not None
    used = {run.draw_seed for run in study.runs}
    shared = [seed for seed in search.seeds if seed in used]
    if shared:
        raise ConfigError(
            f"search.seeds: the study draws with {shared} too. Take seeds that no run has, e.g. "
            "[100, 101, 102]."
        )
    trials = [_trial(study, arm, point, search) for arm, point in _points(study)]
    return replace(trials[0], runs=tuple(run for trial in trials for run in trial.runs))


def resolved(study: Study) -> Study:
    """Give a study with the settings its search has chosen; one without a search as it is.

    Arms that have become the same are run once, under the name of the first.

    Raises:
        StoreError: The search is not complete.
    """
    if study.settings.search is None:
        return study
    value = copy.deepcopy(dict(study.value))
    for choice in choices(study):
        if choice.arm:
            value["arms"][choice.arm] = {**value["arms"][choice.arm], **choice.chosen.point}
        else:
            for key, new in choice.chosen.point.items():
                set_dotted(value, key, new)
    found = build_study(value, study.settings.name)
    same = alike(found)
    if not same:
        return found
    value["arms"] = {arm: own for arm, own in value["arms"].items() if arm not in same}
    return build_study(value, study.settings.name)


def alike(study: Study) -> dict[str, str]:
    """Find arms whose runs are all those of an earlier arm, and name that one."""
    of_arm: dict[str, list[str]] = {}
    for run, name in zip(study.runs, run_names(study), strict=True):
        of_arm.setdefault(run.arm, []).append(name)
    first: dict[tuple[str, ...], str] = {}
    for arm, names in of_arm.items():
        first.setdefault(tuple(sorted(names)), arm)
    pairs = {arm: first[tuple(sorted(names))] for arm, names in of_arm.items()}
    return {arm: earlier for arm, earlier in pairs.items() if arm != earlier}


def choices(study: Study) -> list[Choice]:
    """Read what a study's search found, arm by arm.

    Raises:
        StoreError: The search is not complete.
    """
    trial = search_study(study)
    folders = [RunFolder(trial.folder / name) for name in run_names(trial)]
    left = sum(not folder.is_complete() for folder in folders)
    if left:
        raise StoreError(
            f"{left} of {len(folders)} runs of the search in {trial.folder} are not complete. Run "
            "the study."
        )
    of_arm: dict[str, list[Tried]] = {}
    rows: Iterator[RunFolder] = iter(folders)
    for arm, point in _points(study):
        runs = [next(rows) for _ in trial.settings.grid["seed"]]
        labels = runs[0].record()["labels"]
        measured = measure(point, [run.predictions() for run in runs], labels)
        of_arm.setdefault(arm, []).append(measured)
    return [Choice(arm, tuple(tried), choose(tried)) for arm, tried in of_arm.items()]


def search_table(found: list[Choice]) -> Table:
    """Tabulate a search."""
    rows = [
        (
            choice.arm or "–",
            ", ".join(f"{key}={value}" for key, value in tried.point.items()),
            percent(tried.accuracy),
            ", ".join(map(percent, tried.accuracies)),
            f"{tried.loss:.3f}",
            "chosen" if tried is choice.chosen else "",
        )
        for choice in found
        for tried in choice.tried
    ]
    columns = ("arm", "point", "accuracy", "per draw", "loss", "")
    title = "Search on the source language's dev split (%)"
    return Table(title, columns, tuple(rows), "llrlrl")


def _points(study: Study) -> list[tuple[str, dict[str, Any]]]:
    """List what a search tries: arm and point."""
    search = study.settings.search
    assert search is not None
    grids = search.arms if study.settings.arms else {"": search.grid}
    return [(arm, point) for arm, grid in grids.items() for point in points(grid)]


def _trial(study: Study, arm: str, point: dict[str, Any], search: SearchSettings) -> Study:
    """Compose the study of one point: its draws, answered on the source languages' dev split."""
    value = {k: copy.deepcopy(v) for k, v in study.value.items() if k not in _OF_THE_STUDY}
    # of the study's grid the first point stands for all: a search is not its product
    first = {key: own[0] for key, own in study.settings.grid.items() if key not in _SEEDS}
    for key, new in (first | study.settings.arms.get(arm, {}) | point).items():
        set_dotted(value, key, copy.deepcopy(new))
    source = _first_run(study, arm).source
    value |= {
        "name": "search",
        "output": str(study.folder),
        "targets": list(source),
        "evaluate": "dev",
        "arm": arm,
        "baselines": False,
        "record": [],
        "grid": {"seed": list(search.seeds)},
    }
    return build_study(value, f"{study.settings.name}, search")


def _first_run(study: Study, arm: str) -> RunSettings:
    """Find an arm's first run."""
    return next(run for run in study.runs if run.arm == arm)
