"""Gives the cross-lingual account of a study from the runs on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from polyprompt.analysis.account import (
    Arm,
    contrasts,
    correlations,
    on_common_seeds,
)
from polyprompt.analysis.account import adjusted as adjusted_contrasts
from polyprompt.analysis.facts import Facts
from polyprompt.analysis.groups import adjusted as adjusted_groups
from polyprompt.analysis.groups import group_contrast, script_contrasts
from polyprompt.analysis.interactions import Pairs, interaction
from polyprompt.analysis.interactions import adjusted as adjusted_interactions
from polyprompt.analysis.tokenization import MEASURES, as_cut
from polyprompt.errors import ConfigError, nearest
from polyprompt.experiments.cohort import Cohort, Comparison, Request
from polyprompt.experiments.designs import matrix_of, series_of, spread_of
from polyprompt.experiments.explaining import corpus_of, facts_of, majority_of
from polyprompt.experiments.results import Setting, markdown_tables
from polyprompt.languages.catalogue import CORPUS_UNITS
from polyprompt.report.account_tables import (
    correlation_table,
    script_pair_table,
)
from polyprompt.report.interaction_tables import interaction_table
from polyprompt.report.score_tables import Table
from polyprompt.report.setting_tables import setting_table
from polyprompt.report.tokenization_tables import tokenization_tables
from polyprompt.scoring.metrics import title_of
from polyprompt.tables import write_text


def account_of(settings: Sequence[Setting], request: Request) -> tuple[list[Table], list[str]]:
    """Analyse settings; those of one backbone in the same languages are compared.

    Raises:
        ConfigError: There is no such corpus or setting.

    Returns:
        Tables, and notes on how they were made and what was left out.
    """
    _check(settings, request)
    groups: dict[tuple[str, frozenset[str]], list[Setting]] = {}
    for setting in settings:
        languages = frozenset(row.code for row in setting.summary.languages)
        record = setting.records[0]
        key = f"{record['backbone_identity']} {record['task']}", languages
        groups.setdefault(key, []).append(setting)
    cohorts = _adjusted([_cohort(own, request) for own in groups.values()])
    notes = dict.fromkeys(note for cohort in cohorts for note in _notes(cohort, request))
    left_out = _not_crossed(cohorts, settings, request)
    return [table for cohort in cohorts for table in _tables(cohort)], [*notes, *left_out]


def _cohort(settings: Sequence[Setting], request: Request) -> Cohort:
    """Compare settings of one backbone that were tested in the same languages."""
    arms = [setting.arm() for setting in settings]
    common, left_out = on_common_seeds(arms)
    corpus = corpus_of(settings, request.corpus)
    facts: dict[tuple[str, ...], Facts] = {}
    cut = []
    for setting, arm in zip(settings, arms, strict=True):
        if setting.sources not in facts:
            facts[setting.sources] = facts_of(setting, arm, corpus, request.origin)
        cut.append(as_cut(facts[setting.sources], arm.predictions, setting.sources))
    comparisons = [
        _compare(
            [a for s, a in zip(settings, common, strict=True) if s.sources == sources],
            seen,
            sources,
            request,
        )
        for sources, seen in facts.items()
    ]
    asked = (request.interactions or {}).items()
    found = [interaction(name, pairs, common) for name, pairs in asked]
    crossed = [one for one in found if one is not None]
    return Cohort(settings, arms, common, left_out, facts, cut, corpus, comparisons, crossed)


def _compare(
    arms: Sequence[Arm], facts: Facts, sources: Sequence[str], request: Request
) -> Comparison:
    """Compare settings with the same source languages."""
    titles = [arm.title for arm in arms]
    reference = request.reference if request.reference in titles else None
    found = contrasts(arms, facts, sources, reference=reference) if len(arms) > 1 else []
    grouped = [
        group_contrast(name, own, (_named(arms, one.first), _named(arms, one.second)), sources)
        for name, own in (request.groups or {}).items()
        for one in found
    ]
    return Comparison(found, [one for one in grouped if one is not None])


def _adjusted(cohorts: Sequence[Cohort]) -> list[Cohort]:
    """Adjust all p of the study's comparisons together, of named contrasts, of interactions."""
    parts = [part for cohort in cohorts for part in cohort.comparisons]
    found = iter(adjusted_contrasts([one for part in parts for one in part.found]))
    grouped = iter(adjusted_groups([one for part in parts for one in part.grouped]))
    crossed = iter(adjusted_interactions([one for own in cohorts for one in own.interactions]))
    return [
        replace(
            cohort,
            comparisons=[
                Comparison(
                    list(islice(found, len(part.found))), list(islice(grouped, len(part.grouped)))
                )
                for part in cohort.comparisons
            ],
            interactions=list(islice(crossed, len(cohort.interactions))),
        )
        for cohort in cohorts
    ]


