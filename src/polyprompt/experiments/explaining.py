"""What may explain a setting's results: facts of its languages, its corpus, what chance reaches."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from polyprompt.analysis.account import Arm
from polyprompt.analysis.facts import Facts, language_facts, relative_tokens
from polyprompt.analysis.tokenization import granularity
from polyprompt.errors import ConfigError, nearest
from polyprompt.experiments.results import Setting
from polyprompt.languages.catalogue import CORPUS_UNITS
from polyprompt.languages.distance import Origin
from polyprompt.scoring.metrics import counts_of, gives_classes
from polyprompt.scoring.score import metric_of

_CORPUS_OF = {"bloom": "bloom", "xglm": "xglm", "xlm-roberta": "xlmr", "mt5": "mt5"}
"""Corpora of the model types whose pre-training data is published."""


def facts_of(setting: Setting, arm: Arm, corpus: str | None, origin: Origin) -> Facts:
    """Collect the facts of a setting's languages, seen from its source."""
    languages = [row.code for row in setting.summary.languages]
    cut = granularity(arm.predictions, languages)
    tokens = None
    if setting.records[0]["parallel"]:  # other items' lengths say nothing of languages
        tokens = relative_tokens(arm.predictions, languages, setting.sources)
    else:
        cut.pop("pieces", None)
    facts = language_facts(languages, setting.sources, corpus, tokens, origin)
    return replace(facts, values=facts.values | cut)


def corpus_of(settings: Sequence[Setting], asked: str | None) -> str | None:
    """Name the corpus whose sizes explain a study; None where the backbone's is not published.

    Raises:
        ConfigError: There is no such corpus.
    """
    if asked is not None and asked not in CORPUS_UNITS:
        raise ConfigError(
            f"There is no corpus '{asked}'.{nearest(asked, CORPUS_UNITS)} There are: "
            f"{', '.join(CORPUS_UNITS)}."
        )
    return asked or _CORPUS_OF.get(settings[0].records[0].get("model_type", ""))


def majority_of(predictions: pl.DataFrame) -> dict[str, float]:
    """Compute what always giving the commonest answer reaches in each language.

    Of tagged words it is the share of the commonest tag, of the F1 of a label always giving this
    one, of entities and of answers that are texts of their own nothing.
    """
    metric = metric_of(predictions)
    items = predictions.unique(["language", "id"])
    if metric != "word_accuracy" and not gives_classes(metric):
        return dict.fromkeys(items["language"].unique().to_list(), 0.0)
    found = {}
    for key, part in items.partition_by("language", as_dict=True).items():
        labels = part["label"].to_list()
        if metric == "word_accuracy":
            labels = [tag for tags in labels for tag in tags.split()]
            found[str(key[0])] = max(Counter(labels).values()) / len(labels)
            continue
        commonest = max(Counter(labels).items(), key=lambda one: one[1])[0]
        commonest = metric.partition(":")[2] or commonest
        always = part.with_columns(prediction=pl.lit(commonest))
        found[str(key[0])] = counts_of(metric, always).value()
    return found
