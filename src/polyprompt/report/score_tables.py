"""The table of languages, in forms for the terminal, Markdown and HTML; numbers in percent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polyprompt.analysis.summary import BASELINE_TITLES, GroupRow, LanguageRow, Summary
from polyprompt.cautions import MARK, contamination_notes
from polyprompt.languages.catalogue import language_name
from polyprompt.scoring.intervals import Interval
from polyprompt.scoring.metrics import title_of

BASELINE_NOTES = {
    "majority": "always the most frequent class of the source language's training split (ties: the "
    "first label)",
    "tfidf_svm": "TF-IDF of character 2–5-grams and a linear SVM on the same examples",
    "word_tags": "the tag that a word has most often in the same examples, an unknown word the "
    "most frequent tag",
    "zero_shot": "frozen backbone, nearest label description, no examples",
    "zero_shot_instruction": "the backbone without a prompt, the card's instruction, the same "
    "label words, no examples",
    "in_context": "the decoder without a prompt, the same examples as demonstrations in "
    "front of the instruction, as many as fit",
    "logistic_regression": "on the frozen vectors of the same examples (encoders: mean state, "
    "decoders: last), C by cross-validation",
    "logistic_regression_descriptions": "the same with the label descriptions as further rows",
    "positive": "always the label whose F1 is measured",
    "without_parts": "the backbone as it is, asked in the same words, writes the answer",
    "closed_form": "frozen backbone, class vector = description + a × class mean, no training",
}


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        title: What it shows.
        columns: Heads.
        rows: Cells.
        alignment: A letter per column: ``l`` words, ``r`` numbers, ``p`` sentences that may wrap.
        totals: How many of the last rows sum the others up; they stay below when rows are sorted.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    alignment: str
    totals: int = 0


def percent(value: float) -> str:
    """Write a share as percent with one decimal."""
    return f"{100 * value:.1f}"


def with_spread(mean: float, deviation: float | None) -> str:
    """Write a mean and, where there is one, its standard deviation over seeds."""
    return percent(mean) if deviation is None else f"{percent(mean)} ± {percent(deviation)}"


def between(interval: Interval) -> str:
    """Write an interval."""
    return f"{percent(interval.low)}–{percent(interval.high)}"


def signed(interval: Interval) -> str:
    """Write a difference with its interval, in points."""
    return f"{100 * interval.mean:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def capitalised(text: str) -> str:
    """Write a text with a capital letter in front, the others as they are."""
    return text[:1].upper() + text[1:]


def language_table(summary: Summary) -> Table:
    """Tabulate every language, best first."""
    titles = _baseline_titles(summary)
    rows = sorted(summary.languages, key=lambda row: -row.accuracy.mean)
    return Table(
        f"{capitalised(title_of(summary.metric))} per language (%)",
        ("language", "code", "prompt", "95 % interval", "n", *titles.values()),
        tuple(_language_cells(row, list(titles)) for row in rows),
        "ll" + "r" * (3 + len(titles)),
    )


def script_table(summary: Summary) -> Table:
    """Tabulate the means over the languages of each script, and over all."""
    titles = _baseline_titles(summary)
    rows = [*summary.scripts, summary.overall]
    return Table(
        "Mean over languages, by script (%)",
        ("script", "languages", "prompt", "95 % interval", *titles.values()),
        tuple(_group_cells(row, list(titles)) for row in rows),
        "l" + "r" * (3 + len(titles)),
        totals=1,
    )


def difference_table(summary: Summary) -> Table:
    """Tabulate the paired differences to every baseline."""
    rows = sorted(summary.differences.items(), key=lambda item: item[1].mean)
    cells = tuple(
        (
            BASELINE_TITLES.get(name, name),
            percent(summary.overall.baselines[name]),
            signed(difference),
            BASELINE_NOTES.get(name, ""),
        )
        for name, difference in rows
    )
    return Table(
        "Prompt minus baseline, mean over languages, paired (points)",
        ("baseline", f"its {title_of(summary.metric)}", "difference [95 % interval]", "what it is"),
        cells,
        "lrrp",
    )


def headline(summary: Summary) -> str:
    """Say the result in words, the best baseline included."""
    overall = summary.overall
    text = (
        f"Mean {title_of(summary.metric)} over {overall.languages} "
        f"{'language' if overall.languages == 1 else 'languages'}: "
        f"{percent(overall.accuracy.mean)} % (95 % interval {between(overall.accuracy)}, "
        f"{summary.seeds} {'seed' if summary.seeds == 1 else 'seeds'})."
    )
    best = summary.best_baseline()
    if best is None:
        return text
    difference = summary.differences[best]
    title = BASELINE_TITLES.get(best, best)
    if not difference.excludes_zero():
        verdict = "the two cannot be told apart"
    elif difference.mean > 0:
        verdict = "the prompt is better"
    else:
        verdict = "THE BASELINE IS BETTER"
    return (
        f"{text} Best baseline: {title}, {percent(overall.baselines[best])} %; {verdict}, "
        f"difference {signed(difference)} points."
    )


def footnotes(summary: Summary, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what the numbers are and what must be known to read them."""
    first = records[0]
    method = "bootstrap over seeds and items"
    if summary.shared_items:
        method += "; a mean over languages resamples each sentence in all languages together"
    several = summary.seeds > 1
    spread = f"± is the standard deviation over {summary.seeds} seeds. " if several else ""
    draws = sorted({(r["draw_seed"], r["train_seed"]) for r in records})
    listed = ", ".join(str(d) if d == t else f"{d}/{t}" for d, t in draws)
    notes = [
        f"{spread}Intervals: {method}.",
        f"Trained on {first['train_examples']} examples: {first['draw']}. Seeds (draw/training "
        f"where they differ): {listed}.",
        _selection(first),
    ]
    notes += [*_above_majority(summary), *_of_decoder(records), *_of_sourced(first)]
    if first["caution"]:
        notes.append(str(first["caution"]))
    if first["licence"]:
        notes.append(f"Data licence: {first['licence']}.")
    return [*notes, *_of_backbone(first)]