def _tables(cohort: Cohort) -> list[Table]:
    """Tabulate one cohort."""
    settings, arms, majority = cohort.settings, cohort.arms, majority_of(cohort.arms[0].predictions)
    tables = [setting_table(settings), *_cut_tables(cohort)]
    for setting, arm, facts in zip(settings, arms, cohort.cut, strict=True):
        tables.append(correlation_table(correlations(arm, facts, setting.sources, majority)))
    tables += [table for part in cohort.comparisons for table in part.tables()]
    tables += [interaction_table(cohort.interactions)] if cohort.interactions else []
    tables += matrix_of(settings, cohort.common)
    pairs = [pair for arm in arms for pair in script_contrasts(arm)]
    tables += [script_pair_table(pairs)] if pairs else []
    if len(cohort.facts) == 1:
        ((sources, facts),) = cohort.facts.items()
        tables += series_of(settings, cohort.common, facts, sources)
    return tables + spread_of(arms)


def _cut_tables(cohort: Cohort) -> list[Table]:
    """Tabulate how finely texts are cut: once for all settings that cut them alike."""
    found: dict[bytes, tuple[Facts, list[str]]] = {}
    for arm, facts in zip(cohort.arms, cohort.cut, strict=True):
        known = [facts.values[name] for name in MEASURES if name in facts.values]
        found.setdefault(np.array(known).tobytes(), (facts, []))[1].append(arm.title)
    one_way = len(found) == 1
    return [
        table
        for facts, titles in found.values()
        for table in tokenization_tables(facts, () if one_way else titles)
    ]


def write_account(folder: Path, title: str, tables: Sequence[Table], notes: Sequence[str]) -> Path:
    """Write an account as Markdown into a study's folder."""
    path = folder / "account.md"
    listed = "".join(f"- {note}\n" for note in notes)
    write_text(path, f"# {title}: the account\n\n{listed}\n{markdown_tables(tables)}\n")
    return path


def _check(settings: Sequence[Setting], request: Request) -> None:
    """Refuse what cannot be analysed."""
    titles = [setting.title for setting in settings]
    if request.reference is not None and request.reference not in titles:
        raise ConfigError(
            f"There is no setting '{request.reference}'.{nearest(request.reference, titles)} There "
            f"are: {', '.join(titles)}."
        )


def _not_crossed(
    cohorts: Sequence[Cohort], settings: Sequence[Setting], request: Request
) -> list[str]:
    """Name the interactions that are left out, and why."""
    titles = [setting.title for setting in settings]
    found = {one.name for cohort in cohorts for one in cohort.interactions}
    notes = []
    for name, pairs in (request.interactions or {}).items():
        missing = [title for pair in pairs for title in pair if title not in titles]
        reason = "its settings have not the same backbone, task, languages, seeds and items."
        if missing:
            reason = f"there is no setting '{missing[0]}'.{nearest(missing[0], titles)}"
        if name not in found:
            notes.append(f"The interaction '{name}' is left out: {reason}")
    return notes


def _named(arms: Sequence[Arm], title: str) -> Arm:
    """Find a setting."""
    return next(arm for arm in arms if arm.title == title)


def _notes(cohort: Cohort, request: Request) -> list[str]:
    """Say how the account was made and what was left out."""
    facts, corpus, sources = next(iter(cohort.facts.values())), cohort.corpus, list(cohort.facts)
    missing = [
        f"{kind} {int(np.isnan(values).sum())}"
        for kind, values in facts.distances.items()
        if np.isnan(values).any()
    ]
    few = [f"{kind} {number}" for kind, number in facts.few.items() if number]
    unit = CORPUS_UNITS[corpus] if corpus else ""
    seen = "; ".join("+".join(own) for own in sources)
    left_out = [
        f"{cohort.left_out} runs have seeds that not all settings have: they are left out where "
        "settings are compared."
    ]
    apart = len({tuple(sorted(arm.pairs.values())) for arm in cohort.common}) > 1
    metric = cohort.settings[0].summary.metric
    return [
        *([] if metric == "accuracy" else [f"What is called accuracy here is {title_of(metric)}."]),
        *(left_out if cohort.left_out else []),
        *(["Settings without any seed in common are not compared."] if apart else []),
        f"Seen from {seen} (of several sources the nearest). The source is left out of "
        "correlations (but for the column that has it), slopes, gains and groups of languages, and "
        "counts in means over languages. Correlations are signed: a distance that hurts is "
        "negative.",
        "Intervals of correlations and of gains resample language families; p values beside r "
        "treat languages as independent.",
        f"Distances (from the first of these): URIEL, {request.origin} features; missing: "
        f"{', '.join(missing) or 'none'}; resting on fewer than 20 features: "
        f"{', '.join(few) or 'none'}.",
        f"Stand-ins of the macro-language: {', '.join(facts.stand_ins) or 'none'}.",
        f"Corpus: {corpus} ({unit})."
        if corpus
        else "Corpus of the backbone: not published, left out.",
    ]


def read_interactions(config: Mapping[str, Any]) -> dict[str, Pairs]:
    """Read a study's interactions from its ``study.yaml``."""
    found = config.get("interactions") or {}
    return {name: ((a, b), (c, d)) for name, ((a, b), (c, d)) in found.items()}


def read_groups(config: Mapping[str, Any]) -> dict[str, tuple[list[str], list[str]]]:
    """Read a study's named contrasts from its ``study.yaml``."""
    found = config.get("contrasts") or {}
    return {name: (list(sides[0]), list(sides[1])) for name, sides in found.items()}
