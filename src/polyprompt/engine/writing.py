"""Lets a model write: an answer word by word behind an input, greedily or by beam search.

What stands in front of an answer is computed once; each word then costs its own token alone.

Axes: B inputs, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from polyprompt.data.encoded import Encoded
from polyprompt.engine.beginning import Begun, begin
from polyprompt.engine.engine import Engine, Prompts
from polyprompt.engine.memory import in_batches
from polyprompt.models.backbone import Backbone
from polyprompt.models.blocks import lay_out
from polyprompt.models.values import Frozen, Part
from polyprompt.records import Writing

ROWS_AT_ONCE = 128
"""States whose scores of the whole vocabulary are held at once."""


@dataclass(frozen=True)
class Written:
    """An answer.

    Attributes:
        pieces: As transformers' ``generate`` writes them, the end token left out.
        mean_log: Mean log-probability of what was written (nats), the end token counted.
    """

    pieces: tuple[int, ...]
    mean_log: float


@torch.no_grad()
def write(
    engine: Engine, inputs: Sequence[Encoded], prompts: Prompts, writing: Writing
) -> list[Written]:
    """Write an answer behind every input with one run's prompts."""
    found: dict[int, Written] = {}
    live = writing.beams * (prompts.live + writing.most)
    for variant in dict.fromkeys(one.variant for one in inputs):
        rows = [row for row, one in enumerate(inputs) if one.variant == variant]
        sizes = [inputs[row].tokens + live for row in rows]

        def some(chosen: list[int], rows: list[int] = rows) -> list[Written]:
            begun = begin(engine, [inputs[rows[index]] for index in chosen], prompts)
            return _write(engine.backbone, begun, writing)

        with engine.backbone.reading_as(variant):
            for chosen, answers in in_batches(engine.allowance, sizes, some):
                found |= zip((rows[index] for index in chosen), answers, strict=True)
    return [found[row] for row in range(len(inputs))]


def _write(backbone: Backbone, begun: Begun, writing: Writing) -> list[Written]:
    """Write the answers to some inputs together."""
    if writing.beams == 1:
        return _greedily(backbone, begun, writing)
    return _by_beams(backbone, begun, writing)


def _greedily(backbone: Backbone, begun: Begun, writing: Writing) -> list[Written]:
    """Take the likeliest word each time; an input whose answer has ended is left out."""
    answers: list[list[int]] = [[] for _ in begun.places]
    logs: list[list[float]] = [[] for _ in begun.places]
    left = np.arange(len(answers))
    states, frozen = begun.last, begun.frozen
    for step in range(writing.most):
        best, words, sums = _best(backbone, states)
        for row, score in zip(left, (best - sums).tolist(), strict=True):
            logs[row].append(score)
        going_on = [word not in writing.ends for word in words.tolist()]
        for row, word in zip(left[going_on], words.cpu().numpy()[going_on], strict=True):
            answers[row].append(int(word))
        left = left[going_on]
        if not len(left) or step + 1 == writing.most:
            break
        chosen = torch.from_numpy(np.flatnonzero(going_on)).to(words.device)
        places = begun.places[left] + step
        states, frozen = _next(backbone, words[chosen], frozen.rows(chosen), places)
    return [
        Written(tuple(answer), sum(own) / len(own))
        for answer, own in zip(answers, logs, strict=True)
    ]


