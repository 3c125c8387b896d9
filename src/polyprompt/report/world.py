"""The world map: a dot per language where it is spoken, by colour and by size; plain SVG.

The place is the one point that Glottolog gives a language, not the area in which it is spoken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from polyprompt.analysis.summary import LanguageRow, Summary
from polyprompt.languages.catalogue import catalogue, language_name
from polyprompt.report.figure import FONT, Figure
from polyprompt.report.palette import INK, MUTED, PAPER, RULE, shade
from polyprompt.report.projection import HEIGHT, WIDTH, equal_earth
from polyprompt.report.score_tables import between, capitalised, percent
from polyprompt.scoring.metrics import title_of

_LEAST, _MOST = 3.0, 8.0
"""Radii of dots at 0 and at 1."""
_LEGEND = 46.0
_ROUNDS = 80
_STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Dot:
    """One language on the map.

    Attributes:
        row: Its results.
        above: Whether it is better than always giving one answer, by its interval.
        x: Right of the western edge.
        y: Below the northern one.
    """

    row: LanguageRow
    above: bool
    x: float
    y: float

    @property
    def radius(self) -> float:
        """Size by accuracy."""
        return _LEAST + (_MOST - _LEAST) * min(max(self.row.accuracy.mean, 0.0), 1.0)


def world_map(name: str, summary: Summary, constant: str | None) -> Figure | None:
    """Draw the languages of a setting where they are spoken.

    Args:
        name: Of the figure's files.
        summary: The setting's results.
        constant: The baseline that always gives one answer; its languages' rings are hollow where
            they are not above it.

    Returns:
        None where no language has a known place.
    """
    dots = _dots(summary, constant)
    if not dots:
        return None
    placed = {dot.row.code for dot in dots}
    absent = [row.name for row in summary.languages if row.code not in placed]
    what = capitalised(title_of(summary.metric))
    caption = (
        "A dot stands at the one place that Glottolog gives for a language, and is moved a little "
        "where it would cover another. The darker and larger, the better"
    )
    ring = "; a ring: not above always giving one answer, by the lower end of the interval"
    caption += "." if constant is None else f"{ring}."
    if absent:
        caption += f" Without a known place, and not on the map: {', '.join(absent)}."
    title = f"{what} by language"
    return Figure(name, title, caption, _svg(title, dots, rings=constant is not None))


def _dots(summary: Summary, constant: str | None) -> list[Dot]:
    """Place the languages, the best first, so that small dots are drawn above large ones."""
    known = catalogue()
    rows = sorted(summary.languages, key=lambda row: -row.accuracy.mean)
    places = {}
    for row in rows:
        language = known.get(row.code)
        if language and language.latitude is not None and language.longitude is not None:
            places[row.code] = equal_earth(language.latitude, language.longitude)
    there = [row for row in rows if row.code in places]
    if not there:
        return []
    sizes = np.array([_LEAST + (_MOST - _LEAST) * row.accuracy.mean for row in there])
    moved = _apart(np.array([places[row.code] for row in there]), sizes)
    return [
        Dot(
            row,
            constant is None or row.accuracy.low > row.baselines.get(constant, 0.0),
            float(x),
            float(y),
        )
        for row, (x, y) in zip(there, moved, strict=True)
    ]


def _apart(places: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move dots until none covers another's middle.

    Args:
        places: N × 2.
        radii: N.
    """
    found = places.copy()
    angles = np.arange(len(found)) * 2.399963  # the golden angle: a direction of its own for each
    found += 0.01 * np.column_stack([np.cos(angles), np.sin(angles)])
    for _ in range(_ROUNDS):
        apart = found[:, None] - found[None]
        far = np.hypot(apart[..., 0], apart[..., 1])
        lacking = np.maximum(0.8 * (radii[:, None] + radii[None]) - far, 0.0)
        np.fill_diagonal(lacking, 0.0)
        if not lacking.any():
            break
        unit = apart / np.maximum(far, 1e-9)[..., None]
        found += 0.3 * (lacking[..., None] * unit).sum(1)
    margin = radii.max()
    return np.clip(found, margin, [WIDTH - margin, HEIGHT - margin])


def _svg(title: str, dots: Sequence[Dot], *, rings: bool) -> str:
    """Write the map."""
    size = f"0 0 {WIDTH:g} {HEIGHT + _LEGEND:.0f}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="world" viewBox="{size}" width="{WIDTH:g}" '
        f'height="{HEIGHT + _LEGEND:.0f}" role="graphics-document" '
        f'aria-label="{escape(title)} on a map of the world" font-family="{escape(FONT)}">'
        f'<svg class="frame" width="{WIDTH:g}" height="{HEIGHT:.0f}" '
        f'viewBox="0 0 {WIDTH:g} {HEIGHT:.0f}" aria-hidden="false">'
        f'<path class="land" d="{_coastlines()}" fill="{RULE}" fill-opacity="0.55" '
        f'stroke="{MUTED}" stroke-width="0.4" aria-hidden="true"/>'
        f"{''.join(map(_circle, dots))}</svg>{_legend(rings=rings)}</svg>"
    )


def _circle(dot: Dot) -> str:
    """Write a dot: filled where it is above always giving one answer."""
    row = dot.row
    colour = shade(row.accuracy.mean)
    fill, stroke, width = (colour, INK, 0.6) if dot.above else (PAPER, INK, 1.6)
    return (
        f'<circle cx="{dot.x:.1f}" cy="{dot.y:.1f}" r="{dot.radius:.1f}" fill="{fill}" '
        f'stroke="{stroke}" stroke-width="{width}" role="graphics-symbol" '
        f'data-code="{escape(row.code)}" aria-label="{escape(_described(dot))}"/>'
    )


def _described(dot: Dot) -> str:
    """Say a language's result in words."""
    row = dot.row
    text = (
        f"{language_name(row.code)}, {row.code}: {percent(row.accuracy.mean)} %, interval "
        f"{between(row.accuracy)}, n {row.n}"
    )
    return text if dot.above else f"{text}, not above always giving one answer"


def _legend(*, rings: bool) -> str:
    """Write what colours, sizes and, where there are any, rings mean."""
    y = HEIGHT + 24
    parts = []
    for number, value in enumerate(_STEPS):
        x = 24 + 74 * number
        radius = _LEAST + (_MOST - _LEAST) * value
        parts.append(
            f'<circle cx="{x}" cy="{y:.0f}" r="{radius:.1f}" fill="{shade(value)}" stroke="{INK}" '
            f'stroke-width="0.6"/><text x="{x + 12}" y="{y + 5:.0f}" font-size="14" '
            f'fill="{INK}">{100 * value:.0f} %</text>'
        )
    if not rings:
        return f'<g aria-hidden="true">{"".join(parts)}</g>'
    x = 24 + 74 * len(_STEPS) + 16
    parts.append(
        f'<circle cx="{x}" cy="{y:.0f}" r="5" fill="{PAPER}" stroke="{INK}" stroke-width="1.6"/>'
        f'<text x="{x + 12}" y="{y + 5:.0f}" font-size="14" fill="{INK}">not above always giving '
        "one answer</text>"
    )
    return f'<g aria-hidden="true">{"".join(parts)}</g>'


@cache
def _coastlines() -> str:
    """Read the land, as the path of an SVG in the map's projection."""
    path = resources.files("polyprompt.report") / "assets" / "land.svgpath"
    return path.read_text(encoding="utf-8").strip()
