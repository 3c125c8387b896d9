"""Reads inputs so that something can be written behind them.

Axes: B inputs, D width, J key heads, P places of a deep prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from polyprompt.data.encoded import Encoded
from polyprompt.engine.arrangement import Arranged, Shape
from polyprompt.engine.engine import Engine, Prompts
from polyprompt.engine.live import Live
from polyprompt.models.values import Frozen, Part


@dataclass(frozen=True)
class Begun:
    """Inputs that have been read, and behind which something is written.

    Attributes:
        frozen: All that stands in front of an answer.
        last: States that the first words are guessed from, B D.
        places: Positions of the first words, B.
    """

    frozen: Frozen
    last: Float[Tensor, "B D"]
    places: NDArray[np.int64]


@torch.no_grad()
def begin(engine: Engine, inputs: Sequence[Encoded], prompts: Prompts) -> Begun:
    """Read inputs of one variant with one run's prompts.

    Args:
        engine: Reads what stands in front of all that is live.
        inputs: At least one.
        prompts: Of one run.
    """
    (shape,), backbone = prompts.shapes, engine.backbone
    rows, frozen = engine.fronts(inputs, prompts)
    if prompts.deep and prompts.deep[0] is not None:
        frozen = frozen.with_beside(prompts.deep[0].layers, _deep_places(rows, shape))
    live = Live.of([[row] for row in rows], [[0]] * len(rows), ())
    places = np.array([row.end for row in rows], dtype=np.int64)
    sizes = [size for (size,) in live.sizes]
    if not sum(sizes):  # nothing stands behind the text
        ends = frozen.mask.sum(1) - 1
        return Begun(
            frozen, frozen.hidden[torch.arange(len(rows), device=ends.device), ends], places
        )
    codes = torch.from_numpy(live.codes).to(backbone.device)
    x = engine.look_up(codes, prompts.vectors[0])
    part = Part(live.blocks(backbone.device, causal=True), frozen)
    states, frozen = backbone.grow(x, part)
    backbone.work.sentences += len(rows)
    return Begun(frozen, states[torch.from_numpy(np.cumsum(sizes) - 1).to(states.device)], places)


def _deep_places(rows: Sequence[Arranged], shape: Shape) -> NDArray[np.int64]:
    """Give the positions of deep prompts in every input, B P."""
    behind = np.array([row.suffix_at for row in rows])[:, None] + np.arange(shape.suffix)
    front = np.broadcast_to(np.arange(shape.prefix), (len(rows), shape.prefix))
    return np.concatenate([front, behind], axis=1)
