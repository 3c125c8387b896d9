"""Gives an account of what a study's runs recorded: alignment, attention, paths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from polyprompt.analysis.attention import attention_profile
from polyprompt.analysis.correlation import Correlation, correlate
from polyprompt.analysis.epochs import Curve
from polyprompt.analysis.facts import language_facts
from polyprompt.analysis.prompt_path import PathFacts, path_facts
from polyprompt.analysis.representation import Alignment, align, mean_alignment
from polyprompt.experiments.results import Setting
from polyprompt.experiments.store import RunFolder
from polyprompt.languages.distance import Origin
from polyprompt.report.recorded_tables import (
    alignment_table,
    attention_table,
    change_table,
    epoch_table,
    explained_table,
    path_table,
    word_table,
)
from polyprompt.report.score_tables import Table

POOLED = {"text": "the text's tokens", "answer": "the state the head reads"}


@dataclass(frozen=True)
class Recorded:
    """A setting and those of its runs that recorded something.

    Attributes:
        setting: The setting.
        states: Runs with layer states.
        attention: Runs with attention.
        paths: Runs with a prompt's path.
    """

    setting: Setting
    states: tuple[RunFolder, ...]
    attention: tuple[RunFolder, ...]
    paths: tuple[RunFolder, ...]


def recorded_tables(
    settings: Sequence[Setting], origin: Origin = "attested", reference: str | None = None
) -> tuple[list[Table], list[str]]:
    """Analyse what runs recorded; nothing where none did.

    Args:
        settings: Of a study.
        origin: Whether distances rest on ``attested`` or ``predicted`` features.
        reference: Title of the setting others are compared with; None for the first.

    Returns:
        Tables, and notes on how they were made.
    """
    ordered = sorted(settings, key=lambda setting: setting.title != reference)
    found = [recorded_of(setting) for setting in ordered]
    aligned, notes = _aligned([one for one in found if one.states], origin)
    tables = [
        *aligned,
        *(_attention(one) for one in found if one.attention),
        *_paths([one for one in found if one.paths]),
        *_epochs(settings),
    ]
    return tables, notes


def recorded_of(setting: Setting) -> Recorded:
    """Find out which runs recorded what."""
    names = ("states", "attention", "prompt_path")
    return Recorded(
        setting, *(tuple(run for run in setting.runs if run.has_arrays(name)) for name in names)
    )


def _epochs(settings: Sequence[Setting]) -> list[Table]:
    """Describe how soon and how steadily runs got where they ended."""
    of_setting = {}
    for setting in settings:
        scores = [run.epochs() for run in setting.runs]
        curves = [Curve.of(table) for table in scores if table is not None]
        if curves:
            of_setting[setting.title] = curves, setting.sources
    return [epoch_table(of_setting)] if of_setting else []


def _aligned(found: Sequence[Recorded], origin: Origin) -> tuple[list[Table], list[str]]:
    """Compare languages' states with the source's, setting by setting and between settings."""
    kept = [one for one in found if one.setting.records[0]["parallel"]]
    if not kept:
        reason = "Layer states were recorded and are not compared: the task's items are not"
        return [], [f"{reason} translations of one another."] if found else []
    tables, number = [], 0
    for pooled, title in POOLED.items():
        of_setting = {one.setting.title: alignment_of(one, pooled) for one in kept}
        number = next(iter(of_setting.values())).items
        tables += [alignment_table(name, title, own) for name, own in of_setting.items()]
        tables += _changes(kept, of_setting, title, origin)
    note = (
        f"Alignment: debiased linear CKA of the states of {number} test sentences with those of "
        "their translations in the source language, mean over languages; intervals from random "
        "halves of the sentences, the same ones throughout; shuffled: translations paired at "
        "random."
    )
    return tables, [note]


def alignment_of(one: Recorded, pooled: str) -> Alignment:
    """Average the alignment of a setting's runs."""
    runs = []
    for run in one.states:
        arrays, items = run.arrays("states"), run.recorded_items()
        states = arrays[pooled].astype(np.float32) * arrays[f"{pooled}_scale"][None, :, None]
        runs.append(align(_by_language(states, items), one.setting.sources))
    return mean_alignment(runs)


