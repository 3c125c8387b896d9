"""Reads test inputs once and answers with every run of a group."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from polyprompt.data.encoding import Encoded
from polyprompt.engine.engine import Engine, Prompts
from polyprompt.engine.memory import in_batches
from polyprompt.heads.head import Head, States


@dataclass(frozen=True)
class Answers:
    """Answers to one batch of inputs.

    Attributes:
        rows: Which inputs they are.
        scores: R runs × B inputs × C labels, before the softmax.
        bare: Vectors of the inputs without soft prompts, B × D; None where not asked for.
    """

    rows: list[int]
    scores: NDArray[np.float32]
    bare: NDArray[np.float32] | None


@torch.no_grad()
def answer(
    engine: Engine,
    prompts: Prompts,
    heads: Sequence[Head],
    inputs: Sequence[Encoded],
    *,
    bare: bool,
    known: Collection[int] = (),
) -> Iterator[Answers]:
    """Answer inputs, sorted by length across languages, batch after batch.

    Args:
        engine: Computes states.
        prompts: Of R runs.
        heads: Of the same runs.
        inputs: In any order.
        bare: Whether to give the unprompted vectors too.
        known: Rows that are left out; if they are the first batches of an earlier call, the others
            are the same batches as there.

    Yields:
        Answers with the rows they belong to, every row once.
    """
    pooling = engine.backbone.facts.pooling
    readers = prompts.and_bare(engine.backbone) if bare else prompts
    live = sum(len(vectors) for vectors in prompts.vectors)
    live += len(readers) * sum(map(len, engine.branches))
    left = sorted(set(range(len(inputs))) - set(known))
    lengths = [inputs[row].tokens + live for row in left]

    def compute(chosen: list[int]) -> Answers:
        rows = [left[index] for index in chosen]
        states = engine.every([inputs[row] for row in rows], readers)
        scores = [
            head.scores(_run(states, run, len(rows))).float().cpu().numpy()
            for run, head in enumerate(heads)
        ]
        unprompted = _run(states, len(prompts), len(rows)).vectors(pooling) if bare else None
        # a copy: a view would hold the states of all runs as long as the answers are held
        vectors = None if unprompted is None else unprompted.float().cpu().numpy().copy()
        return Answers(rows, np.stack(scores), vectors)

    for _, answers in in_batches(engine.allowance, lengths, compute):
        yield answers


def _run(states: States, run: int, inputs: int) -> States:
    """Select one run's states."""
    return states.rows(slice(run * inputs, (run + 1) * inputs))


class Collected:
    """Answers put back into the order of the inputs.

    Attributes:
        scores: R × N × C, filled batch by batch.
        bare: N × D; empty (N × 0) where unprompted vectors are not asked for.
        done: Inputs answered so far.
    """

    def __init__(self, runs: int, inputs: int, labels: int, width: int) -> None:
        """Make room for ``runs`` × ``inputs`` × ``labels`` scores and vectors of ``width``."""
        self.scores = np.zeros((runs, inputs, labels), dtype=np.float32)
        self.bare = np.zeros((inputs, width), dtype=np.float32)
        self.done = 0

    def add(self, batch: Answers) -> None:
        """Put a batch's answers where they belong."""
        self.scores[:, batch.rows] = batch.scores
        if batch.bare is not None:
            self.bare[batch.rows] = batch.bare
        self.done += len(batch.rows)
