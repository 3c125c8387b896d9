"""One run as a member of a group that trains together."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from polyprompt.capabilities import TrainingSettings
from polyprompt.data.batching import epoch_batches
from polyprompt.data.corruption import CorruptedInputs
from polyprompt.data.encoded import Encoded, words_of
from polyprompt.engine.engine import Deep, Prompts
from polyprompt.heads.classifier import IGNORED
from polyprompt.heads.head import Head
from polyprompt.records import Example
from polyprompt.seeds import generator
from polyprompt.tuning.deep_prompt import DeepPrompt, KeysAndValues
from polyprompt.tuning.part import TrainablePart
from polyprompt.tuning.soft_prompt import SoftPrompt


@dataclass
class Member:
    """A run's own parts, head and examples.

    Attributes:
        parts: By name; soft prompts in the layout's order.
        head: Before it has taken anything from the training examples.
        train: Encoded training examples.
        train_labels: Their classes.
        dev: Encoded dev examples; empty to keep the last state.
        dev_labels: Their classes.
        settings: Its own rates, epochs and batch size.
        seed: Of the order of its examples.
        width: Of the backbone's embedding table (D).
        neutral: Inputs without content, for heads that are calibrated by them.
        trained_by_part: Numbers that are trained, by the part's name; counted while they can be
            where it is not given.
        text_end: Position at which texts end in front of a deep prompt behind them; None lets them
            begin at the first.
        step: Of training, which its next examples are for.
    """

    parts: dict[str, TrainablePart]
    head: Head
    train: Sequence[Encoded]
    train_labels: Tensor
    dev: Sequence[Encoded]
    dev_labels: Tensor
    settings: TrainingSettings
    seed: int
    width: int
    neutral: Sequence[Encoded] = ()
    trained_by_part: dict[str, int] = field(default_factory=dict)
    text_end: int | None = None
    step: int = 0

    def __post_init__(self) -> None:
        """Count what is trained, as long as it is; no text is hidden yet."""
        self._drawn_for, self._drawn = -1, dict[int, Encoded]()
        self.trained_by_part = self.trained_by_part or {
            name: sum(p.numel() for p in part.parameters() if p.requires_grad)
            for name, part in self.parts.items()
        }

    @property
    def trained_count(self) -> int:
        """Numbers that are trained in all."""
        return sum(self.trained_by_part.values())

    @property
    def prompts(self) -> list[SoftPrompt]:
        """Its soft prompts, in the layout's order."""
        return [part for part in self.parts.values() if isinstance(part, SoftPrompt)]

    @property
    def deep_prompts(self) -> list[DeepPrompt]:
        """Its deep prompts."""
        return [part for part in self.parts.values() if isinstance(part, DeepPrompt)]

    @property
    def peak_rate(self) -> float:
        """Highest learning rate, which the plan has written out."""
        assert self.settings.learning_rate is not None
        return self.settings.learning_rate

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass over the training examples."""
        return -(-len(self.train) // self.settings.batch_size)

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        steps = self.steps_per_epoch * self.settings.epochs
        return min(steps, self.settings.max_steps or steps)

    def batches(self) -> Iterator[list[int]]:
        """Give the rows of every step, shuffled anew each epoch."""
        left = self.steps
        epoch = 0
        while left > 0:
            rng = generator(self.seed, "order", epoch)
            for batch in epoch_batches(len(self.train), self.settings.batch_size, rng):
                if left == 0:
                    return
                left -= 1
                yield batch
            epoch += 1

    def examples(self, rows: Sequence[int]) -> list[Encoded]:
        """Give training examples as the step's epoch has them."""
        if isinstance(self.train, CorruptedInputs):
            if self._drawn_for != self.step:
                self._drawn_for, self._drawn = self.step, {}
            epoch = self.step // self.steps_per_epoch
            for row in rows:
                if row not in self._drawn:
                    self._drawn[row] = self.train.drawn(row, epoch)
            return [self._drawn[row] for row in rows]
        return [self.train[row] for row in rows]

    def labels(self, rows: Sequence[int], inputs: Sequence[Encoded]) -> Tensor:
        """Give what training examples are to be answered with.

        Args:
            rows: Which they are.
            inputs: The same, as ``examples`` gave them.
        """
        if isinstance(self.train, CorruptedInputs):
            return word_tensor(inputs)
        return self.train_labels[list(rows)]

    def parameters_by_rate(self) -> dict[float, list[torch.nn.Parameter]]:
        """Sort what an optimiser may move by its highest learning rate."""
        found: dict[float, list[torch.nn.Parameter]] = {self.peak_rate: []}
        for name, part in self.parts.items():
            rate = self.settings.learning_rates.get(name, self.peak_rate)
            found.setdefault(rate, []).extend(p for p in part.parameters() if p.requires_grad)
        return {rate: parameters for rate, parameters in found.items() if parameters}

    def trained_parameters(self) -> list[torch.nn.Parameter]:
        """Give the parameters that an optimiser may move."""
        return [p for part in self.parts.values() for p in part.parameters() if p.requires_grad]


