"""Tables of results beside printed ones."""

from collections.abc import Sequence

from polyprompt.analysis.reference import Column, Comparison
from polyprompt.languages.catalogue import language_name
from polyprompt.report.account_tables import coefficient
from polyprompt.report.score_tables import Table, percent


def comparison_table(found: Sequence[Comparison]) -> Table:
    """Tabulate every setting beside every printed column."""
    rows = tuple(
        (
            one.setting,
            one.column,
            str(one.languages),
            percent(one.ours),
            percent(one.theirs),
            f"{100 * (one.ours - one.theirs):+.1f}",
            coefficient(one.pearson),
            coefficient(one.spearman),
        )
        for one in found
    )
    columns = (
        "ours", "theirs", "languages", "our mean", "their mean", "difference",
        "r over languages [95 %]", "Spearman [95 %]",
    )  # fmt: skip
    return Table("Beside the printed table (%)", columns, rows, "llrrrrrr")


def side_by_side(one: Comparison, theirs: Column) -> Table:
    """Tabulate every language of a setting and a printed column, largest difference first."""
    order = sorted(one.differences, key=lambda code: -abs(one.differences[code]))
    rows = tuple(
        (
            language_name(code),
            code,
            percent(theirs[code][0] + one.differences[code]),
            f"{percent(theirs[code][0])} ± {percent(theirs[code][1])}",
            f"{100 * one.differences[code]:+.1f}",
        )
        for code in order
    )
    columns = ("language", "code", "ours", "theirs", "difference")
    return Table(f"{one.setting} beside {one.column} (%)", columns, rows, "llrrr")
