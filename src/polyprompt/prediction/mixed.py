"""Answers inputs of different runs in one batch: each is read with the prompts of its own run."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from polyprompt.data.encoded import Encoded
from polyprompt.engine.engine import Engine, Prompts
from polyprompt.engine.memory import in_batches
from polyprompt.heads.head import Head, States


@torch.no_grad()
def answer_each(
    engine: Engine,
    prompts: Prompts,
    heads: Sequence[Head],
    inputs: Sequence[Encoded],
    runs: Sequence[int],
) -> list[NDArray[np.float32]]:
    """Answer input i with run ``runs[i]``, sorted by length across runs, batch after batch.

    Args:
        engine: Computes states.
        prompts: Of R runs.
        heads: Of the same runs.
        inputs: In any order.
        runs: Of the inputs.

    Returns:
        Scores of each input, U × C: one answer, or one per word that is tagged.
    """
    live = max(prompts.only(run).live for run in range(len(prompts)))
    live += sum(map(len, engine.branches))
    lengths = [encoded.tokens + encoded.continued + live for encoded in inputs]

    def compute(rows: list[int]) -> list[NDArray[np.float32]]:
        """Read some inputs together."""
        some, own = [inputs[row] for row in rows], [runs[row] for row in rows]
        return _by_run(engine.each(some, own, prompts), heads, some, own)

    found: dict[int, NDArray[np.float32]] = {}
    for rows, scores in in_batches(engine.allowance, lengths, compute):
        found |= zip(rows, scores, strict=True)
    return [found[row] for row in range(len(inputs))]


def _by_run(
    states: States, heads: Sequence[Head], inputs: Sequence[Encoded], runs: Sequence[int]
) -> list[NDArray[np.float32]]:
    """Score the inputs of each run by its own head; returns them in their order."""
    found: dict[int, NDArray[np.float32]] = {}
    for run in sorted(set(runs)):
        places = [place for place, other in enumerate(runs) if other == run]
        pieces = _scores(states.rows(places), heads[run], [inputs[place] for place in places])
        found |= zip(places, pieces, strict=True)
    return [found[place] for place in range(len(inputs))]


def _scores(states: States, head: Head, inputs: Sequence[Encoded]) -> list[NDArray[np.float32]]:
    """Score inputs of one run, and divide the scores between them."""
    answers = head.answers(states, inputs).float().cpu().numpy()
    return np.split(answers, np.cumsum([one.answers for one in inputs])[:-1])
