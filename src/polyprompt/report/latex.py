"""Data frames as text for papers and pages: LaTeX (booktabs) and Markdown."""

from collections.abc import Sequence

import polars as pl

from polyprompt.report.score_tables import Table, markdown

_SIGNS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", "–": "--", "−": "$-$",
    "×": r"$\times$",
}  # fmt: skip


def latex_table(frame: pl.DataFrame) -> str:
    """Write a data frame as a LaTeX tabular; needs the package booktabs."""
    letters = "".join("r" if kind.is_numeric() else "l" for kind in frame.dtypes)
    return latex_rows(frame.columns, list(frame.iter_rows()), letters)


def latex_rows(columns: Sequence[str], rows: Sequence[Sequence[object]], alignment: str) -> str:
    """Write rows as a LaTeX tabular; needs the package booktabs.

    Args:
        columns: Heads.
        rows: Cells.
        alignment: A letter per column, as ``Table`` has them.
    """
    letters = "".join("p{6cm}" if letter == "p" else letter for letter in alignment)
    lines = [
        rf"\begin{{tabular}}{{{letters}}}",
        r"\toprule",
        _latex_row(columns),
        r"\midrule",
        *map(_latex_row, rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(cells: Sequence[object]) -> str:
    """Write a row."""
    return " & ".join("".join(_SIGNS.get(c, c) for c in _cell(cell)) for cell in cells) + r" \\"


def markdown_frame(frame: pl.DataFrame) -> str:
    """Write a data frame as a Markdown table."""
    letters = "".join("r" if kind.is_numeric() else "l" for kind in frame.dtypes)
    rows = tuple(tuple(map(_cell, row)) for row in frame.iter_rows())
    return markdown(Table("", tuple(map(_cell, frame.columns)), rows, letters)) + "\n"


def _cell(value: object) -> str:
    """Write a value; nothing for a missing one."""
    if value is None:
        return ""
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return " ".join(text.split())
