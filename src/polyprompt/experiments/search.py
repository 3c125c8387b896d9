"""Chooses arms' settings on the source languages' dev split, before a study is run."""

import copy
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from polyprompt.analysis.selection import Tried, choose, measure, rank
from polyprompt.capabilities import RunSettings
from polyprompt.errors import ConfigError, StoreError
from polyprompt.experiments.config import Study, build_study, set_dotted
from polyprompt.experiments.grid import points
from polyprompt.experiments.plan import run_names
from polyprompt.experiments.store import RunFolder
from polyprompt.report.score_tables import Table, percent
from polyprompt.scoring.metrics import title_of
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


def search_studies(study: Study) -> Iterator[Study]:
    """Compose the runs of a study's search, round by round, each into one study.

    A round behind the first is known when the one before is complete: it is to be run before the
    next is asked for.

    Raises:
        ConfigError: A seed of the search is one of the study's.
        StoreError: The next round is asked for and this one is not complete.
    """
    for trial, _ in _rounds(study):
        yield trial


def search_study(study: Study) -> Study:
    """Compose the round of a study's search that is not complete; the last where all are.

    Raises:
        ConfigError: A seed of the search is one of the study's.
    """
    rounds = search_studies(study)
    trial = next(rounds)
    with suppress(StoreError):
        for further in rounds:
            trial = further
    return trial


_Points = list[tuple[str, dict[str, Any]]]


def _rounds(study: Study) -> Iterator[tuple[Study, _Points]]:
    """Compose the rounds of a search, each with its arms and points."""
    search = study.settings.search
    assert search is not None
    used = {run.draw_seed for run in study.runs}
    shared = [seed for seed in search.seeds if seed in used]
    if shared:
        raise ConfigError(
            f"search.seeds: the study draws with {shared} too. Take seeds that no run has, e.g. "
            "[100, 101, 102]."
        )
    tried = _points(study)
    if search.halving and any("training.epochs" in point for _, point in tried):
        raise ConfigError(
            "search: halving sets training.epochs round by round. Take it out of the search's grid."
        )
    rounds = search.halving.epochs if search.halving else (None,)
    for number, epochs in enumerate(rounds):
        given = {} if epochs is None else {"training.epochs": epochs}
        trials = [_trial(study, arm, point | given, search) for arm, point in tried]
        trial = replace(trials[0], runs=tuple(run for one in trials for run in one.runs))
        yield trial, tried
        if search.halving and number + 1 < len(rounds):
            tried = _survivors(tried, _measured(trial, tried), search.halving.keep)


def _survivors(tried: _Points, measured: dict[str, list[Tried]], keep: float) -> _Points:
    """Give the points that go on to the next round, in their order."""
    kept = []
    for arm, own in measured.items():
        points = [point for name, point in tried if name == arm]
        order = sorted(range(len(own)), key=lambda i: rank(own[i]))
        chosen = sorted(order[: max(1, ceil(len(own) * keep))])
        kept += [(arm, points[index]) for index in chosen]
    return kept


def _measured(trial: Study, tried: _Points) -> dict[str, list[Tried]]:
    """Measure the points of a round, arm by arm.

    Raises:
        StoreError: It is not complete.
    """
    folders = [RunFolder(trial.folder / name) for name in run_names(trial)]
    left = sum(not folder.is_complete() for folder in folders)
    if left:
        raise StoreError(
            f"{left} of {len(folders)} runs of the search in {trial.folder} are not complete. Run "
            "the study."
        )
    of_arm: dict[str, list[Tried]] = {}
    rows: Iterator[RunFolder] = iter(folders)
    for arm, point in tried:
        runs = [next(rows) for _ in trial.settings.grid["seed"]]
        labels = runs[0].record()["labels"]
        measured = measure(point, [run.predictions() for run in runs], labels)
        of_arm.setdefault(arm, []).append(measured)
    return of_arm


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
    arms: dict[str, list[Tried]] = {}
    last: dict[str, list[Tried]] = {}
    halving = study.settings.search and study.settings.search.halving
    for trial, tried in _rounds(study):
        last = _measured(trial, tried)
        epochs = trial.settings.training.epochs if halving else None
        last = {arm: [replace(one, epochs=epochs) for one in own] for arm, own in last.items()}
        for arm, own in last.items():
            arms.setdefault(arm, []).extend(own)
    return [Choice(arm, tuple(tried), choose(last[arm])) for arm, tried in arms.items()]


def search_table(found: list[Choice]) -> Table:
    """Tabulate a search."""
    rows = [
        (
            choice.arm or "–",
            ", ".join(f"{key}={value}" for key, value in tried.point.items())
            + (f" ({tried.epochs} epochs)" if tried.epochs else ""),
            percent(tried.accuracy),
            ", ".join(map(percent, tried.accuracies)),
            "–" if tried.loss is None else f"{tried.loss:.3f}",
            "chosen" if tried is choice.chosen else "",
        )
        for choice in found
        for tried in choice.tried
    ]
    metric = title_of(found[0].chosen.metric)
    columns = ("arm", "point", metric, "per draw", "loss", "")
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
        "test_items": None,
        "arm": arm,
        "baselines": False,
        "record": [],
        "grid": {"seed": list(search.seeds)},
    }
    return build_study(value, f"{study.settings.name}, search")


def _first_run(study: Study, arm: str) -> RunSettings:
    """Find an arm's first run."""
    return next(run for run in study.runs if run.arm == arm)
