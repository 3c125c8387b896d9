"""What a decoder answers without any training: to an instruction alone, or behind examples."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polyprompt.data.encoded import Encoded
from polyprompt.data.encoding import Encoder
from polyprompt.data.pieces import pieces_behind
from polyprompt.engine.cached import CachedEngine
from polyprompt.engine.engine import Engine
from polyprompt.engine.memory import in_batches
from polyprompt.experiments.assemble import Group, build_engine, neutral_inputs
from polyprompt.experiments.compatibility import head_of
from polyprompt.experiments.encoders import build_encoder, instruction_of
from polyprompt.experiments.events import Event
from polyprompt.experiments.plan import GroupPlan, RunPlan
from polyprompt.head_settings import VerbalizerSettings
from polyprompt.heads.head import States
from polyprompt.heads.verbalizer import VerbalizerHead
from polyprompt.records import Example
from polyprompt.seeds import generator

BETWEEN_EXAMPLES = "\n\n"


def zero_shot_choices(
    plan: GroupPlan, group: Group, run: RunPlan, examples: Sequence[Example]
) -> Generator[Event, None, NDArray[np.float32]]:
    """Score the texts that items offer as answers behind the card's instruction alone, N × C.

    Args:
        plan: Of a group whose backbone is frozen.
        group: For its backbone and heads.
        run: For its settings.
        examples: The items.
    """
    backbone = group.engine.backbone
    encoder = build_encoder(instruction_of(plan.card, backbone), run.settings, backbone)
    engine = build_engine("cached", backbone, plan.engine)
    head = group.members[plan.runs.index(run)].head
    inputs = encoder.encode(examples)
    scores = np.zeros((len(inputs), len(plan.card.labels)), dtype=np.float32)
    done = 0

    def compute(rows: list[int]) -> NDArray[np.float32]:
        with torch.no_grad():
            return head.scores(engine.bare([inputs[row] for row in rows])).float().cpu().numpy()

    lengths = [one.tokens + one.continued for one in inputs]
    for rows, values in in_batches(engine.allowance, lengths, compute):
        scores[rows] = values
        done += len(rows)
        yield Event("baselines", done, len(inputs))
    return scores


@dataclass(frozen=True)
class Demonstrations:
    """The examples that stand in front of every input.

    Attributes:
        prefix: Token ids, the tokenizer's beginning tokens included.
        used: How many examples fitted.
        given: How many there are.
    """

    prefix: tuple[int, ...]
    used: int
    given: int


class Instructed:
    """A group's decoder, asked with the card's instruction and the runs' label words."""

    def __init__(self, plan: GroupPlan, group: Group, examples: Sequence[Example]) -> None:
        """Prepare to answer some items; nothing is trained, so the decoder is always cached."""
        assert group.words is not None
        assert group.instruction is not None
        backbone = group.engine.backbone
        self._plan, self._words = plan, group.words
        self._alone, self._behind = group.instruction
        self._inputs, self._inputs_behind = (e.encode(examples) for e in group.instruction)
        if isinstance(group.engine, CachedEngine):
            group.engine.store.clear()  # what it kept was for training; one budget, not two
        self._engine: Engine = build_engine("cached", backbone, plan.engine, group.words.branches)

    def zero_shot(self, run: RunPlan) -> Generator[Event, None, NDArray[np.float32]]:
        """Score the items by the instruction alone."""
        return (yield from self._answer(run, self._alone, self._inputs, None))

    def in_context(
        self, run: RunPlan, demonstrations: Demonstrations
    ) -> Generator[Event, None, NDArray[np.float32]]:
        """Score the items behind demonstrations."""
        return (yield from self._answer(run, self._behind, self._inputs_behind, demonstrations))

    def demonstrations(self, run: RunPlan) -> Demonstrations:
        """Write a run's examples out with their label words, as many as there is room for.

        Each round takes one example of every class, so that what fits is balanced; the order within
        a round, and of the rounds, is the draw's own random one. An example too long for the room
        that is left is passed over.
        """
        words = self._words.pieces
        longest = max((one.tokens for one in self._inputs), default=0) + max(map(len, words))
        facts = self._engine.backbone.facts
        room = min(run.settings.in_context_tokens, facts.max_positions - longest)
        tokenizer: Any = self._engine.backbone.tokenizer  # transformers' class has more overloads
        between = pieces_behind(tokenizer, BETWEEN_EXAMPLES)
        prefix = self._alone.begin.tolist()
        used = 0
        for example, encoded in self._in_rounds(run):
            label = self._plan.card.labels.index(str(example.label))
            piece = [*np.concatenate(encoded.hard).tolist(), *words[label], *between]
            if len(prefix) + len(piece) <= room:
                prefix += piece
                used += 1
        return Demonstrations(tuple(prefix), used, len(run.draw.train))

    def _in_rounds(self, run: RunPlan) -> list[tuple[Example, Encoded]]:
        """Order a run's examples by rounds over the classes."""
        rng = generator(run.settings.draw_seed or 0, "demonstrations")
        order = rng.permutation(len(run.draw.train)).tolist()
        seen: dict[str | None, int] = {}
        rounds = []
        for index in order:
            label = run.draw.train[index].label
            rounds.append((seen.setdefault(label, 0), index))
            seen[label] += 1
        chosen = [run.draw.train[index] for _, index in sorted(rounds, key=lambda pair: pair[0])]
        return list(zip(chosen, self._behind.encode(chosen), strict=True))

    def _answer(
        self,
        run: RunPlan,
        encoder: Encoder,
        inputs: Sequence[Encoded],
        demonstrations: Demonstrations | None,
    ) -> Generator[Event, None, NDArray[np.float32]]:
        """Score the items, batch by batch, sorted by length across languages."""
        settings = head_of(run.settings)
        assert isinstance(settings, VerbalizerSettings)
        head = VerbalizerHead(self._engine.backbone, self._words, settings)
        neutral = neutral_inputs(settings, encoder, self._plan.card)
        if neutral:
            head = head.calibrated(self._read(neutral, demonstrations))
        scores = np.zeros((len(inputs), len(self._words.pieces)), dtype=np.float32)
        done = 0

        def compute(rows: list[int]) -> NDArray[np.float32]:
            with torch.no_grad():
                states = self._read([inputs[row] for row in rows], demonstrations)
                return head.scores(states).float().cpu().numpy()

        lengths = [one.tokens for one in inputs]
        for rows, values in in_batches(self._engine.allowance, lengths, compute):
            scores[rows] = values
            done += len(rows)
            yield Event("baselines", done, len(inputs))
        return scores

    @torch.no_grad()
    def _read(self, inputs: Sequence[Encoded], demonstrations: Demonstrations | None) -> States:
        """Read inputs alone or behind demonstrations."""
        if demonstrations is None:
            return self._engine.bare(inputs)
        return self._engine.behind(demonstrations.prefix, inputs)