def _by_language(
    states: NDArray[np.float32], items: pl.DataFrame
) -> dict[str, NDArray[np.float32]]:
    """Split states by language, the items of each in the order of their ids."""
    rows = items.with_row_index("row").sort("language", "id")
    return {
        str(name[0]): states[own["row"].to_numpy()]
        for name, own in rows.group_by("language", maintain_order=True)
    }


def _changes(
    kept: Sequence[Recorded], of_setting: Mapping[str, Alignment], pooled: str, origin: Origin
) -> list[Table]:
    """Compare settings' alignment with that of the first, and with accuracy."""
    first, *others = kept
    reference = of_setting[first.setting.title]
    same = [
        one
        for one in others
        if _comparable(of_setting[one.setting.title], reference)
        and _backbone(one) == _backbone(first)
    ]
    tables = [
        change_table(
            f"{one.setting.title} – {first.setting.title}",
            pooled,
            of_setting[one.setting.title].minus(reference),
        )
        for one in same
    ]
    rows = {
        one.setting.title: _explained(one, of_setting[one.setting.title], origin) for one in kept
    }
    return [*tables, explained_table(rows, pooled)]


def _comparable(one: Alignment, other: Alignment) -> bool:
    """Say whether two alignments are of the same languages and number of items."""
    return (one.languages, one.items) == (other.languages, other.items)


def _backbone(one: Recorded) -> str:
    """Name a setting's backbone by its contents."""
    return str(one.setting.records[0]["backbone_identity"])


def _explained(one: Recorded, found: Alignment, origin: Origin) -> dict[str, Correlation]:
    """Correlate languages' alignment, mean over layers, with accuracy and distances."""
    alignment = found.cka[1:].mean(0)
    facts = language_facts(found.languages, one.setting.sources, origin=origin)
    rows = {row.code: row.accuracy.mean for row in one.setting.summary.languages}
    accuracy = np.array([rows[code] for code in found.languages])
    values = {"accuracy": accuracy, **facts.distances}
    return {name: correlate(alignment, own, facts.families) for name, own in values.items()}


def _attention(one: Recorded) -> Table:
    """Average the attention of a setting's runs, for the source and for other languages."""
    sources, others = [], []
    for run in one.attention:
        weights = run.arrays("attention")["weights"]
        languages = run.recorded_items()["language"].to_list()
        own = [code for code in dict.fromkeys(languages) if code in one.setting.sources]
        rest = [code for code in dict.fromkeys(languages) if code not in own]
        sources += [attention_profile(weights, languages, own)] if own else []
        others += [attention_profile(weights, languages, rest)] if rest else []
    return attention_table(
        one.setting.title,
        np.mean(sources, axis=0) if sources else None,
        np.mean(others, axis=0) if others else None,
    )


def _paths(found: Sequence[Recorded]) -> list[Table]:
    """Describe the paths of prompts; settings without a prompt are left out."""
    rows: dict[str, list[PathFacts]] = {}
    words = []
    for one in found:
        with_prompt = [
            (run, own) for run in one.paths if "vectors" in (own := run.arrays("prompt_path"))
        ]
        if not with_prompt:
            continue
        title = one.setting.title
        rows[title] = [path_facts(own["vectors"], int(own["kept"][0])) for _, own in with_prompt]
        run, own = with_prompt[0]
        seeds = run.record()
        name = f"{title}, draw {seeds['draw_seed']}, training {seeds['train_seed']}"
        words.append(word_table(name, run.prompt_words(), own["cosines"]))
    return [path_table(rows), *words] if rows else []
