"""Build the coastlines of the report's map from Natural Earth's land at 1 : 110 million.

The input is ``land-110m.json`` of the npm package ``world-atlas`` (2.0.2), a TopoJSON file of the
public-domain map data of Natural Earth. The output is one SVG path in the report's projection.

Run it as::

    python scripts/build_world.py land-110m.json src/polyprompt/report/assets/land.svgpath
"""

import argparse
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from polyprompt.report.projection import HEIGHT, equal_earth

Point = tuple[float, float]


def arcs_of(topology: dict) -> list[list[Point]]:
    """Undo the rounding to a grid: arcs as longitudes and latitudes."""
    (kx, ky), (dx, dy) = topology["transform"]["scale"], topology["transform"]["translate"]
    found = []
    for arc in topology["arcs"]:
        x = y = 0
        line = []
        for step_x, step_y in arc:
            x, y = x + step_x, y + step_y
            line.append((x * kx + dx, y * ky + dy))
        found.append(line)
    return found


def rings_of(topology: dict) -> Iterator[list[Point]]:
    """Join arcs to closed rings; a negative number is an arc backwards."""
    arcs = arcs_of(topology)
    for geometry in topology["objects"]["land"]["geometries"]:
        for polygon in geometry["arcs"]:
            for ring in polygon:
                points: list[Point] = []
                for number in ring:
                    arc = arcs[number] if number >= 0 else arcs[~number][::-1]
                    points += arc[1:] if points else arc
                yield points


def halves_of(ring: list[Point]) -> list[list[Point]]:
    """Cut a ring that crosses the 180th meridian there."""
    line = [ring[0]]
    for longitude, latitude in ring[1:]:
        turns = round((line[-1][0] - longitude) / 360)
        line.append((longitude + 360 * turns, latitude))
    found = []
    for turn in (-360.0, 0.0, 360.0):
        moved = [(longitude + turn, latitude) for longitude, latitude in line]
        cut = _kept(_kept(moved, -180.0, 1.0), 180.0, -1.0)
        found += [cut] if len(cut) > 3 else []
    return found


def _kept(ring: list[Point], border: float, side: float) -> list[Point]:
    """Cut off what of a ring lies on the wrong side of a meridian (Sutherland and Hodgman)."""
    found: list[Point] = []
    for one, other in zip(ring, [*ring[1:], *ring[:1]], strict=True):
        inside, next_inside = side * (one[0] - border) >= 0, side * (other[0] - border) >= 0
        found += [one] if inside else []
        if inside != next_inside:
            share = (border - one[0]) / (other[0] - one[0])
            found.append((border, one[1] + share * (other[1] - one[1])))
    return found


def path_of(ring: list[Point]) -> str:
    """Write a ring as an SVG path in relative steps of a tenth of a unit."""
    places = [equal_earth(latitude, longitude) for longitude, latitude in ring]
    if min(y for _, y in places) > HEIGHT:  # Antarctica
        return ""
    grid = [(round(10 * x), round(10 * y)) for x, y in places]
    steps = []
    for (x0, y0), (x1, y1) in pairwise(grid):
        if (x1, y1) != (x0, y0):
            steps.append(f"{(x1 - x0) / 10:g},{(y1 - y0) / 10:g}")
    if len(steps) < 4:
        return ""
    return f"M{grid[0][0] / 10:g},{grid[0][1] / 10:g}l{' '.join(steps)}z"


def main() -> None:
    """Read, project, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("land", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    topology = json.loads(arguments.land.read_text(encoding="utf-8"))
    rings = [half for ring in rings_of(topology) for half in halves_of(ring)]
    text = "".join(map(path_of, rings))
    arguments.output.write_text(text + "\n", encoding="utf-8")
    print(f"{arguments.output}: {len(text)} characters")


if __name__ == "__main__":
    main()
