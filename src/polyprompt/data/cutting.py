"""Cuts fields that are too long, and says where what is left stands then."""

import numpy as np
from numpy.typing import NDArray


def cut_longest(owners: list[NDArray[np.int64]], excess: int) -> list[NDArray[np.bool_]]:
    """Choose which pieces stay: each dropped one is the last of the then longest field."""
    names, sizes = np.unique(np.concatenate([o[o >= 0] for o in owners]), return_counts=True)
    sizes = sizes.copy()
    for _ in range(excess):
        sizes[np.argmax(sizes)] -= 1
    left = dict(zip(names.tolist(), sizes.tolist(), strict=True))
    keep = []
    for owner in owners:
        mask = np.ones(len(owner), dtype=bool)
        for name in set(owner[owner >= 0].tolist()):
            where = np.flatnonzero(owner == name)
            mask[where[left[name] :]] = False
        keep.append(mask)
    return keep


def kept_places(
    places: NDArray[np.int64], kept: NDArray[np.bool_], start: int
) -> NDArray[np.int64]:
    """Renumber places of a run after cutting, behind all that stands in front; -1 if cut off."""
    if not len(kept):
        return np.full(len(places), -1, dtype=np.int64)
    there = kept[places] & (places >= 0)
    return np.where(there, start + np.cumsum(kept)[places] - 1, -1)
