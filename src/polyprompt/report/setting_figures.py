"""Figures that set a study's settings beside one another: means, trends, languages, changes."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from polyprompt.analysis.change import Change
from polyprompt.analysis.series import Trend
from polyprompt.analysis.summary import BASELINE_TITLES, LanguageRow, Summary
from polyprompt.languages.catalogue import catalogue
from polyprompt.report.cell_map import cell_map
from polyprompt.report.figure import Figure, drawn
from polyprompt.report.palette import DIVERGING, INK, MUTED, SERIES, SHAPES
from polyprompt.report.score_tables import between, capitalised, percent
from polyprompt.scoring.intervals import Interval
from polyprompt.scoring.metrics import title_of

_ROW, _WIDTH = 22, 640
_BESIDE = 0.008
"""Of the axis, between the intervals of one value."""
MOST_SERIES = len(SERIES)
"""Settings that one figure tells apart by shape and colour."""


def overview(summaries: Mapping[str, Summary]) -> Figure:
    """Draw every setting's mean with its interval, and its best baseline.

    Args:
        summaries: By the setting's title, in the order wanted.
    """
    import altair as alt

    rows, marks = [], []
    for title, own in summaries.items():
        rows.append({"setting": title, **_interval(own.overall.accuracy)})
        best = own.best_baseline()
        if best is not None:
            value = 100 * own.overall.baselines[best]
            named = f"{title}: best baseline, {BASELINE_TITLES.get(best, best)}, {value:.1f} %"
            marks.append({"setting": title, "baseline": value, "text": named})
    metric = _metric(summaries)
    y = alt.Y("setting:N", sort=list(summaries), title=None, axis=alt.Axis(labelLimit=340))
    x = alt.X("value:Q", title=f"{metric}, mean over languages (%)", scale=alt.Scale(zero=False))
    base = alt.Chart(alt.Data(values=rows)).encode(y=y)
    chart = base.mark_rule(color=SERIES[0], strokeWidth=2).encode(
        x=alt.X("low:Q"), x2="high:Q"
    ) + base.mark_point(color=SERIES[0], filled=True, opacity=1, size=70).encode(
        x=x, description="text:N"
    )
    if marks:
        chart += (
            alt.Chart(alt.Data(values=marks))
            .mark_tick(color=INK, thickness=2, size=14)
            .encode(y=y, x="baseline:Q", description="text:N")
        )
    size = {"width": _WIDTH, "height": max(_ROW * len(rows), 44)}
    baseline = " A tick: the best baseline on the same examples." if marks else ""
    caption = (
        f"Means over languages with 95 % intervals over seeds and items, as the tables have "
        f"them.{baseline}"
    )
    return Figure("settings", "Settings", caption, drawn(chart.properties(**size)))


def trend(name: str, trends: Sequence[Trend], metric: str) -> Figure:
    """Draw means against a number that sets settings apart, such as shots or a prompt's length.

    Args:
        name: Of the figure's files.
        trends: Lines with the same number.
        metric: As ``Summary.metric`` has it.
    """
    import altair as alt

    values = sorted({value for line in trends for value in line.means})
    far = values[0] > 0 and values[-1] / values[0] >= 4
    rows = [
        {"x": _beside(value, place, values, log=far), "line": line.rest or "all"} | _interval(found)
        for place, line in enumerate(trends)
        for value, found in line.means.items()
    ]
    number = trends[0].name
    lines = [line.rest or "all" for line in trends]
    told: dict[str, Any] = {}
    if len(lines) > 1:
        told = {
            "color": _coloured("line", lines),
            "shape": alt.Shape(
                "line:N", scale=alt.Scale(domain=lines, range=_cycled(SHAPES, lines))
            ),
        }
    base = alt.Chart(alt.Data(values=rows)).encode(x=_along(number, values, log=far))
    title = f"{capitalised(title_of(metric))}, mean over languages (%)"
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    colour = {"color": told["color"]} if told else {}
    chart = (
        base.mark_rule(strokeWidth=1.5).encode(y="low:Q", y2="high:Q", **colour)
        + base.mark_line().encode(y=y, **colour)
        + base.mark_point(filled=True, opacity=1).encode(y=y, description="text:N", **told)
    )
    caption = (
        "Means over languages; 95 % intervals resample seeds and items"
        f" ({min(line.seeds for line in trends)} seeds at each value at least)."
    )
    svg = drawn(chart.properties(width=_WIDTH, height=280))
    return Figure(name, f"Average against {number}", caption, svg)


def _along(number: str, values: Sequence[float], *, log: bool) -> Any:
    """Give the axis of a number, marked where it was tried."""
    import altair as alt

    scale = alt.Scale(type="log", base=2, nice=False) if log else alt.Scale(zero=False)
    axis = alt.Axis(values=list(values), format="~g" if values[-1] < 10_000 else ".3~s")
    return alt.X("x:Q", title=number, scale=scale, axis=axis)


def _beside(value: float, place: int, values: Sequence[float], *, log: bool) -> float:
    """Move a line's places a little, so that no line hides another's intervals."""
    if log:
        return value * (values[-1] / values[0]) ** (_BESIDE * place)
    return value + _BESIDE * place * (values[-1] - values[0])


def paired_dots(summaries: Mapping[str, Summary]) -> Figure | None:
    """Draw every language's results in each setting on one line.

    Args:
        summaries: By title; the first orders the languages. Beyond ``MOST_SERIES`` none is drawn.

    Returns:
        None where there is one setting, or none have languages in common.
    """
    import altair as alt

    shown = dict(list(summaries.items())[:MOST_SERIES])
    order = _common(shown)
    if len(shown) < 2 or not order:
        return None
    rows = [
        {"language": row.name, "setting": title, **_interval(row.accuracy, row)}
        for title, own in shown.items()
        for row in own.languages
        if row.code in {one.code for one in order}
    ]
    titles = list(shown)
    y = alt.Y("language:N", sort=[row.name for row in order], title=None)
    base = alt.Chart(alt.Data(values=rows)).encode(y=y)
    x = alt.X("value:Q", title=f"{_metric(summaries)} (%)", scale=alt.Scale(zero=False))
    shape = alt.Shape(
        "setting:N", scale=alt.Scale(domain=titles, range=_cycled(SHAPES, titles)), legend=_legend()
    )
    chart = base.mark_rule(color=MUTED, strokeWidth=1).encode(
        x=alt.X("min(value):Q"), x2="max(value):Q"
    ) + base.mark_point(filled=True, opacity=0.9, size=50).encode(
        x=x, color=_coloured("setting", titles), shape=shape, description="text:N"
    )
    left = len(summaries) - len(shown)
    caption = "Languages sorted by the first setting; intervals stand in the tables."
    caption += f" {left} more settings are not drawn." if left else ""
    svg = drawn(chart.properties(width=_WIDTH, height=18 * len(order)))
    return Figure("paired", "Settings language by language", caption, svg)


def change_figure(name: str, change: Change) -> Figure:
    """Draw what a setting changes in every language, sorted by family and branch.

    Source: the form of Philippy et al. (2024), Figure 5.

    Args:
        name: Of the figure's files.
        change: Of one setting against another.
    """
    import altair as alt

    rows = _change_rows(change)
    order = [str(row["language"]) for row in rows]
    signs = alt.Scale(domain=["gain", "loss"], range=[DIVERGING[-2], DIVERGING[1]])
    y = alt.Y("language:N", sort=order, title=None)
    base = alt.Chart(alt.Data(values=rows)).encode(y=y)
    bars = base.mark_bar(height=11, stroke=MUTED, strokeWidth=0.8).encode(
        x=alt.X("value:Q", title="change (points)"),
        color=alt.Color("sign:N", scale=signs, legend=None),
        fillOpacity=alt.condition("datum.clear", alt.value(1.0), alt.value(0.15)),
        description="text:N",
    )
    rules = base.mark_rule(color=INK, strokeWidth=1).encode(x="low:Q", x2="high:Q")
    branches = base.mark_text(align="left", dx=6, color=MUTED, fontSize=10).encode(
        x=alt.value(_WIDTH), text="branch:N"
    )
    zero = alt.Chart(alt.Data(values=[{"x": 0}])).mark_rule(color=INK).encode(x="x:Q")
    chart = (bars + rules + branches + zero).properties(width=_WIDTH, height=17 * len(order))
    title = f"{change.second} – {change.first}, by branch"
    caption = (
        "Languages sorted by family and branch (at the right). Lines: 95 % intervals over seeds "
        "and items. A full bar: told from none (5 % after Benjamini and Hochberg; McNemar's exact "
        "test of one seed, items permuted with several); a pale bar: not. Left of 0 a loss."
    )
    return Figure(name, title, caption, drawn(chart))


def _change_rows(change: Change) -> list[dict[str, Any]]:
    """List what changes in every language, by family and branch."""
    rows = []
    for code, found in sorted(change.languages.items(), key=lambda item: _place(item[0])):
        language = catalogue().get(code)
        named = language.name if language else code
        branch = (language.branch or language.family if language else "") or "unknown"
        clear = code in change.clear
        shown = f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
        rows.append(
            {
                "language": named,
                "branch": branch,
                "text": f"{named}, {branch}: {shown} points{', clear' if clear else ''}",
                "clear": clear,
                "sign": "gain" if found.mean >= 0 else "loss",
                "value": 100 * found.mean,
                "low": 100 * found.low,
                "high": 100 * found.high,
            }
        )
    return rows


def heat_map(summaries: Mapping[str, Summary]) -> Figure | None:
    """Draw languages × settings, each cell with its number.

    Args:
        summaries: By title.

    Returns:
        None for one setting.
    """
    if len(summaries) < 2:
        return None
    values: dict[tuple[str, str], float] = {}
    of_language: dict[str, list[float]] = {}
    for title, own in summaries.items():
        for row in own.languages:
            values[row.name, title] = 100 * row.accuracy.mean
            of_language.setdefault(row.name, []).append(row.accuracy.mean)
    order = sorted(of_language, key=lambda name: -mean(of_language[name]))
    caption = "Whole percent, mean over seeds; languages sorted by their mean over settings."
    svg = cell_map(values, order, list(summaries), 46)
    return Figure("heat_map", "Languages and settings", caption, svg)


def _interval(found: Interval, row: LanguageRow | None = None) -> dict[str, Any]:
    """Give a mean and its interval as percent, with the words that a reader hears."""
    told = f"{percent(found.mean)} %, interval {between(found)}"
    if row is not None:
        told = f"{row.name}, {row.code}: {told}, n {row.n}"
    return {
        "value": 100 * found.mean,
        "low": 100 * found.low,
        "high": 100 * found.high,
        "text": told,
    }


def _metric(summaries: Mapping[str, Summary]) -> str:
    """Name what the first setting measures."""
    return capitalised(title_of(next(iter(summaries.values())).metric))


def _common(summaries: Mapping[str, Summary]) -> list[LanguageRow]:
    """Give the languages that all settings have, best of the first setting on top."""
    first, *others = summaries.values()
    codes = [{row.code for row in own.languages} for own in others]
    rows = [row for row in first.languages if all(row.code in own for own in codes)]
    return sorted(rows, key=lambda row: -row.accuracy.mean)


def _place(code: str) -> tuple[str, str, str]:
    """Sort languages by family, branch and name; those without a family last."""
    language = catalogue().get(code)
    if language is None:
        return "~", "~", code
    return language.family or "~", language.branch or "~", language.name


def _coloured(field: str, titles: Sequence[str]) -> Any:
    """Tell settings apart by colour, beside another sign."""
    import altair as alt

    scale = alt.Scale(domain=list(titles), range=_cycled(SERIES, titles))
    return alt.Color(f"{field}:N", scale=scale, legend=_legend())


def _legend() -> Any:
    """Put the legend above a figure, where a phone shows it first."""
    import altair as alt

    return alt.Legend(title=None, orient="top", direction="vertical")


def _cycled(values: Sequence[Any], titles: Sequence[str]) -> list[Any]:
    """Give as many values as there are titles."""
    return [values[index % len(values)] for index in range(len(titles))]
