"""Named streams of randomness from one seed; nothing here touches a global generator."""

import hashlib

import numpy as np


def derive_seed(seed: int, *names: str | int) -> int:
    """Derive an independent seed for a named purpose.

    Args:
        seed: The run's seed; 0 is a seed like any other.
        names: The purpose, e.g. ``"draw", "health"``.

    Returns:
        An integer in [0, 2**63).
    """
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Build the generator of a named purpose; equal arguments give equal streams."""
    return np.random.default_rng(derive_seed(seed, *names))