@contextmanager
def in_training(members: Sequence[Member], step: int) -> Iterator[None]:
    """Let parts do what they do in training alone: dropout."""
    parts = [part for member in members for part in member.parts.values()]
    for part in parts:
        part.step = step
    try:
        yield
    finally:
        for part in parts:
            part.step = None


def prompts_of(members: Sequence[Member]) -> Prompts:
    """Collect the soft tokens of a group for the engine."""
    vectors, lengths = [], []
    for member in members:
        soft = member.prompts
        vectors.append(torch.cat([p() for p in soft]) if soft else torch.zeros(0, member.width))
        lengths.append(tuple(prompt.length for prompt in soft))
    deep = tuple(
        joined_deep([(part.position, part()) for part in own.deep_prompts], own.text_end)
        for own in members
    )
    none = all(one is None for one in deep)
    return Prompts(tuple(vectors), tuple(lengths), () if none else deep)


def joined_deep(
    parts: Sequence[tuple[Literal["prefix", "suffix"], KeysAndValues]], end: int | None
) -> Deep | None:
    """Put deep prompts one behind the other; None if there are none.

    Args:
        parts: Position, and keys and values, of each of them.
        end: Position at which the text ends in front of a suffix.
    """
    if not parts:
        return None
    layers = [own for _, own in sorted(parts, key=lambda part: part[0])]
    joined = tuple(
        (torch.cat([keys for keys, _ in of_layer], 1), torch.cat([own for _, own in of_layer], 1))
        for of_layer in zip(*layers, strict=True)
    )
    suffix = sum(own[0][0].shape[1] for position, own in parts if position == "suffix")
    return Deep(joined, suffix, end if suffix else None)


def word_tensor(inputs: Sequence[Encoded]) -> Tensor:
    """Collect the words that are to be guessed of inputs, N W, and then ``IGNORED``."""
    rows = [torch.tensor(words_of(one), dtype=torch.long) for one in inputs]
    if not rows:
        return torch.zeros((0, 0), dtype=torch.long)
    return pad_sequence(rows, batch_first=True, padding_value=IGNORED)


def label_tensor(
    examples: Sequence[Example], inputs: Sequence[Encoded], names: Sequence[str]
) -> Tensor:
    """Number labels in the task's order.

    Args:
        examples: With answers.
        inputs: The same, encoded.
        names: The task's labels.

    Returns:
        N; where words are tagged N W, of the words that are read, and then ``IGNORED``; where
        words are guessed, these, and none for texts that are hidden anew each time.
    """
    index = {name: i for i, name in enumerate(names)}
    if not names:
        return word_tensor(() if isinstance(inputs, CorruptedInputs) else inputs)
    if not any(example.words for example in examples):
        numbers = [index[e.label] for e in examples if e.label is not None]
        return torch.tensor(numbers, dtype=torch.long)
    rows = []
    for example, encoded in zip(examples, inputs, strict=True):
        read = (encoded.reads >= 0).tolist()
        pairs = zip(example.tags, read, strict=True)
        rows.append(torch.tensor([index[tag] for tag, is_read in pairs if is_read]).long())
    return pad_sequence(rows, batch_first=True, padding_value=IGNORED)
