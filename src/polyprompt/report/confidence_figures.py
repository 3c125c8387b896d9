"""Figures of how far probabilities are from what they promise."""

from collections.abc import Mapping, Sequence

from polyprompt.analysis.confidence import Bin
from polyprompt.report.figure import Figure, drawn
from polyprompt.report.palette import INK, MUTED, SERIES, SHAPES
from polyprompt.report.score_tables import percent


def reliability_figure(name: str, groups: Mapping[str, Sequence[Bin]]) -> Figure:
    """Draw the share of right answers against their probability, a line for each group.

    Args:
        name: Of the figure's files.
        groups: Bins by what they are of, such as the source language and all others.
    """
    import altair as alt

    rows = [_point(group, one) for group, bins in groups.items() for one in bins]
    titles = list(groups)
    axis = alt.Scale(domain=[0, 100])
    promised = (
        alt.Chart(alt.Data(values=[{"at": 0}, {"at": 100}]))
        .mark_line(color=MUTED, strokeDash=[4, 3], strokeWidth=1)
        .encode(x=alt.X("at:Q", title="mean probability of the answer (%)", scale=axis), y="at:Q")
    )
    lines = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("confidence:Q", scale=axis),
        y=alt.Y("accuracy:Q", title="right answers (%)", scale=axis),
        color=alt.Color(
            "group:N",
            scale=alt.Scale(domain=titles, range=[*SERIES[: len(titles)]]),
            legend=alt.Legend(title=None, orient="top"),
        ),
    )
    points = lines.mark_point(filled=True, opacity=1, stroke=INK, strokeWidth=0.5).encode(
        shape=alt.Shape(
            "group:N",
            scale=alt.Scale(domain=titles, range=[*SHAPES[: len(titles)]]),
            legend=alt.Legend(title=None, orient="top"),
        ),
        size=alt.Size("n:Q", scale=alt.Scale(range=[15, 260]), legend=None),
        description="text:N",
    )
    chart = (promised + lines.mark_line(strokeWidth=1.5) + points).properties(width=420, height=360)
    caption = (
        "Answers in ten bins of their probability; a larger mark is of more answers, over all runs "
        "and languages of the group. Below the dashed line probabilities promise too much."
    )
    return Figure(name, "What probabilities promise, and what comes true", caption, drawn(chart))


def _point(group: str, one: Bin) -> dict[str, float | str]:
    """Give a bin as the figure shows it."""
    return {
        "group": group,
        "confidence": 100 * one.confidence,
        "accuracy": 100 * one.accuracy,
        "n": one.n,
        "text": f"{group}: probability {percent(one.confidence)} %, right "
        f"{percent(one.accuracy)} %, n {one.n}",
    }
