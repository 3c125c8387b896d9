"""Answers inputs of different runs in one batch: each is read with the prompts of its own run."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from polyprompt.data.encoded import Encoded
from polyprompt.engine.engine import Engine, Prompts
from polyprompt.engine.memory import in_batches
from polyprompt.heads.head import Head


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
    found: list[NDArray[np.float32]] = [np.zeros((0, 0), dtype=np.float32)] * len(inputs)
    live = max(prompts.only(run).live for run in range(len(prompts)))
    live += sum(map(len, engine.branches))
    lengths = [encoded.tokens + encoded.continued + live for encoded in inputs]

    def compute(rows: list[int]) -> dict[int, NDArray[np.float32]]:
        """Read some inputs, and score those of each run by its head."""
        states = engine.each([inputs[row] for row in rows], [runs[row] for row in rows], prompts)
        scores = {}
        for run in sorted({runs[row] for row in rows}):
            own = [place for place, row in enumerate(rows) if runs[row] == run]
            some = [inputs[rows[place]] for place in own]
            answers = heads[run].answers(states.rows(own), some).float().cpu().numpy()
            ends = np.cumsum([one.answers for one in some])[:-1]
            pieces = np.split(answers, ends)
            scores |= {rows[place]: piece for place, piece in zip(own, pieces, strict=True)}
        return scores

    for _, scores in in_batches(engine.allowance, lengths, compute):
        for row, own in scores.items():
            found[row] = own
    return found
