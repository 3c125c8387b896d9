"""Figures of what runs recorded inside: alignment of states, attention, paths of prompts.

Axes: L layers, C checkpoints, P soft tokens, D width.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from polyprompt.analysis.prompt_path import plane_of
from polyprompt.analysis.representation import Alignment
from polyprompt.records import KINDS, READERS
from polyprompt.report.figure import Figure, drawn
from polyprompt.report.palette import DASHES, MUTED, SERIES, SHAPES

_WIDTH = 640


def alignment_figure(name: str, found: Mapping[str, Alignment], what: str) -> Figure:
    """Draw how alike the states of translations are, layer by layer.

    Args:
        name: Of the figure's files.
        found: By the setting's title.
        what: Which states, for the title.
    """
    import altair as alt

    rows = []
    for title, own in found.items():
        low, high = own.interval()
        for layer, (mean, a, b) in enumerate(zip(own.mean, low, high, strict=True)):
            text = f"{title}, layer {layer}: {mean:.2f} [{a:.2f}, {b:.2f}]"
            values = {"layer": layer, "value": float(mean), "low": float(a), "high": float(b)}
            rows.append({"setting": title, "text": text} | values)
    shuffled = next(iter(found.values())).shuffled
    chance = [{"layer": i, "value": float(value)} for i, value in enumerate(shuffled)]
    colour, dash, shape = _signs("setting", list(found))
    x = alt.X("layer:Q", title="layer (0: the input)", axis=alt.Axis(tickMinStep=1))
    y = alt.Y("value:Q", title="debiased linear CKA with the source")
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, color=colour)
    chart = (
        base.mark_area(opacity=0.15).encode(y=alt.Y("low:Q"), y2="high:Q")
        + base.mark_line().encode(y=y, strokeDash=dash)
        + base.mark_point(filled=True, opacity=1).encode(y=y, shape=shape, description="text:N")
        + alt.Chart(alt.Data(values=chance))
        .mark_line(color=MUTED, strokeDash=[2, 3])
        .encode(x=x, y=y)
    ).properties(width=_WIDTH, height=280)
    caption = (
        "Mean over languages; bands: 95 % intervals from random halves of the sentences. The "
        "dotted line: translations paired at random."
    )
    return Figure(name, f"Alignment of {what}", caption, drawn(chart))


def attention_figure(
    name: str, profiles: Mapping[str, Float[np.ndarray, "L 3 3"]], reader: str
) -> Figure:
    """Draw where attention goes, layer by layer.

    Args:
        name: Of the figure's files.
        profiles: Shares by reader and kind, by the group of languages.
        reader: One of ``READERS``.
    """
    import altair as alt

    place = READERS.index(reader)
    rows = [
        {
            "layer": layer + 1,
            "kind": kind,
            "value": 100 * float(value),
            "languages": group,
            "text": f"{group}, layer {layer + 1}, {kind}: {100 * value:.0f} %",
        }
        for group, profile in profiles.items()
        for layer, weights in enumerate(profile[:, place])
        for kind, value in zip(KINDS, weights, strict=True)
        if np.isfinite(value)
    ]
    colour, dash, shape = _signs("kind", list(KINDS))
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("layer:Q", title="layer", axis=alt.Axis(tickMinStep=1)),
        y=alt.Y("value:Q", title="share of attention (%)"),
        color=colour,
    )
    lines = base.mark_line().encode(strokeDash=dash)
    points = base.mark_point(filled=True, opacity=1).encode(shape=shape, description="text:N")
    panels = alt.layer(lines, points).properties(width=270, height=220)
    chart = panels.facet(facet=alt.Facet("languages:N", title=None), columns=2)
    caption = "Mean over heads, sentences and languages."
    return Figure(name, f"Where the attention of the {reader} goes", caption, drawn(chart))


def path_figure(name: str, paths: Mapping[str, tuple[Float[np.ndarray, "C P D"], int]]) -> Figure:
    """Draw the paths of prompts in the plane in which they vary most.

    Args:
        name: Of the figure's files.
        paths: Vectors at every checkpoint and the number of the kept one, by run.
    """
    import altair as alt

    places, share = plane_of([vectors for vectors, _ in paths.values()])
    rows: list[dict[str, Any]] = []
    for (run, (_, kept)), line in zip(paths.items(), places, strict=True):
        for number, (x, y) in enumerate(line):
            sign = "start" if number == 0 else "kept" if number == kept else ""
            text = f"{run}, checkpoint {number}{': ' + sign if sign else ''}"
            values = {"x": float(x), "y": float(y), "order": number}
            rows.append({"run": run, "sign": sign, "text": text} | values)
    colour, dash, _ = _signs("run", list(paths))
    ends = alt.Scale(domain=["start", "kept"], range=["square", "diamond"])
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("x:Q", title="first principal component"),
        y=alt.Y("y:Q", title="second principal component"),
        color=colour,
    )
    chart = (
        base.mark_line().encode(order="order:Q", strokeDash=dash)
        + base.transform_filter("datum.sign == ''")
        .mark_point(size=16, filled=True)
        .encode(description="text:N")
        + base.transform_filter("datum.sign != ''")
        .mark_point(size=90, filled=True, opacity=1)
        .encode(shape=alt.Shape("sign:N", scale=ends, title=None), description="text:N")
    ).properties(width=_WIDTH * 0.75, height=320)
    caption = (
        f"The plane holds {100 * share:.0f} % of the paths' variance. A dot is an epoch's end; a "
        "square the start, a diamond the checkpoint that was kept."
    )
    return Figure(name, "Paths of prompts", caption, drawn(chart))


def _signs(field: str, titles: Sequence[str]) -> tuple[Any, Any, Any]:
    """Tell lines apart by colour, dash and shape."""
    import altair as alt

    def cycled(values: Sequence[Any]) -> list[Any]:
        """Give as many values as there are titles."""
        return [values[index % len(values)] for index in range(len(titles))]

    domain = list(titles)
    legend = alt.Legend(title=None, orient="top", direction="vertical")
    colour = alt.Color(
        f"{field}:N", scale=alt.Scale(domain=domain, range=cycled(SERIES)), legend=legend
    )
    dashes = [list(dash) for dash in cycled(DASHES)]
    dash = alt.StrokeDash(f"{field}:N", scale=alt.Scale(domain=domain, range=dashes), legend=legend)
    shape = alt.Shape(
        f"{field}:N", scale=alt.Scale(domain=domain, range=cycled(SHAPES)), legend=legend
    )
    return colour, dash, shape
