"""A figure: an SVG that stands by itself, drawn by Altair and Vega without a browser, or by us."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polyprompt.report.palette import INK, MUTED, PAPER, RULE, SERIES

if TYPE_CHECKING:
    import altair as alt

FORMATS = ("svg", "png", "pdf")
FONT = "Arial, 'Liberation Sans', Helvetica, sans-serif"
"""Of one width wherever it is read; Vega measures with it."""
_AXIS = {
    "labelColor": INK,
    "titleColor": INK,
    "titleFontWeight": "normal",
    "gridColor": RULE,
    "gridOpacity": 0.6,
    "tickColor": RULE,
    "domainColor": RULE,
    "labelFontSize": 12,
    "titleFontSize": 12,
}
THEME: dict[str, Any] = {
    "background": None,
    "font": FONT,
    "axis": _AXIS,
    "legend": {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "labelLimit": 320},
    "header": {"labelColor": INK, "titleColor": INK, "labelFontSize": 12},
    "view": {"stroke": None},
    "range": {"category": list(SERIES)},
    "point": {"size": 45, "opacity": 1},
    "rule": {"color": MUTED},
    "text": {"color": INK, "fontSize": 11},
}
_DOTS_PER_POINT = 2.0
_PLACES = re.compile(r' (?:transform|d|[xy][12]?|width|height)="[^"]*"')
_LONG = re.compile(r"\d+\.\d{2,}")
_NEEDLESS = re.compile(
    r' (?:aria-roledescription="[^"]*"|transform="translate\(0,0\)"|pointer-events="none"'
    r'|fill-opacity="1"|opacity="1"|stroke-miterlimit="10")'
)
_FAMILY = f' font-family="{FONT}"'


@dataclass(frozen=True)
class Figure:
    """A drawing with what has to be said of it.

    Attributes:
        name: Of its files.
        title: What it shows.
        caption: How to read it: n, intervals, what was left out.
        svg: The drawing, with the colours of a printed page.
    """

    name: str
    title: str
    caption: str
    svg: str

    def encoded(self, form: str) -> bytes:
        """Give the drawing as a file's contents.

        Args:
            form: One of ``FORMATS``.
        """
        import vl_convert

        if form == "svg":
            return self.svg.encode()
        if form == "pdf":
            return vl_convert.svg_to_pdf(self.svg)
        backed = self.svg.replace(">", f'><rect width="100%" height="100%" fill="{PAPER}"/>', 1)
        return vl_convert.svg_to_png(backed, scale=_DOTS_PER_POINT)


def drawn(chart: "alt.TopLevelMixin") -> str:
    """Draw a chart as SVG.

    What Vega writes for screen readers stays: a label with the values of every mark.
    """
    import vl_convert

    svg = vl_convert.vegalite_to_svg(chart.to_dict(validate=False), config=THEME)
    svg = _NEEDLESS.sub("", svg).replace(_FAMILY, "").replace("<svg", f"<svg{_FAMILY}", 1)
    return _PLACES.sub(lambda found: _LONG.sub(_rounded, found[0]), svg)


def _rounded(number: re.Match[str]) -> str:
    """Write a place to a tenth of a pixel."""
    return f"{float(number[0]):.1f}".removesuffix(".0")