def _of_sourced(record: Mapping[str, Any]) -> list[str]:
    """Say which frozen parts texts are read with, and which languages go without."""
    notes = []
    for name, files in record.get("sourced_parts", {}).items():
        paths = {one["path"] for one in files.values()}
        each = ", one per language" if len(paths) > 1 else ", one for all languages"
        each = each if len(files) > 1 else ""
        notes.append(f"Texts are read with the frozen part '{name}' of earlier runs{each}.")
        without = record.get("without_part", {}).get(name, [])
        if without:
            named = ", ".join(map(language_name, without))
            notes.append(f"Answered without the part '{name}', because there is none: {named}.")
    return notes


def _of_backbone(record: Mapping[str, Any]) -> list[str]:
    """Name the backbone, its origin and its terms; contamination is among the warnings."""
    commit = f", commit {record['backbone_commit']}" if record.get("backbone_commit") else ""
    known = list(map(str, record["backbone_notes"]))
    others = [note for note in known if note not in contamination_notes(known)]
    name = str(record["backbone"]) + (f" {MARK}" if len(others) < len(known) else "")
    return [f"Backbone: {name}{commit}.", *others]


def _above_majority(summary: Summary) -> list[str]:
    """Say in which languages the prompt does better than always giving one class."""
    known = ("majority", "positive")
    always = next((name for name in known if name in summary.overall.baselines), None)
    if always is None:
        return []
    rows = [row for row in summary.languages if always in row.baselines]
    below = [row for row in rows if row.accuracy.low <= row.baselines[always]]
    names = ", ".join(row.name for row in below) or "none"
    what = "the majority class" if always == "majority" else "always giving the measured label"
    return [
        f"Above {what}, by the lower end of the interval: {len(rows) - len(below)} of "
        f"{len(rows)} languages. Not above it: {names}."
    ]


def _of_decoder(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say which words a decoder answered with, and what its in-context baseline saw."""
    words = records[0].get("label_words") or {}
    shown = ", ".join(f"{label}: {' + '.join(pieces)}" for label, pieces in words.items())
    seen = list(dict.fromkeys(str(r["baselines_note"]) for r in records if r.get("baselines_note")))
    notes = [f"Label words (pieces): {shown}."] if words else []
    return notes + [f"{note[0].upper()}{note[1:]}." for note in seen]


def _selection(record: Mapping[str, Any]) -> str:
    """Say how the checkpoint was chosen."""
    if record["select"] == "last" or not record["dev_examples"]:
        return "The last state of training was kept."
    return (
        f"The state with the least loss on {record['dev_examples']} dev examples of the source "
        "language was kept."
    )


def _baseline_titles(summary: Summary) -> dict[str, str]:
    """Give the baselines' column heads, in their order."""
    return {name: BASELINE_TITLES.get(name, name) for name in summary.overall.baselines}


def _language_cells(row: LanguageRow, baselines: Sequence[str]) -> tuple[str, ...]:
    """Write out a language."""
    return (
        row.name,
        row.code,
        with_spread(row.accuracy.mean, row.deviation),
        between(row.accuracy),
        str(row.n),
        *(percent(row.baselines[name]) for name in baselines),
    )


def _group_cells(row: GroupRow, baselines: Sequence[str]) -> tuple[str, ...]:
    """Write out a group of languages."""
    return (
        row.name,
        str(row.languages),
        with_spread(row.accuracy.mean, row.deviation),
        between(row.accuracy),
        *(percent(row.baselines[name]) for name in baselines),
    )


def markdown(table: Table) -> str:
    """Write a table as Markdown."""
    marks = ["--:" if letter == "r" else ":--" for letter in table.alignment]
    lines = [table.columns, marks, *table.rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )
