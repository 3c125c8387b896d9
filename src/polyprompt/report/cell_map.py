"""A map of cells: rows × columns, each cell with its colour and its number."""

from collections.abc import Mapping, Sequence

from polyprompt.report.figure import drawn
from polyprompt.report.palette import SEQUENCE

_LIGHT, _DARK = "#fffffe", "#000001"
"""Of numbers on cells; no colours of the theme, as the cells are the same in every theme."""
_HALF = 45


def cell_map(
    values: Mapping[tuple[str, str], float],
    rows: Sequence[str],
    columns: Sequence[str],
    cell_width: int,
) -> str:
    """Draw percentages as cells.

    Args:
        values: By row and column, 0–100; cells without one stay empty.
        rows: From the top.
        columns: From the left.
        cell_width: In pixels.

    Returns:
        An SVG.
    """
    import altair as alt

    cells = [
        {"row": row, "column": column, "value": value, "text": f"{row}, {column}: {value:.1f} %"}
        for (row, column), value in values.items()
    ]
    top = alt.Axis(orient="top", labelAngle=-35, labelLimit=220)
    base = alt.Chart(alt.Data(values=cells)).encode(
        x=alt.X("column:N", sort=list(columns), title=None, axis=top),
        y=alt.Y("row:N", sort=list(rows), title=None),
    )
    scale = alt.Scale(domain=[0, 100], range=list(SEQUENCE))
    coloured = base.mark_rect().encode(
        color=alt.Color("value:Q", scale=scale, title="%"), description="text:N"
    )
    numbers = base.mark_text(fontSize=10, aria=False).encode(
        text=alt.Text("value:Q", format=".0f"),
        color=alt.condition(f"datum.value > {_HALF}", alt.value(_LIGHT), alt.value(_DARK)),
    )
    width = max(cell_width * len(columns), 120)
    return drawn((coloured + numbers).properties(width=width, height=17 * len(rows)))
