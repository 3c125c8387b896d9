"""Recommends settings per target language from a study's runs on disk."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from jaxtyping import Float

from polyprompt.analysis.facts import language_facts, relative_tokens
from polyprompt.analysis.recommend import Recommendations, recommend
from polyprompt.analysis.transfer import accuracy_table
from polyprompt.errors import StoreError
from polyprompt.experiments.results import Setting
from polyprompt.experiments.store import RunFolder
from polyprompt.languages.catalogue import language_name
from polyprompt.report.score_tables import Table, percent, signed
from polyprompt.scoring.metrics import title_of


def recommendations(settings: Sequence[Setting], corpus: str | None) -> Recommendations:
    """Recommend a setting for every target language, from runs with seeds that all settings have.

    Args:
        settings: With answers to the targets' dev split (``evaluate=both``).
        corpus: Whose sizes may explain; None for none.

    Raises:
        StoreError: There is one setting, a run has no dev answers, settings were trained on
            different source languages or tested in different ones or have no seeds in common, or
            there are too few languages.
    """
    first = settings[0]
    _check_alike(settings)
    languages = [row.code for row in first.summary.languages]
    kept = _with_common_seeds(settings)
    dev = [_accuracies([run.dev_predictions() for run in runs], languages) for runs in kept]
    test = [_accuracies([run.predictions() for run in runs], languages) for runs in kept]
    predictions = first.runs[0].predictions()
    tokens = relative_tokens(predictions, languages, first.sources)
    facts = language_facts(languages, first.sources, corpus, tokens, "predicted")
    titles = [setting.title for setting in settings]
    try:
        return recommend(titles, np.stack(dev, 1), np.stack(test, 1), facts, first.sources)
    except ValueError as error:
        raise StoreError(str(error)) from error


def _with_common_seeds(settings: Sequence[Setting]) -> list[list[RunFolder]]:
    """Give each setting's runs with draw and training seeds that every setting has.

    Raises:
        StoreError: There are none.
    """
    of_setting = [
        {(record["draw_seed"], record["train_seed"]): run for run, record in pairs}
        for pairs in (zip(one.runs, one.records, strict=True) for one in settings)
    ]
    common = sorted(set.intersection(*map(set, of_setting)))
    if not common:
        raise StoreError("The settings have no seeds in common. Run them with the same seeds.")
    return [[runs[seeds] for seeds in common] for runs in of_setting]


def _accuracies(
    predictions: Sequence[pl.DataFrame], languages: Sequence[str]
) -> Float[np.ndarray, " L"]:
    """Average the accuracies of runs, language by language."""
    return accuracy_table(pl.concat(predictions), languages)[0].mean(1)


def _check_alike(settings: Sequence[Setting]) -> None:
    """Refuse settings with other sources or targets than the first."""
    first = settings[0]
    languages = {row.code for row in first.summary.languages}
    for setting in settings[1:]:
        if setting.sources != first.sources:
            raise StoreError("Settings with different source languages cannot be recommended from.")
        if {row.code for row in setting.summary.languages} != languages:
            raise StoreError(f"'{setting.title}' was tested in other languages than the first.")
        for name in ("data_identity", "backbone_identity"):
            if setting.records[0][name] != first.records[0][name]:
                raise StoreError(f"'{setting.title}' has other data or another backbone.")
        if setting.summary.metric != first.summary.metric:
            raise StoreError(
                f"'{setting.title}' is measured by {title_of(setting.summary.metric)} and "
                f"'{first.title}' by {title_of(first.summary.metric)}: settings of one task alone "
                "can be recommended from."
            )


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
    rows.append(("facts that languages lack, the median in their place", str(found.missing)))
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
