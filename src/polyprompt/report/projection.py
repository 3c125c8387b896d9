"""The projection of the world map: Equal Earth, which keeps areas in proportion.

Source: Šavrič, Patterson and Jenny (2019), "The Equal Earth map projection".
"""

import math

WIDTH = 1000.0
"""Of the whole world, in the map's own units."""
NORTH, SOUTH = 84.0, -58.0
"""Degrees; no language lives beyond them."""
_A = (1.340264, -0.081106, 0.000893, 0.003796)
_M = math.sqrt(3) / 2


def equal_earth(latitude: float, longitude: float) -> tuple[float, float]:
    """Give a place on the map: right of the western edge, below the northern one.

    Args:
        latitude: Degrees north.
        longitude: Degrees east.
    """
    x, y = _projected(latitude, longitude)
    return _SCALE * (x - _WEST), _SCALE * (_TOP - y)


def _projected(latitude: float, longitude: float) -> tuple[float, float]:
    """Project onto a plane with the radius of the earth as its unit."""
    theta = math.asin(_M * math.sin(math.radians(latitude)))
    square = theta * theta
    sixth = square**3
    slope = _A[0] + 3 * _A[1] * square + sixth * (7 * _A[2] + 9 * _A[3] * square)
    x = math.radians(longitude) * math.cos(theta) / (_M * slope)
    return x, theta * (_A[0] + _A[1] * square + sixth * (_A[2] + _A[3] * square))


_WEST, _TOP = _projected(0, -180)[0], _projected(NORTH, 0)[1]
_SCALE = WIDTH / (-2 * _WEST)
HEIGHT = equal_earth(SOUTH, 0)[1]
