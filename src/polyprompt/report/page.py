"""One self-contained HTML page: chapters of words, tables and figures; it asks no server."""

import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from html import escape
from importlib import resources

from polyprompt.report.chapters import Block, Chapter, Confusion, Listing, Notes, Words
from polyprompt.report.figure import Figure
from polyprompt.report.palette import themed, variables
from polyprompt.report.score_tables import Table

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
_FILTERED = 8
"""Rows from which on a table can be filtered."""
_TALL = 20
"""Rows from which on a table scrolls beneath its head."""


def page(title: str, chapters: Sequence[Chapter]) -> str:
    """Write the page; texts are escaped, and its policy forbids that anything is fetched."""
    body = "".join(_chapter(one, 2, f"part-{i}") for i, one in enumerate(chapters, start=1))
    contents = "".join(
        f'<li><a href="#part-{i}">{escape(one.title)}</a></li>'
        for i, one in enumerate(chapters, start=1)
    )
    light, dark = variables(dark=False), variables(dark=True)
    theme = (
        f":root, .light {{ {light} }} @media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"
    )
    links = f'<nav aria-label="Contents"><ul>{contents}</ul></nav>' if len(chapters) > 1 else ""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{escape(title)}</title>\n<style>{theme}\n{_asset('page.css')}</style>\n</head>\n"
        f"<body>\n<header><h1>{escape(title)}</h1>{links}</header>\n<main>\n{_coast_once(body)}"
        f'</main>\n<div id="tip" role="status" hidden></div>\n<div id="light" class="light" '
        f"hidden></div>\n<script>{_asset('page.js')}"
        "</script>\n</body>\n</html>\n"
    )


def _chapter(chapter: Chapter, level: int, name: str) -> str:
    """Write a part and those below it."""
    inside = "".join(_block(block, f"{name}-{i}") for i, block in enumerate(chapter.blocks))
    inside += "".join(
        _chapter(one, min(level + 1, 6), f"{name}-part-{i}")
        for i, one in enumerate(chapter.chapters, start=1)
    )
    heading = f"<h{level}>{escape(chapter.title)}</h{level}>"
    if chapter.folded:
        return f'<details id="{name}"><summary>{heading}</summary>\n{inside}</details>\n'
    return f'<section id="{name}">\n{heading}\n{inside}</section>\n'


def _block(block: Block, name: str) -> str:
    """Write one block."""
    return _WRITERS[type(block)](block, name)


def _words(block: Words, _: str) -> str:
    """Write a paragraph."""
    return f'<p class="{escape(block.kind)}">{escape(block.text)}</p>\n'


def _notes(block: Notes, _: str) -> str:
    """Write a list."""
    return "<ul>\n" + "".join(f"<li>{escape(item)}</li>\n" for item in block.items) + "</ul>\n"


def _listing(block: Listing, name: str) -> str:
    """Write text as it is."""
    inside = (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(block.title)}">'
        f"<pre>{escape(block.text)}</pre></div>\n"
    )
    title = f'<span class="caption">{escape(block.title)}</span>'
    opened = " open" if block.opened else ""
    return f'<details id="{name}"{opened}><summary>{title}</summary>\n{inside}</details>\n'


def _figure(block: Figure, name: str) -> str:
    """Write a figure, its colours by the reader's theme, its names its own."""
    svg = re.sub(r'(\bid="|url\(#|href="#)(?!land)', rf"\g<1>{name}-", themed(block.svg))
    svg = re.sub(r' xmlns(?::xlink)?="[^"]*"', "", svg)
    return (
        f'<figure id="{name}">\n<figcaption><strong>{escape(block.title)}.</strong> '
        f'{escape(block.caption)}</figcaption>\n<div class="scroll drawing" tabindex="0" '
        f'role="group" aria-label="{escape(block.title)}" data-name="{escape(block.name)}">{svg}'
        "</div>\n</figure>\n"
    )


def _table(block: Table, name: str) -> str:
    """Write a table that the page's script lets a reader sort and filter."""
    head = "".join(
        f'<th scope="col"{_aligned(i, block)}>{escape(column)}</th>'
        for i, column in enumerate(block.columns)
    )
    body = len(block.rows) - block.totals
    rows = [f"<tr>{_cells(row, block)}</tr>\n" for row in block.rows]
    foot = f"<tfoot>\n{''.join(rows[body:])}</tfoot>\n" if block.totals else ""
    tall = " tall" if len(rows) >= _TALL else ""
    filtered = " data-filter" if len(block.rows) >= _FILTERED else ""
    return (
        f'<div class="scroll{tall}" tabindex="0" role="group" aria-labelledby="{name}-title">\n'
        f'<table id="{name}"{filtered}>\n<caption id="{name}-title">{escape(block.title)}</caption>'
        f"\n<thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(rows[:body])}</tbody>\n{foot}"
        "</table>\n</div>\n"
    )


def _cells(row: Sequence[str], table: Table) -> str:
    """Write a row; texts of data sets may run from right to left."""
    written = []
    for i, cell in enumerate(row):
        direction = ' dir="auto"' if table.alignment[i] == "p" else ""
        tag = "th" if i == 0 and table.alignment[0] == "l" else "td"
        scope = ' scope="row"' if tag == "th" else ""
        written.append(f"<{tag}{scope}{_aligned(i, table)}{direction}>{escape(cell)}</{tag}>")
    return "".join(written)


def _aligned(column: int, table: Table) -> str:
    """Mark a column of words or sentences."""
    names = {"l": ' class="words"', "p": ' class="sentence"'}
    return names.get(table.alignment[column], "")


def _confusion(block: Confusion, name: str) -> str:
    """Write the counts of the first group as a table, and all of them for the script."""
    first = next(iter(block.counts))
    others = any(table[:, -1].any() for table in block.counts.values())
    columns = [*block.labels, *(["none of them"] if others else [])]
    counts = {key: table[:, : len(columns)].tolist() for key, table in block.counts.items()}
    data = json.dumps(counts, ensure_ascii=False).replace("<", "\\u003c")
    options = "".join(f"<option>{escape(key)}</option>" for key in block.counts)
    rows = tuple(
        (label, *map(str, own), f"{100 * own[i] / sum(own):.0f} %" if sum(own) else "–")
        for i, (label, own) in enumerate(zip(block.labels, counts[first], strict=True))
    )
    title = f"{block.title}: rows are labels, columns answers"
    heads = ("label", *columns, "recall")
    table = _table(Table(title, heads, rows, "l" + "r" * (len(columns) + 1)), f"{name}-table")
    return (
        f'<div class="confusion" id="{name}"><label>Languages <select>{options}</select></label>\n'
        f'{table}<script type="application/json">{data}</script></div>\n'
    )


_WRITERS: dict[type, Callable[..., str]] = {
    Words: _words,
    Notes: _notes,
    Listing: _listing,
    Confusion: _confusion,
    Table: _table,
    Figure: _figure,
}


def _coast_once(body: str) -> str:
    """Write the coastlines once; every other map uses those of the first."""
    land = re.compile(r'<path class="land" (d="[^"]*" )([^>]*)/>')
    first = land.search(body)
    if first is None:
        return body
    end = first.end()
    used = land.sub(r'<use href="#land" \2/>', body[end:])
    return body[: first.start()] + first[0].replace("<path", '<path id="land"', 1) + used


@cache
def _asset(name: str) -> str:
    """Read a file that the page holds."""
    return (resources.files("polyprompt.report") / "assets" / name).read_text(encoding="utf-8")
