"""Recommends settings per target language from a study's runs on disk."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from polyprompt.analysis.facts import language_facts, relative_tokens
from polyprompt.analysis.recommend import Recommendations, recommend
from polyprompt.analysis.transfer import accuracy_table
from polyprompt.errors import StoreError
from polyprompt.experiments.results import Setting
from polyprompt.languages.catalogue import language_name
from polyprompt.report.score_tables import Table, percent, signed


def recommendations(settings: Sequence[Setting], corpus: str | None) -> Recommendations:
    """Recommend a setting for every target language of a study.

    Args:
        settings: With answers to the targets' dev split (``evaluate=both``).
        corpus: Whose sizes may explain; None for none.

    Raises:
        StoreError: There is one setting, a run has no dev answers, settings were trained on
            different source languages or tested in different ones, or there are too few languages.
    """
    first = settings[0]
    _check_alike(settings)
    languages = [row.code for row in first.summary.languages]
    tables = []
    for setting in settings:
        dev = pl.concat([run.dev_predictions() for run in setting.runs])
        tables.append(accuracy_table(dev, languages)[0].mean(1))
    test = []
    for setting in settings:
        known = {row.code: row.accuracy.mean for row in setting.summary.languages}
        test.append([known[code] for code in languages])
    predictions = first.runs[0].predictions()
    tokens = relative_tokens(predictions, languages, first.sources)
    facts = language_facts(languages, first.sources, corpus, tokens, "predicted")
    titles = [setting.title for setting in settings]
    try:
        return recommend(titles, np.stack(tables, 1), np.array(test).T, facts, first.sources)
    except ValueError as error:
        raise StoreError(str(error)) from error


def _check_alike(settings: Sequence[Setting]) -> None:
    """Refuse settings with other sources or targets than the first."""
    first = settings[0]
    languages = {row.code for row in first.summary.languages}
    for setting in settings[1:]:
        if setting.sources != first.sources:
            raise StoreError("Settings with different source languages cannot be recommended from.")
        if {row.code for row in setting.summary.languages} != languages:
            raise StoreError(f"'{setting.title}' was tested in other languages than the first.")


def recommendation_tables(found: Recommendations) -> list[Table]:
    """Tabulate recommendations and what they are worth."""
    ways = (
        ("recommended per language, from other families' dev", "accuracy"),
        ("best single setting of other families' dev", "single"),
        ("best on the language's own dev split", "own_dev"),
        ("oracle: best on test", "oracle"),
    )
    rows = [(title, percent(found.mean(name))) for title, name in ways]
    rows.insert(1, (f"best single setting on all dev: {found.best_single}", percent(found.single)))
    rows.append(("recommended – best single [95 %, families]", signed(found.gain)))
    ordered = sorted(found.languages, key=lambda one: one.single - one.accuracy)
    cells = tuple(
        (
            language_name(one.language),
            one.language,
            one.setting,
            percent(one.accuracy),
            percent(one.single),
            percent(one.own_dev),
            percent(one.oracle),
        )
        for one in ordered
    )
    columns = ("language", "code", "recommended", "test", "best single", "own dev", "oracle")
    return [
        Table("Recommendation, mean over targets (%)", ("choice", "test"), tuple(rows), "lr"),
        Table("Per language (%)", columns, cells, "lllrrrr"),
    ]
