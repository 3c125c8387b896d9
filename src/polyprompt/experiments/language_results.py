"""What came of learning languages: losses of held-out texts with and without the language part."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from polyprompt.errors import StoreError
from polyprompt.experiments.nested import flatten, varying
from polyprompt.experiments.results import LANGUAGE_KIND, markdown_report
from polyprompt.experiments.store import RunFolder
from polyprompt.report.page import page
from polyprompt.report.score_tables import Table
from polyprompt.report.section import Section
from polyprompt.scoring.intervals import RESAMPLES, Interval
from polyprompt.seeds import generator
from polyprompt.tables import write_parquet, write_text

_NOT_SHOWN = {"seed", "draw_seed", "train_seed", "source", "targets", "data"}


@dataclass(frozen=True)
class LanguageResult:
    """One run's losses on the held-out texts of one language (nats a guessed word).

    Attributes:
        run: Its name.
        setting: What sets it apart from other runs, seed included; empty where nothing does.
        source: Languages it learnt.
        language: Of the texts.
        texts: Learnt from.
        held_out: Measured.
        guessed: Words of these that were guessed.
        loss: With the part.
        without: Of the backbone as it is; None where it was not measured.
        fall: By how much the part lowers the loss, with a 95 % interval over texts.
    """

    run: str
    setting: str
    source: str
    language: str
    texts: int
    held_out: int
    guessed: int
    loss: float
    without: float | None
    fall: Interval | None


def learns_languages(folders: Sequence[RunFolder]) -> bool:
    """Say whether complete runs learnt languages, and not a task."""
    complete = [folder for folder in folders if folder.is_complete()]
    return bool(complete) and all(one.record().get("kind") == LANGUAGE_KIND for one in complete)


def language_results(folders: Sequence[RunFolder]) -> list[LanguageResult]:
    """Read the losses of complete runs.

    Raises:
        StoreError: None is complete, or they are not of one kind.
    """
    complete = [folder for folder in folders if folder.is_complete()]
    if not learns_languages(complete):
        raise StoreError("These runs have learnt no language, or not all of them have.")
    configs = [flatten(folder.config()) for folder in complete]
    keys = [key for key in varying(configs) if key not in _NOT_SHOWN]
    seeds = "train_seed" in varying(configs) or "draw_seed" in varying(configs)
    found = []
    for folder, config in zip(complete, configs, strict=True):
        named = [f"{key}={config.get(key)}" for key in keys]
        named += [f"seed={config.get('train_seed')}"] * seeds
        found += _results_of(folder, ", ".join(named))
    return sorted(found, key=lambda one: (one.setting, one.source, one.language))


def _results_of(folder: RunFolder, setting: str) -> list[LanguageResult]:
    """Read one run's losses, language by language."""
    record, predictions = folder.record(), folder.predictions()
    found = []
    for (language,), own in predictions.group_by(["language"], maintain_order=True):
        with_part, guessed = _sums(own.filter(pl.col("baseline").is_null()))
        bare, _ = _sums(own.filter(pl.col("baseline") == "without_parts"))
        loss, words = float(with_part.sum() / guessed.sum()), int(guessed.sum())
        fall = _fall(bare - with_part, guessed) if len(bare) else None
        without = float(bare.sum() / guessed.sum()) if len(bare) else None
        source = "+".join(record["source"])
        texts = record["train_examples"]
        found.append(
            LanguageResult(
                folder.name,
                setting,
                source,
                str(language),
                texts,
                len(guessed),
                words,
                loss,
                without,
                fall,
            )
        )
    return found


def _sums(rows: pl.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the summed loss and the number of guessed words of every text."""
    guessed = rows["guessed"].to_numpy().astype(float)
    return rows["loss"].to_numpy() * guessed, guessed


def _fall(falls: NDArray[np.float64], guessed: NDArray[np.float64]) -> Interval:
    """Bootstrap the mean fall per word over texts."""
    n = len(falls)
    weights = generator(0, "bootstrap").multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    means = (weights @ falls) / np.maximum(weights @ guessed, 1e-9)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(falls.sum() / guessed.sum()), float(low), float(high))


def language_loss_table(results: Sequence[LanguageResult]) -> Table:
    """Tabulate losses."""
    settings = any(one.setting for one in results)
    columns = (
        *(["setting"] * settings), "learnt", "held-out texts in", "texts learnt from",
        "held-out texts", "words guessed", "loss without", "loss", "lower by", "95 % interval",
    )  # fmt: skip
    rows = []
    for one in results:
        fall = one.fall
        interval = "" if fall is None else f"{fall.low:+.3f} to {fall.high:+.3f}"
        without = "" if one.without is None else f"{one.without:.3f}"
        rows.append(
            (
                *([one.setting] * settings),
                one.source,
                one.language,
                str(one.texts),
                str(one.held_out),
                str(one.guessed),
                without,
                f"{one.loss:.3f}",
                "" if fall is None else f"{fall.mean:+.3f}",
                interval,
            )
        )
    title = "Loss of held-out texts (nats a guessed word)"
    return Table(title, columns, tuple(rows), "l" * settings + "ll" + "r" * 7)


def language_headline(results: Sequence[LanguageResult]) -> str:
    """Say what came of it."""
    own = [one for one in results if one.fall is not None and one.language in one.source.split("+")]
    if not own:
        mean = float(np.mean([one.loss for one in results]))
        return f"Mean loss of held-out texts: {mean:.3f} nats a guessed word."
    falls = [one.fall for one in own if one.fall is not None]
    lower = sum(fall.low > 0 for fall in falls)
    mean = float(np.mean([fall.mean for fall in falls]))
    of_all = f"{len(falls)} runs" if len(falls) > 1 else "1 run"
    return (
        f"Held-out texts of the learnt language cost {abs(mean):.3f} nats a guessed word "
        f"{'less' if mean >= 0 else 'more'} with the part (mean of {of_all}); in {lower} the "
        "interval lies above 0."
    )


NOTES = (
    "Loss without: the backbone as it is, with the head that was trained where it has none of its "
    "own; held-out texts were not learnt from.",
    "The interval resamples held-out texts; it says nothing about other seeds or other texts to "
    "learn from.",
)


def language_section(folders: Sequence[RunFolder]) -> Section:
    """Sum up what came of runs that learnt languages.

    Raises:
        StoreError: None is complete, or they are not of one kind.
    """
    results = language_results(folders)
    warnings = [
        f"{one.run} ({one.language}): the part does not lower the loss."
        for one in results
        if one.fall is not None and one.fall.mean <= 0 and one.language in one.source.split("+")
    ]
    table = language_loss_table(results)
    return Section("Languages", language_headline(results), warnings, (table,), NOTES)


def write_language_reports(
    folder: Path, title: str, folders: Sequence[RunFolder]
) -> tuple[Section, dict[str, Path]]:
    """Write a report, a Markdown table and joined scores of runs that learnt languages."""
    section = language_section(folders)
    paths = {
        "report": folder / "report.html",
        "table": folder / "table.md",
        "scores": folder / "scores.parquet",
    }
    write_text(paths["report"], page(title, [section.chapter()]))
    write_text(paths["table"], markdown_report(title, [section]))
    complete = [one for one in folders if one.is_complete()]
    write_parquet(paths["scores"], pl.concat([one.scores() for one in complete]))
    return section, paths
