"""Figures of one setting: languages by family and script, and how training went."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from polyprompt.analysis.summary import LanguageRow, Summary
from polyprompt.report.cell_map import cell_map
from polyprompt.report.figure import Figure, drawn
from polyprompt.report.palette import DASHES, INK, SERIES
from polyprompt.report.score_tables import between, capitalised, percent
from polyprompt.scoring.metrics import title_of

_WIDTH = 640
_MOST_POINTS = 200
"""Of one curve; of longer ones neighbours are averaged."""


@dataclass(frozen=True)
class TrainingCurve:
    """How one run was trained.

    Attributes:
        run: What sets it apart, such as its seed.
        kind: What is measured, for example the training loss.
        epochs: Places along training.
        values: Measured there.
    """

    run: str
    kind: str
    epochs: Sequence[float]
    values: Sequence[float]


def group_figure(name: str, summary: Summary, by: str) -> Figure:
    """Draw languages by their family or script, and the mean of each group.

    Args:
        name: Of the figure's files.
        summary: The setting's results.
        by: ``family`` or ``script``.
    """
    import altair as alt

    groups: dict[str, list[LanguageRow]] = {}
    for row in summary.languages:
        groups.setdefault(getattr(row, by) or "unknown", []).append(row)
    means = {group: mean(row.accuracy.mean for row in own) for group, own in groups.items()}
    order = sorted(groups, key=lambda group: -means[group])
    titles = {group: f"{group} ({len(groups[group])})" for group in order}
    dots = [
        {"group": titles[group], "value": 100 * row.accuracy.mean, "text": _told(row)}
        for group in order
        for row in groups[group]
    ]
    bars = [
        {"group": titles[group], "value": 100 * means[group], "text": f"{titles[group]}: mean "
         f"{percent(means[group])} %"}
        for group in order
    ]  # fmt: skip
    y = alt.Y("group:N", sort=list(titles.values()), title=None, axis=alt.Axis(labelLimit=240))
    what = capitalised(title_of(summary.metric))
    x = alt.X("value:Q", title=f"{what} (%)", scale=alt.Scale(zero=False))
    chart = (
        alt.Chart(alt.Data(values=dots))
        .mark_point(color=SERIES[0], size=40, strokeWidth=1.5)
        .encode(x=x, y=y, description="text:N")
        + alt.Chart(alt.Data(values=bars))
        .mark_tick(color=INK, thickness=3, size=16)
        .encode(x="value:Q", y=y, description="text:N")
    ).properties(width=_WIDTH, height=22 * len(order))
    caption = (
        f"A ring is a language, a bar the mean of its {by}, with the number of languages. Groups "
        "of one or two languages say nothing about the group."
    )
    return Figure(name, f"{what} by {by}", caption, drawn(chart))


def curve_figure(name: str, curves: Sequence[TrainingCurve]) -> Figure | None:
    """Draw how training went, a panel for each kind of curve, a line for each run.

    Args:
        name: Of the figure's files.
        curves: Of the setting's runs.

    Returns:
        None where nothing was measured.
    """
    import altair as alt

    if not curves:
        return None
    kinds = list(dict.fromkeys(curve.kind for curve in curves))
    runs = list(dict.fromkeys(curve.run for curve in curves))
    scale = alt.Scale(domain=runs, range=[SERIES[i % len(SERIES)] for i in range(len(runs))])
    dashes = alt.Scale(domain=runs, range=[list(DASHES[i % len(DASHES)]) for i in range(len(runs))])
    legend = alt.Legend(title=None, orient="top") if len(runs) > 1 else None
    panels = [
        alt.Chart(alt.Data(values=_points([curve for curve in curves if curve.kind == kind])))
        .mark_line(strokeWidth=1.5)
        .encode(
            x=alt.X("epoch:Q", title="epoch"),
            y=alt.Y("value:Q", title=kind, scale=alt.Scale(zero=False)),
            color=alt.Color("run:N", scale=scale, legend=legend),
            strokeDash=alt.StrokeDash("run:N", scale=dashes, legend=legend),
        )
        .properties(width=360, height=200)
        for kind in kinds
    ]
    caption = "A line is a run. Training loss is that of each step's batch, before the step."
    longest = max(len(curve.values) for curve in curves)
    if longest > _MOST_POINTS:
        caption += f" Neighbouring steps are averaged to {_MOST_POINTS} points."
    svg = drawn(alt.concat(*panels, columns=2))
    return Figure(name, "How training went", caption, svg)


def _points(curves: Sequence[TrainingCurve]) -> list[dict[str, float | str]]:
    """List the points of curves, averaged where there are too many."""
    rows: list[dict[str, float | str]] = []
    for curve in curves:
        size = -(-len(curve.values) // _MOST_POINTS)
        for start in range(0, len(curve.values), size):
            epochs, values = (side[start : start + size] for side in (curve.epochs, curve.values))
            place, value = round(mean(epochs), 4), round(mean(values), 5)
            rows.append({"run": curve.run, "epoch": place, "value": value})
    return rows


def label_figure(
    name: str, recalls: Mapping[str, Mapping[str, float]], labels: Sequence[str]
) -> Figure:
    """Draw languages × labels: the share of a label's items that were answered with it.

    Args:
        name: Of the figure's files.
        recalls: By language and label; a label without items is missing.
        labels: In their order.
    """
    values = {
        (language, label): 100 * value
        for language, own in recalls.items()
        for label, value in own.items()
    }
    svg = cell_map(values, list(recalls), labels, 52)
    caption = (
        "Of the items that have a label, the share that was answered with it (recall, whole "
        "percent), over all runs; languages as in the table, the best on top."
    )
    return Figure(name, "Languages and labels", caption, svg)


def _told(row: LanguageRow) -> str:
    """Say a language's result in words."""
    return (
        f"{row.name}, {row.code}: {percent(row.accuracy.mean)} %, interval "
        f"{between(row.accuracy)}, n {row.n}"
    )
