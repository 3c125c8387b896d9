"""Gives the cross-lingual account of a study from the runs on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from polyprompt.analysis.account import Arm, Contrast, contrasts, correlations, on_common_seeds
from polyprompt.analysis.account import adjusted as adjusted_contrasts
from polyprompt.analysis.facts import Facts
from polyprompt.analysis.groups import GroupContrast, group_contrast, script_contrasts
from polyprompt.analysis.groups import adjusted as adjusted_groups
from polyprompt.errors import ConfigError, nearest
from polyprompt.experiments.designs import matrix_of, series_of, spread_of
from polyprompt.experiments.explaining import corpus_of, facts_of, majority_of
from polyprompt.experiments.results import Setting, markdown_tables
from polyprompt.languages.catalogue import CORPUS_UNITS
from polyprompt.languages.distance import Origin
from polyprompt.report.account_tables import (
    contrast_table,
    correlation_table,
    gain_table,
    group_table,
    script_pair_table,
    slope_table,
)
from polyprompt.report.score_tables import Table
from polyprompt.report.setting_tables import setting_table
from polyprompt.report.tokenization_tables import tokenization_gain_table, tokenization_tables
from polyprompt.scoring.metrics import TITLES
from polyprompt.tables import write_text


@dataclass(frozen=True)
class Request:
    """What is asked of an account.

    Attributes:
        corpus: One of ``CORPUS_UNITS``; None for the one the backbone's type was trained on.
        origin: Whether distances rest on ``attested`` or ``predicted`` features.
        reference: Title of the setting others are compared with; None for the first.
        groups: Named pairs of groups of languages.
    """

    corpus: str | None = None
    origin: Origin = "attested"
    reference: str | None = None
    groups: Mapping[str, tuple[Sequence[str], Sequence[str]]] | None = None


@dataclass(frozen=True)
class _Cohort:
    """Settings of one backbone that were tested in the same languages.

    Attributes:
        settings: As they were gathered.
        arms: Their answers, in the same order.
        common: The same on the seeds that all of them have.
        left_out: Runs that ``common`` lacks.
        facts: By source languages.
        corpus: Whose sizes explain.
        comparisons: By source languages, in the order of ``facts``.
    """

    settings: Sequence[Setting]
    arms: Sequence[Arm]
    common: Sequence[Arm]
    left_out: int
    facts: Mapping[tuple[str, ...], Facts]
    corpus: str | None
    comparisons: Sequence["_Comparison"]


@dataclass(frozen=True)
class _Comparison:
    """What settings with the same sources were found to differ in.

    Attributes:
        found: Pairs of settings.
        grouped: The same pairs in named groups of languages.
    """

    found: Sequence[Contrast]
    grouped: Sequence[GroupContrast]

    def tables(self) -> list[Table]:
        """Tabulate them."""
        explained = [one for one in self.found if any(one.slopes.values())]
        return [
            *([contrast_table(self.found)] if self.found else []),
            *(table for one in explained for table in (slope_table(one), gain_table(one))),
            *(tokenization_gain_table(one) for one in self.found if one.tokenization),
            *([group_table(self.grouped)] if self.grouped else []),
        ]


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
    return [table for cohort in cohorts for table in _tables(cohort)], list(notes)


def _cohort(settings: Sequence[Setting], request: Request) -> _Cohort:
    """Compare settings of one backbone that were tested in the same languages."""
    arms = [_arm(setting) for setting in settings]
    common, left_out = on_common_seeds(arms)
    corpus = corpus_of(settings, request.corpus)
    facts = {
        setting.sources: facts_of(setting, arm, corpus, request.origin)
        for setting, arm in zip(settings, arms, strict=True)
    }
    comparisons = [
        _compare(
            [a for s, a in zip(settings, common, strict=True) if s.sources == sources],
            seen,
            sources,
            request,
        )
        for sources, seen in facts.items()
    ]
    return _Cohort(settings, arms, common, left_out, facts, corpus, comparisons)


def _compare(
    arms: Sequence[Arm], facts: Facts, sources: Sequence[str], request: Request
) -> _Comparison:
    """Compare settings with the same source languages."""
    titles = [arm.title for arm in arms]
    reference = request.reference if request.reference in titles else None
    found = contrasts(arms, facts, sources, reference=reference) if len(arms) > 1 else []
    grouped = [
        group_contrast(name, own, (_named(arms, one.first), _named(arms, one.second)), sources)
        for name, own in (request.groups or {}).items()
        for one in found
    ]
    return _Comparison(found, [one for one in grouped if one is not None])


def _adjusted(cohorts: Sequence[_Cohort]) -> list[_Cohort]:
    """Adjust all p of the study's comparisons together, and all of its named contrasts."""
    parts = [part for cohort in cohorts for part in cohort.comparisons]
    found = iter(adjusted_contrasts([one for part in parts for one in part.found]))
    grouped = iter(adjusted_groups([one for part in parts for one in part.grouped]))
    return [
        replace(
            cohort,
            comparisons=[
                _Comparison(
                    list(islice(found, len(part.found))), list(islice(grouped, len(part.grouped)))
                )
                for part in cohort.comparisons
            ],
        )
        for cohort in cohorts
    ]


def _tables(cohort: _Cohort) -> list[Table]:
    """Tabulate one cohort."""
    settings, arms, majority = cohort.settings, cohort.arms, majority_of(cohort.arms[0].predictions)
    first = next(iter(cohort.facts.values()))
    tables = [setting_table(settings), *tokenization_tables(first)]
    for setting, arm in zip(settings, arms, strict=True):
        facts = cohort.facts[setting.sources]
        tables.append(correlation_table(correlations(arm, facts, setting.sources, majority)))
    tables += [table for part in cohort.comparisons for table in part.tables()]
    tables += matrix_of(settings, cohort.common)
    pairs = [pair for arm in arms for pair in script_contrasts(arm)]
    tables += [script_pair_table(pairs)] if pairs else []
    if len(cohort.facts) == 1:
        ((sources, facts),) = cohort.facts.items()
        tables += series_of(settings, cohort.common, facts, sources)
    return tables + spread_of(arms)


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


def _arm(setting: Setting) -> Arm:
    """Take a setting's answers and seeds."""
    predictions = pl.concat([run.predictions() for run in setting.runs])
    pairs = {
        run.name: (record["draw_seed"], record["train_seed"])
        for run, record in zip(setting.runs, setting.records, strict=True)
    }
    return Arm(setting.title, predictions.filter(pl.col("baseline").is_null()), pairs)


def _named(arms: Sequence[Arm], title: str) -> Arm:
    """Find a setting."""
    return next(arm for arm in arms if arm.title == title)


def _notes(cohort: _Cohort, request: Request) -> list[str]:
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
        *([] if metric == "accuracy" else [f"What is called accuracy here is {TITLES[metric]}."]),
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


def read_groups(config: Mapping[str, Any]) -> dict[str, tuple[list[str], list[str]]]:
    """Read a study's named contrasts from its ``study.yaml``."""
    found = config.get("contrasts") or {}
    return {name: (list(sides[0]), list(sides[1])) for name, sides in found.items()}