def _best(backbone: Backbone, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find the likeliest word behind every state: its score, its id, and the scores' log-sum."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for rows in states.split(ROWS_AT_ONCE):
        scores = backbone.unembed(rows)
        words = scores.argmax(1)
        best = scores.gather(1, words[:, None])[:, 0].float()
        found.append((best, words, scores.float().logsumexp(1)))
    best, words, sums = (torch.cat(own) for own in zip(*found, strict=True))
    return best, words, sums


def _next(
    backbone: Backbone, words: Tensor, frozen: Frozen, places: NDArray[np.int64]
) -> tuple[Float[Tensor, "B D"], Frozen]:
    """Read one more word of every answer."""
    blocks = lay_out([[1]] * len(places), places, backbone.device, causal=True)
    return backbone.grow(backbone.embed(words), Part(blocks, frozen))


@dataclass
class _Beams:
    """The beams of one input.

    Attributes:
        running: Log-probabilities and pieces of answers that go on, the likeliest first.
        ended: Scores and pieces of answers that have ended, the best first.
        is_open: Whether one that goes on may still become better than those that have ended.
    """

    running: list[tuple[float, tuple[int, ...]]]
    ended: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)
    is_open: bool = True

    def take(
        self, candidates: Sequence[tuple[float, int, int]], writing: Writing, *, last: bool
    ) -> list[int]:
        """Go on with the likeliest continuations; returns which beam each of them continues.

        Args:
            candidates: Log-probability, beam and word of twice as many continuations as there are
                beams or more, the likeliest first.
            writing: How answers are written.
            last: Whether no further word is written.
        """
        before, count = self.running, writing.beams
        going_on, ending = [], []
        for rank, (score, beam, word) in enumerate(candidates):
            pieces = (*before[beam][1], word)
            if last or word in writing.ends:
                if rank < count:  # the others are there so that enough beams go on
                    ending.append((score / len(pieces) ** writing.length_penalty, pieces))
            else:
                going_on.append((score, pieces, beam))
        if self.is_open:
            ranked = sorted([*self.ended, *ending], key=lambda one: -one[0])
            self.ended = ranked[:count]
        self.running = [(score, pieces) for score, pieces, _ in going_on[:count]]
        if self.running and len(self.ended) == count:
            score, pieces = self.running[0]
            self.is_open &= score / len(pieces) ** writing.length_penalty > self.ended[-1][0]
        return [beam for _, _, beam in going_on[:count]]

    def best(self, writing: Writing) -> Written:
        """Give the best answer that has ended, without its end token."""
        score, pieces = self.ended[0]
        mean = score * len(pieces) ** (writing.length_penalty - 1)
        return Written(pieces[:-1] if pieces[-1] in writing.ends else pieces, mean)


def _by_beams(backbone: Backbone, begun: Begun, writing: Writing) -> list[Written]:
    """Keep several answers to every input; the arrangement of transformers' beam search.

    As there, an input is at its end once as many answers have ended as there are beams and the
    likeliest that goes on is, at its present length, no better than the worst of them.
    """
    all_beams = [_Beams([(0.0, ())]) for _ in begun.places]
    order = list(range(len(all_beams)))  # which input each row is of
    states, frozen = begun.last, begun.frozen
    for step in range(writing.most):
        logs = backbone.unembed(states).float().log_softmax(1)
        last = step + 1 == writing.most
        going_on = _one_step(all_beams, order, logs, writing, last=last)
        if not going_on:
            break
        rows, words, order = (list(one) for one in zip(*going_on, strict=True))
        chosen = torch.tensor(rows, device=states.device)
        next_words = torch.tensor(words, device=states.device)
        places = begun.places[order] + step
        states, frozen = _next(backbone, next_words, frozen.rows(chosen), places)
    return [beams.best(writing) for beams in all_beams]


def _one_step(
    all_beams: Sequence[_Beams], order: Sequence[int], logs: Tensor, writing: Writing, *, last: bool
) -> list[tuple[int, int, int]]:
    """Let every input's beams take one more word.

    Args:
        all_beams: Of all inputs.
        order: Which input each row of ``logs`` is of.
        logs: Log-probabilities of all words behind every beam that runs.
        writing: How answers are written.
        last: Whether no further word is written.

    Returns:
        Of the beams that go on: the row that each continues, its word, its input.
    """
    found, at = [], 0
    for index in dict.fromkeys(order):
        beams = all_beams[index]
        size = len(beams.running)
        candidates = _likeliest(logs[at : at + size], beams, writing)
        continued = beams.take(candidates, writing, last=last)
        running = zip(continued, beams.running, strict=True) if beams.is_open else ()
        found += [(at + beam, pieces[-1], index) for beam, (_, pieces) in running]
        at += size
    return found


def _likeliest(logs: Tensor, beams: _Beams, writing: Writing) -> list[tuple[float, int, int]]:
    """Give an input's likeliest continuations: log-probability, beam and word."""
    before = torch.tensor([score for score, _ in beams.running], device=logs.device)
    totals = (before[:, None] + logs).flatten()
    wanted = min(max(2, 1 + len(writing.ends)) * writing.beams, len(totals))
    scores, places = totals.topk(wanted)
    vocabulary = logs.shape[1]
    triples = zip(scores.tolist(), places.tolist(), strict=True)
    return [(score, place // vocabulary, place % vocabulary) for score, place in triples]
