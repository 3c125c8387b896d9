"""Deep prompts of the runs of a pass, as its attention wants them.

Axes: M runs with deep prompts, B inputs, G runs that read an input, P places, J key heads.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from polyprompt.engine.arrangement import Arranged
from polyprompt.engine.engine import Deep, Prompts
from polyprompt.engine.live import Live
from polyprompt.models.values import Beside


def beside(
    prompts: Prompts, runs: Sequence[Sequence[int]], live: Live, rows: Sequence[Arranged]
) -> Beside | None:
    """Put the deep prompts of runs beside the blocks of a pass.

    Args:
        prompts: Of all runs.
        runs: Which run each block is of, B × G.
        live: The pass's tokens.
        rows: Its inputs, for the place at which what is frozen of them ends, B.

    Returns:
        None where no run has any.
    """
    wanted = sorted({run for of_input in runs for run in of_input})
    if not prompts.deep or all(prompts.deep[run] is None for run in wanted):
        return None
    found = [prompts.deep[run] for run in wanted]
    counts = np.array([0 if one is None else one.places for one in found])
    behind = np.array([0 if one is None else one.suffix for one in found])
    of_block = np.searchsorted(wanted, np.array(runs))
    place, front = np.arange(counts.max()), (counts - behind)[:, None]
    ends = np.array([row.suffix_at for row in rows])[:, None, None]
    in_front = front[of_block]
    positions = np.where(place < in_front, place, ends + place - in_front)
    arrays = place < counts[:, None], place >= front, of_block, positions, live.reached
    layers = _stacked(found, int(counts.max()))
    device = layers[0][0].device
    return Beside(layers, *(torch.from_numpy(array).to(device) for array in arrays))


def _stacked(
    found: Sequence[Deep | None], most: int
) -> tuple[tuple[Float[Tensor, "M J P K"], Float[Tensor, "M J P K"]], ...]:
    """Put runs' keys and values of every layer together, filled up to ``most`` places."""
    like = next(one for one in found if one is not None)
    return tuple(
        (
            torch.stack([_padded(one, layer, 0, like, most) for one in found]),
            torch.stack([_padded(one, layer, 1, like, most) for one in found]),
        )
        for layer in range(len(like.layers))
    )


def _padded(deep: Deep | None, layer: int, kind: int, like: Deep, most: int) -> Tensor:
    """Give a run's keys (0) or values (1) of a layer, filled up to ``most`` places."""
    if deep is None:
        shape = like.layers[layer][kind].shape
        return like.layers[layer][kind].new_zeros(shape[0], most, shape[2])
    own = deep.layers[layer][kind]
    return pad(own, (0, 0, 0, most - own.shape[1]))
