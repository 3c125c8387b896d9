"""Accuracy against what is known of languages: one panel per distance, with line, slope and r."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from polyprompt.analysis.correlation import Correlation, correlate
from polyprompt.analysis.facts import TITLES, Facts
from polyprompt.analysis.summary import Summary
from polyprompt.analysis.transfer import Regression, regress
from polyprompt.report.figure import Figure, drawn
from polyprompt.report.palette import INK, MUTED, SERIES
from polyprompt.report.score_tables import Table, capitalised
from polyprompt.scoring.metrics import title_of

if TYPE_CHECKING:
    import altair as alt

_PANEL, _COLUMNS = 270, 3
_SOURCE, _TARGET = "source", "target"


@dataclass(frozen=True)
class Against:
    """A setting's results against one fact of languages.

    Attributes:
        fact: As ``TITLES`` names it.
        x: The fact, of each language.
        correlation: With the results; sources left out.
        regression: Of the results on the fact; None where it cannot be computed.
    """

    fact: str
    x: Float[np.ndarray, " L"]
    correlation: Correlation
    regression: Regression | None


def against_facts(
    summary: Summary, facts: Facts, sources: Sequence[str], names: Sequence[str]
) -> list[Against]:
    """Relate a setting's results to facts of its languages, source languages left out.

    Args:
        summary: The setting's results.
        facts: Of the same languages, in any order.
        sources: Languages left out.
        names: Of the facts; those that no language has are passed over.
    """
    means = {row.code: row.accuracy.mean for row in summary.languages}
    target = [code not in sources for code in facts.languages]
    y = np.where(target, [means[code] for code in facts.languages], np.nan)
    found = []
    for name in names:
        x = facts.values.get(name)
        if x is None or not np.isfinite(x).any():
            continue
        line = regress(y, {name: x}, facts.families)
        found.append(Against(name, x, correlate(x, y, facts.families), line))
    return found


def distance_figure(
    name: str, summary: Summary, facts: Facts, sources: Sequence[str], found: Sequence[Against]
) -> Figure | None:
    """Draw results against facts of languages.

    Args:
        name: Of the figure's files.
        summary: The setting's results.
        facts: Of its languages.
        sources: Drawn as crosses, not counted.
        found: As ``against_facts`` gives it.

    Returns:
        None where there is nothing to draw.
    """
    import altair as alt

    if not found:
        return None
    panels = [_panel(one, summary, facts, sources) for one in found]
    chart = alt.concat(*panels, columns=_COLUMNS, spacing=18)
    caption = (
        "A dot is a language; the crosses are the sources, which are not counted. Lines by least "
        "squares. r and slope (points a unit) with 95 % intervals that resample language families, "
        "where there are enough of them; n languages have the fact."
    )
    return Figure(name, "Against distance and other facts", caption, drawn(chart))


def against_table(found: Sequence[Against]) -> Table:
    """Tabulate the same numbers."""
    rows = tuple(
        (TITLES[one.fact], _r(one.correlation), _slope(one), *_counts(one.correlation))
        for one in found
    )
    columns = ("fact", "r [95 %]", "slope, points a unit [95 %]", "n", "families")
    return Table("Against distance and other facts of languages", columns, rows, "lrrrr")


def _panel(
    one: Against, summary: Summary, facts: Facts, sources: Sequence[str]
) -> "alt.Chart | alt.LayerChart | alt.FacetChart":
    """Draw one fact."""
    import altair as alt

    rows = {row.code: row for row in summary.languages}
    dots = []
    for code, x in zip(facts.languages, one.x, strict=True):
        if not np.isfinite(x):
            continue
        value = 100 * rows[code].accuracy.mean
        text = f"{rows[code].name}, {code}: {value:.1f} %, {TITLES[one.fact]} {x:.2f}"
        kind = _SOURCE if code in sources else _TARGET
        dots.append({"x": float(x), "y": value, "kind": kind, "text": text})
    metric = capitalised(title_of(summary.metric))
    shapes = alt.Scale(domain=[_TARGET, _SOURCE], range=["circle", "cross"])
    colours = alt.Scale(domain=[_TARGET, _SOURCE], range=[SERIES[0], INK])
    chart = (
        alt.Chart(alt.Data(values=dots))
        .mark_point(size=40, strokeWidth=1.5)
        .encode(
            x=alt.X("x:Q", title=capitalised(TITLES[one.fact]), scale=alt.Scale(zero=False)),
            y=alt.Y("y:Q", title=f"{metric} (%)", scale=_range([dot["y"] for dot in dots])),
            shape=alt.Shape("kind:N", scale=shapes, legend=None),
            color=alt.Color("kind:N", scale=colours, legend=None),
            description="text:N",
        )
    )
    line = _line(one)
    if line:
        ends = alt.Chart(alt.Data(values=line))
        chart += ends.mark_line(color=INK, strokeWidth=1.5, clip=True).encode(x="x:Q", y="y:Q")
    title = alt.TitleParams(
        [f"r {_r(one.correlation)}, n {one.correlation.n}", f"slope {_slope(one)}"],
        fontSize=11,
        fontWeight="normal",
        color=MUTED,
        anchor="start",
    )
    return chart.properties(width=_PANEL, height=_PANEL * 0.75, title=title)


def _range(values: Sequence[float]) -> "alt.Scale":
    """Give the axis of results: those there are, and a little room, never beyond 0 and 100."""
    import altair as alt

    room = 0.06 * max(max(values) - min(values), 5.0)
    domain = [max(min(values) - room, 0.0), min(max(values) + room, 100.0)]
    return alt.Scale(domain=domain, nice=False)


def _line(one: Against) -> list[dict[str, float]]:
    """Give the ends of the line of least squares, in percent."""
    if one.regression is None or one.correlation.r is None:
        return []
    x = one.x[np.isfinite(one.x)]
    ends = np.array([x.min(), x.max()])
    y = one.regression.intercept + one.regression.effects[one.fact].value * ends
    return [{"x": float(a), "y": 100 * float(b)} for a, b in zip(ends, y, strict=True)]


def _r(found: Correlation) -> str:
    """Write a correlation with its interval."""
    if found.r is None:
        return "–"
    known = found.low is not None and found.high is not None
    return f"{found.r:+.2f}" + (f" [{found.low:+.2f}, {found.high:+.2f}]" if known else "")


def _slope(one: Against) -> str:
    """Write a slope in points a unit, with its interval."""
    if one.regression is None:
        return "–"
    effect = one.regression.effects[one.fact]
    text = f"{100 * effect.value:+.1f}"
    if not np.isfinite([effect.low, effect.high]).all():
        return text
    return f"{text} [{100 * effect.low:+.1f}, {100 * effect.high:+.1f}]"


def _counts(found: Correlation) -> tuple[str, str]:
    """Write how many languages and families a correlation rests on."""
    return str(found.n), str(found.families)
