"""Tables of languages and items that the page shows in full."""

from collections.abc import Mapping, Sequence

from polyprompt.analysis.mistakes import Mistake
from polyprompt.analysis.summary import BASELINE_TITLES, LanguageRow, Summary
from polyprompt.languages.catalogue import language_name
from polyprompt.report.score_tables import Table, between, capitalised, percent, with_spread
from polyprompt.scoring.metrics import title_of

_LONGEST = 400
"""Characters of a text that are shown."""


def full_language_table(summary: Summary) -> Table:
    """Tabulate every language with its script and family, best first."""
    names = list(summary.overall.baselines)
    titles = [BASELINE_TITLES.get(name, name) for name in names]
    rows = sorted(summary.languages, key=lambda row: -row.accuracy.mean)
    return Table(
        f"{capitalised(title_of(summary.metric))} per language (%)",
        ("language", "prompt", "95 % interval", "n", "code", "script", "family", *titles),
        tuple(_cells(row, names) for row in rows),
        "lrrrlll" + "r" * len(titles),
    )


def _cells(row: LanguageRow, baselines: Sequence[str]) -> tuple[str, ...]:
    """Write out a language."""
    return (
        row.name,
        with_spread(row.accuracy.mean, row.deviation),
        between(row.accuracy),
        str(row.n),
        row.code,
        row.script,
        row.family or "–",
        *(percent(row.baselines[name]) for name in baselines),
    )


def mistake_table(found: Sequence[Mistake], texts: Mapping[tuple[str, str], str]) -> Table:
    """Tabulate confident mistakes.

    Args:
        found: The surest first.
        texts: By language and item; empty where a text is not known.
    """
    rows = tuple(
        (
            language_name(one.language),
            one.id,
            _short(texts.get((one.language, one.id), "")),
            one.label,
            one.prediction,
            f"{100 * one.probability:.0f} %",
            str(one.runs),
        )
        for one in found
    )
    columns = ("language", "item", "text", "label", "answer", "probability", "runs")
    title = "The most confident mistakes, at most two a language (probability: mean of these runs)"
    return Table(title, columns, rows, "llpllrr")


def _short(text: str) -> str:
    """Cut a text that is too long to show."""
    return text if len(text) <= _LONGEST else text[:_LONGEST].rstrip() + " …"
