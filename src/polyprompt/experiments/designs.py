"""What a study's design allows: sources, settings along a number, draws crossed with trainings."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from polyprompt.analysis.account import Arm, are_paired
from polyprompt.analysis.facts import Facts
from polyprompt.analysis.series import Trend, series
from polyprompt.analysis.significance import variance_components
from polyprompt.analysis.sources import source_matrix
from polyprompt.analysis.summary import have_the_same_items
from polyprompt.experiments.results import Setting, varying
from polyprompt.report.account_tables import component_table, series_tables, source_tables
from polyprompt.report.score_tables import Table

Kept = TypeVar("Kept")
SIZE = "parameters of the model"
"""The number along which settings with different backbones stand."""


def matrix_of(settings: Sequence[Setting], arms: Sequence[Arm]) -> list[Table]:
    """Build the matrix of sources and targets, where settings differ in their sources alone."""
    differing = set(varying([setting.config for setting in settings]))
    alone = differing and not differing - {"source", "source_shares", "arm"}
    if not alone or not all(have_the_same_items(arm.predictions) for arm in arms):
        return []
    if not all(are_paired(arms[0], arm) for arm in arms[1:]):
        return []
    names = [s.config.get("arm") or "+".join(s.sources) for s in settings]
    if len(set(names)) < len(names):
        names = [setting.title for setting in settings]
    of_source = {name: s.sources for name, s in zip(names, settings, strict=True)}
    found = source_matrix(dict(zip(names, arms, strict=True)), of_source)
    return source_tables(found)


def series_of(
    settings: Sequence[Setting], arms: Sequence[Arm], facts: Facts, sources: Sequence[str]
) -> list[Table]:
    """Describe settings along a number, where they differ in one and have the same seeds."""
    differing = varying([setting.config for setting in settings])
    tables = []
    for name in differing:
        others = [key for key in differing if key != name]
        for rest, line in _lines(settings, arms, name, others).items():
            title = f"{name} ({rest})" if rest else name
            tables += series_tables(series(title, line, facts, sources)) if _is_series(line) else []
    return tables


def trends_of(settings: Sequence[Setting]) -> list[list[Trend]]:
    """Give means along every number that sets settings apart and takes several values."""
    found = []
    for name, others in _numbers(settings):
        lines = _lines(settings, settings, name, others)
        drawn = [_trend(name, rest, line) for rest, line in lines.items() if len(line) > 1]
        found += [drawn] if drawn else []
    return found


def _numbers(settings: Sequence[Setting]) -> list[tuple[str, list[str]]]:
    """Name what may be a number that settings stand along, each with what else sets them apart.

    Of several models of one size none stands for the size, which is left out then.
    """
    differing = varying([setting.config for setting in settings])
    of_model = [key for key in differing if key == "contents" or key.startswith("backbone.")]
    rest = [key for key in differing if key not in of_model]
    told = [key for key in differing if key != "contents" or of_model == ["contents"]]
    names = [(name, [key for key in told if key != name]) for name in rest]
    return [*names, *([(SIZE, rest)] if of_model and _sizes_tell(settings) else [])]


def _sizes_tell(settings: Sequence[Setting]) -> bool:
    """Say whether settings have several models, each of its own size."""
    sizes = {one.records[0]["backbone_parameters"] for one in settings}
    models = {str(one.config["backbone.name"]) for one in settings}
    return len(models) == len(sizes) > 1


def _trend(name: str, rest: str, line: Mapping[float, Setting]) -> Trend:
    """Give the means of settings along a number."""
    return Trend(
        name,
        rest,
        {value: line[value].summary.overall.accuracy for value in sorted(line)},
        min(one.summary.seeds for one in line.values()),
    )


def _is_series(line: Mapping[float, Arm]) -> bool:
    """Say whether settings along a number are three or more with the same seeds."""
    return len(line) > 2 and len({tuple(sorted(arm.pairs.values())) for arm in line.values()}) == 1


def _lines(
    settings: Sequence[Setting], arms: Sequence[Kept], name: str, others: Sequence[str]
) -> dict[str, dict[float, Kept]]:
    """Sort settings by what else differs, then by a number; none where it is no number."""
    lines: dict[str, dict[float, Kept]] = {}
    for setting, arm in zip(settings, arms, strict=True):
        value = _number(setting, name)
        if value is None:
            return {}
        rest = ", ".join(f"{key}={setting.config.get(key)}" for key in others)
        lines.setdefault(rest, {})[value] = arm
    return lines


def _number(setting: Setting, name: str) -> float | None:
    """Read a number that sets settings apart; ``shots=all`` as its examples per class."""
    value, record = setting.config.get(name), setting.records[0]
    if name == SIZE:
        return float(record["backbone_parameters"])
    if name == "shots" and value == "all":
        return record["train_examples"] / max(len(record["labels"]), 1)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return None
    return float(value)


def _crossed(arm: Arm) -> np.ndarray | None:
    """Arrange the answers of a crossed design as draws × trainings × items, over languages."""
    draws = sorted({draw for draw, _ in arm.pairs.values()})
    trainings = sorted({training for _, training in arm.pairs.values()})
    whole = len(draws) > 1 and len(trainings) > 1
    if not whole or len(arm.pairs) != len(draws) * len(trainings):
        return None
    answers = arm.answers()
    if len({values.shape for values in answers.values()}) > 1:
        return None
    over = np.mean(list(answers.values()), axis=0)
    names = sorted(arm.pairs)
    order = [
        names.index(next(run for run in names if arm.pairs[run] == (d, t)))
        for d in draws
        for t in trainings
    ]
    return over[order].reshape(len(draws), len(trainings), -1)


def spread_of(arms: Sequence[Arm]) -> list[Table]:
    """Estimate where the variance of settings comes from, where their designs are crossed."""
    crossed = {arm.title: values for arm in arms if (values := _crossed(arm)) is not None}
    if not crossed:
        return []
    draws, trainings, items = next(iter(crossed.values())).shape
    found = {title: variance_components(values) for title, values in crossed.items()}
    return [component_table(found, (draws, trainings, items))]
