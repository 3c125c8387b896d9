"""One self-contained HTML page of a study's tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from polyprompt.report.score_tables import Table

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem; padding: 0 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0 2rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .5rem; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #8886; text-align: right; }
th, td { white-space: nowrap; }
th.words, td.words { text-align: left; }
th.sentence, td.sentence { text-align: left; white-space: normal; min-width: 16rem; }
thead th { position: sticky; top: 0; background: Canvas; }
.warning { border-left: .3rem solid #b45309; padding-left: .8rem; }
"""


@dataclass(frozen=True)
class Section:
    """One setting of a study.

    Attributes:
        title: Its name.
        headline: The result in words.
        warnings: What looks wrong.
        tables: In order.
        notes: What the numbers are.
    """

    title: str
    headline: str
    warnings: Sequence[str]
    tables: Sequence[Table]
    notes: Sequence[str]


def page(title: str, sections: Sequence[Section]) -> str:
    """Write the page; every text is escaped, nothing is fetched."""
    body = "".join(_section(section) for section in sections)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{body}</main>\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    """Write one setting."""
    warnings = "".join(f'<p class="warning">{escape(text)}</p>\n' for text in section.warnings)
    tables = "".join(_table(table) for table in section.tables)
    notes = "".join(f"<li>{escape(note)}</li>\n" for note in section.notes)
    return (
        f"<section>\n<h2>{escape(section.title)}</h2>\n<p><strong>{escape(section.headline)}"
        f"</strong></p>\n{warnings}{tables}<h3>Notes</h3>\n<ul>\n{notes}</ul>\n</section>\n"
    )


def _table(table: Table) -> str:
    """Write one table."""
    head = "".join(
        f'<th scope="col"{_class(i, table)}>{escape(name)}</th>'
        for i, name in enumerate(table.columns)
    )
    rows = "".join(
        "<tr>"
        + "".join(f"<td{_class(i, table)}>{escape(cell)}</td>" for i, cell in enumerate(row))
        + "</tr>\n"
        for row in table.rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}">\n'
        f"<table>\n<caption>{escape(table.title)}</caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n"
    )


def _class(column: int, table: Table) -> str:
    """Mark a column of words or sentences."""
    names = {"l": ' class="words"', "p": ' class="sentence"'}
    return names.get(table.alignment[column], "")
