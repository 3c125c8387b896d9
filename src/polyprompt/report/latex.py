"""Data frames as text for papers and pages: LaTeX (booktabs) and Markdown."""

import polars as pl

from polyprompt.report.score_tables import Table, markdown

_SIGNS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def latex_table(frame: pl.DataFrame) -> str:
    """Write a data frame as a LaTeX tabular; needs the package booktabs."""
    letters = "".join("r" if kind.is_numeric() else "l" for kind in frame.dtypes)
    lines = [
        rf"\begin{{tabular}}{{{letters}}}",
        r"\toprule",
        _latex_row(frame.columns),
        r"\midrule",
        *(_latex_row(row) for row in frame.iter_rows()),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(cells: tuple[object, ...] | list[str]) -> str:
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
