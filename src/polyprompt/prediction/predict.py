"""Reads test inputs once and answers with every run of a group."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from polyprompt.data.encoded import Encoded
from polyprompt.engine.engine import Engine, Prompts
from polyprompt.engine.memory import in_batches
from polyprompt.heads.head import Head, States


@dataclass(frozen=True)
class Answers:
    """Answers to one batch of inputs.

    Attributes:
        rows: Which inputs they are.
        scores: R runs × U answers × C labels, before the softmax; an input has one answer, or one
            per word that is tagged.
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
    live = prompts.live
    live += len(readers) * sum(map(len, engine.branches))
    left = sorted(set(range(len(inputs))) - set(known))
    lengths = [inputs[row].tokens + live + len(readers) * inputs[row].continued for row in left]

    def compute(chosen: list[int]) -> Answers:
        rows = [left[index] for index in chosen]
        chosen_inputs = [inputs[row] for row in rows]
        states = engine.every(chosen_inputs, readers)
        scores = [
            head.answers(_run(states, run, len(rows)), chosen_inputs).float().cpu().numpy()
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
        scores: R × U × C, filled batch by batch.
        starts: Where each input's answers begin among all, and the number of all, N + 1.
        bare: N × D; empty (N × 0) where unprompted vectors are not asked for.
        done: Inputs answered so far.
    """

    def __init__(self, runs: int, inputs: Sequence[Encoded], columns: int, width: int) -> None:
        """Make room for the answers of ``runs`` to inputs, and for vectors of ``width``.

        Args:
            runs: R.
            inputs: N of them.
            columns: Of an answer: one per label, or what a written one needs (C).
            width: Of the vectors (D).
        """
        self.starts = answer_starts(inputs)
        self.scores = np.zeros((runs, self.starts[-1], columns), dtype=np.float32)
        self.bare = np.zeros((len(inputs), width), dtype=np.float32)
        self.done = 0

    def add(self, batch: Answers) -> None:
        """Put a batch's answers where they belong."""
        self.scores[:, answers_of(batch.rows, self.starts)] = batch.scores
        if batch.bare is not None:
            self.bare[batch.rows] = batch.bare
        self.done += len(batch.rows)


def answer_starts(inputs: Sequence[Encoded]) -> NDArray[np.int64]:
    """Say where each input's answers begin among all, and how many there are, N + 1."""
    return np.concatenate([[0], np.cumsum([one.answers for one in inputs], dtype=np.int64)])


def answers_of(rows: Sequence[int], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Name the answers to some inputs, in their order."""
    none = np.zeros(0, dtype=np.int64)
    return np.concatenate([none, *(np.arange(starts[row], starts[row + 1]) for row in rows)])
