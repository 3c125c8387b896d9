"""One run as a member of a group that trains together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from polyprompt.capabilities import TrainingSettings
from polyprompt.data.batching import epoch_batches
from polyprompt.data.encoding import Encoded
from polyprompt.engine.engine import Prompts
from polyprompt.heads.head import Head
from polyprompt.seeds import generator
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
        trained_count: Numbers that are trained; counted while they can be where it is not given.
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
    trained_count: int = 0

    def __post_init__(self) -> None:
        """Count what is trained, as long as it is."""
        self.trained_count = self.trained_count or sum(
            parameter.numel() for parameter in self.trained_parameters()
        )

    @property
    def prompts(self) -> list[SoftPrompt]:
        """Its soft prompts, in the layout's order."""
        return [part for part in self.parts.values() if isinstance(part, SoftPrompt)]

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

    def trained_parameters(self) -> list[torch.nn.Parameter]:
        """Give the parameters that an optimiser may move."""
        return [p for part in self.parts.values() for p in part.parameters() if p.requires_grad]


def prompts_of(members: Sequence[Member]) -> Prompts:
    """Collect the soft tokens of a group for the engine."""
    vectors, lengths = [], []
    for member in members:
        soft = member.prompts
        vectors.append(torch.cat([p() for p in soft]) if soft else torch.zeros(0, member.width))
        lengths.append(tuple(prompt.length for prompt in soft))
    return Prompts(tuple(vectors), tuple(lengths))


def label_tensor(labels: Sequence[str | None], names: Sequence[str]) -> Tensor:
    """Number labels in the task's order."""
    index = {name: i for i, name in enumerate(names)}
    numbers = np.array([index[label] for label in labels if label is not None], dtype=np.int64)
    return torch.from_numpy(numbers)
