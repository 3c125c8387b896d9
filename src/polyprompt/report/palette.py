"""Colours of figures and pages: one list, exact in files, and by the reader's theme on a page."""

from collections.abc import Mapping

INK, MUTED, RULE, PAPER = "#1b1f24", "#57606a", "#d0d7de", "#ffffff"
SERIES = ("#0b5cad", "#b3541e", "#1a7f37", "#8250df", "#9a6700", "#bf3989")
"""Of settings and lines, each 4.5 : 1 against paper; shapes and dashes repeat the difference."""
SEQUENCE = ("#fde8c8", "#f7b267", "#d9704a", "#a23b55", "#5b1f5e", "#2a0f3c")
"""From the least to the greatest, by lightness, so that it prints in grey."""
DIVERGING = ("#9c3a12", "#e9a077", "#f2f2f2", "#7fb0dc", "#0b4a8f")
"""From a loss through none to a gain."""

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
DASHES = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3), (4, 4), (10, 4))

_VARIABLES: Mapping[str, str] = {
    INK: "ink",
    MUTED: "muted",
    RULE: "rule",
    PAPER: "paper",
    **{colour: f"series-{number}" for number, colour in enumerate(SERIES, start=1)},
}
_DARK: Mapping[str, str] = {
    "ink": "#e6edf3",
    "muted": "#9aa5b1",
    "rule": "#3d444d",
    "paper": "#0d1117",
    "series-1": "#6cb6ff",
    "series-2": "#f69d50",
    "series-3": "#57ab5a",
    "series-4": "#c5a5ff",
    "series-5": "#daaa3f",
    "series-6": "#f778ba",
}


def themed(svg: str) -> str:
    """Have the colours of an SVG follow the page's theme; sequences stay as they are."""
    for colour, name in _VARIABLES.items():
        svg = svg.replace(f'"{colour}"', f'"var(--{name})"')
    return svg


def variables(*, dark: bool) -> str:
    """Declare the theme's colours, as CSS."""
    light = {name: colour for colour, name in _VARIABLES.items()}
    chosen = _DARK if dark else light
    return " ".join(f"--{name}: {colour};" for name, colour in chosen.items())


def shade(share: float, colours: tuple[str, ...] = SEQUENCE) -> str:
    """Give the colour of a number between 0 and 1."""
    place = min(max(share, 0.0), 1.0) * (len(colours) - 1)
    lower = min(int(place), len(colours) - 2)
    pairs = zip(_channels(colours[lower]), _channels(colours[lower + 1]), strict=True)
    mixed = [round(a + (b - a) * (place - lower)) for a, b in pairs]
    return "#" + "".join(f"{value:02x}" for value in mixed)


def ink_on(colour: str) -> str:
    """Give black or white, whichever is easier to read on a colour (WCAG's relative luminance)."""
    return "#000000" if _luminance(colour) > 0.179 else "#ffffff"


def _channels(colour: str) -> tuple[int, int, int]:
    """Split a colour into red, green and blue."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _luminance(colour: str) -> float:
    """Compute WCAG's relative luminance."""
    linear = [
        value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in _channels(colour))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
