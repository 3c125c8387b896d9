"""The engines' common face, and the choice between them.

Axes: R runs, B inputs, P soft tokens of a run, D width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from polyprompt.data.encoded import Encoded
from polyprompt.engine.arrangement import Arranged, Shape
from polyprompt.engine.memory import Allowance, in_batches
from polyprompt.errors import ConfigError
from polyprompt.families import Attention
from polyprompt.heads.head import States
from polyprompt.models.backbone import Backbone
from polyprompt.models.values import Frozen
from polyprompt.part_settings import Reach


@dataclass(frozen=True)
class Deep:
    """The deep prompts of a run, those in front of the input before those behind it.

    Attributes:
        layers: Keys and values of every layer, J P K.
        suffix: How many of the places stand behind the frozen tokens; the others in front.
        end: Position at which the frozen tokens end, as in ``arrangement.Shape``.
    """

    layers: tuple[tuple[Float[Tensor, "J P K"], Float[Tensor, "J P K"]], ...]
    suffix: int
    end: int | None = None

    @property
    def places(self) -> int:
        """Places of a layer (P)."""
        return self.layers[0][0].shape[1]


@dataclass(frozen=True)
class Prompts:
    """The soft tokens and deep prompts of R runs.

    Attributes:
        vectors: One tensor per run, its slots one after the other.
        lengths: Soft tokens of each slot, per run, in the layout's order.
        deep: Deep prompts per run, None for none; empty where no run has any.
    """

    vectors: tuple[Float[Tensor, "_ D"], ...]
    lengths: tuple[tuple[int, ...], ...]
    deep: tuple[Deep | None, ...] = ()

    def __len__(self) -> int:
        """Count the runs (R)."""
        return len(self.vectors)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """How each run lays its inputs out."""
        ends = {one.end for one in self.deep if one is not None}
        # a run without deep prompts reads the same frozen tokens as the others where it can
        common = next(iter(ends)) if len(ends) == 1 else None
        found = []
        for lengths, deep in zip(self.lengths, self.deep or (None,) * len(self), strict=True):
            if deep is None:
                found.append(Shape(lengths, end=common))
            else:
                prefix = deep.places - deep.suffix
                found.append(Shape(lengths, prefix, deep.suffix, deep.end))
        return tuple(found)

    def only(self, run: int) -> "Prompts":
        """Give one run's prompts as a group of one."""
        deep = (self.deep[run],) if self.deep else ()
        return Prompts((self.vectors[run],), (self.lengths[run],), deep)

    def and_bare(self, backbone: Backbone) -> "Prompts":
        """Add a last run without prompts, which reads as the frozen backbone does."""
        nothing = backbone.table[:0].float().to(backbone.device)
        deep = (*self.deep, None) if self.deep else ()
        return Prompts((*self.vectors, nothing), (*self.lengths, ()), deep)

    def starts(self) -> list[int]:
        """Give the row at which each run begins when all vectors stand below one another."""
        sizes = [len(vectors) for vectors in self.vectors]
        return [sum(sizes[:run]) for run in range(len(sizes))]

    @property
    def live(self) -> int:
        """Places that the runs add to an input, all together."""
        deep = sum(one.places for one in self.deep if one is not None)
        return sum(map(len, self.vectors)) + deep


class Engine(ABC):
    """Computes states of inputs under the prompts of one or several runs."""

    def __init__(
        self,
        backbone: Backbone,
        branches: Sequence[Sequence[int]] = (),
        allowance: Allowance | None = None,
    ) -> None:
        """Compute on a backbone.

        Args:
            backbone: Frozen.
            branches: Continuations of every input, as token ids: each is read behind the input's
                last token, and none sees another. They cost their own tokens, not the input again.
            allowance: How much is computed at once.
        """
        self.backbone = backbone
        self.allowance = allowance or Allowance()
        self.branches = tuple(tuple(branch) for branch in branches)

    def each(self, inputs: Sequence[Encoded], runs: Sequence[int], prompts: Prompts) -> States:
        """Read input i with the prompts of run ``runs[i]``; gradients flow into the prompts.

        Returns:
            N = len(inputs) states, in order.
        """

        def some(rows: Sequence[int]) -> States:
            return self._each([inputs[row] for row in rows], [runs[row] for row in rows], prompts)

        return self._by_variant(inputs, some, 1)

    def every(self, inputs: Sequence[Encoded], prompts: Prompts) -> States:
        """Read every input with the prompts of every run.

        Returns:
            N = R × B states, run by run.
        """

        def some(rows: Sequence[int]) -> States:
            return self._every([inputs[row] for row in rows], prompts)

        return self._by_variant(inputs, some, len(prompts))

    def _by_variant(
        self, inputs: Sequence[Encoded], read: Callable[[Sequence[int]], States], runs: int
    ) -> States:
        """Read inputs with the frozen attachments of their own languages.

        Args:
            inputs: Of any languages.
            read: Reads some of them, run by run.
            runs: How often each input is read.
        """
        of_variant: dict[str, list[int]] = {}
        for row, encoded in enumerate(inputs):
            of_variant.setdefault(encoded.variant, []).append(row)
        parts: list[States] = []
        order: list[int] = []
        for variant, rows in of_variant.items():
            with self.backbone.reading_as(variant):
                parts.append(read(rows))
            order += [run * len(inputs) + row for run in range(runs) for row in rows]
        joined = States.joined(parts)
        return joined if len(parts) == 1 else joined.rows(np.argsort(order).tolist())

    @abstractmethod
    def _each(self, inputs: Sequence[Encoded], runs: Sequence[int], prompts: Prompts) -> States:
        """Read inputs of one variant as ``each`` does."""

    @abstractmethod
    def _every(self, inputs: Sequence[Encoded], prompts: Prompts) -> States:
        """Read inputs of one variant as ``every`` does."""

    @abstractmethod
    def fronts(self, inputs: Sequence[Encoded], prompts: Prompts) -> tuple[list[Arranged], Frozen]:
        """Lay inputs out for one run, and read what stands in front of all that is live, B each."""

    @abstractmethod
    def behind(self, prefix: Sequence[int], inputs: Sequence[Encoded]) -> States:
        """Read inputs without soft prompts behind the same hard tokens, without gradient.

        Args:
            prefix: Token ids that stand in front of every input.
            inputs: Encoded without the tokenizer's beginning tokens.

        Returns:
            N = len(inputs) states, in order.
        """

    @abstractmethod
    def keep(self, inputs: Sequence[Encoded], shape: Shape) -> None:
        """Prepare inputs that will be read many times, laid out in this way."""

    def bare(self, inputs: Sequence[Encoded]) -> States:
        """Read inputs without any soft prompt, as the frozen baselines do.

        Returns:
            N = len(inputs) states, in order.
        """
        nothing = Prompts((), ()).and_bare(self.backbone)
        return self.read(inputs, 0, lambda some: self.every(some, nothing))

    @torch.no_grad()
    def read(
        self,
        inputs: Sequence[Encoded],
        live: int,
        compute: Callable[[Sequence[Encoded]], States],
    ) -> States:
        """Read inputs without gradient, in passes of bounded size and of similar length.

        Args:
            inputs: At least one.
            live: Tokens that each of them has besides its hard ones.
            compute: Reads some of them.

        Returns:
            N = len(inputs) states, in order.
        """
        own = live + sum(map(len, self.branches))
        sizes = [encoded.tokens + encoded.continued + own for encoded in inputs]
        order: list[int] = []
        parts: list[States] = []
        for rows, states in in_batches(
            self.allowance, sizes, lambda rows: compute([inputs[row] for row in rows])
        ):
            order += rows
            parts.append(states)
        return States.joined(parts).rows(np.argsort(order).tolist())

    def look_up(self, codes: Tensor, table: Tensor) -> Tensor:
        """Turn codes into vectors: words from the backbone, soft tokens from ``table``.

        Args:
            codes: Token ids, or -1 - i for row i of ``table``.
            table: Soft tokens of all runs, one below the other.
        """
        words = self.backbone.embed(codes.clamp(min=0))
        if not len(table):
            return words
        soft = table[(-1 - codes).clamp(min=0)]
        return torch.where((codes < 0)[..., None], soft.to(words.dtype), words)


@dataclass(frozen=True)
class Choice:
    """Which engine is used, and why.

    Attributes:
        kind: ``cached`` or ``direct``.
        reason: One sentence for the log.
    """

    kind: str
    reason: str


def choose(asked: str, attention: Attention, reaches: Sequence[Reach]) -> Choice:
    """Choose the engine from what the parts can reach.

    Args:
        asked: ``auto``, ``cached`` or ``direct``.
        attention: How the backbone is run.
        reaches: Of the run's trained and frozen parts.

    Raises:
        ConfigError: The cached engine is asked for where it would not be exact.
    """
    if attention is Attention.FULL:
        obstacle = "with full attention the words see the soft prompt"
    elif Reach.WEIGHTS in reaches:
        obstacle = "a part changes the weights"
    elif Reach.WHOLE_SEQUENCE in reaches:
        obstacle = "a part stands in front of text that sees it"
    else:
        obstacle = ""
    if asked == "cached" and obstacle:
        raise ConfigError(
            f"The cached engine would not be exact: {obstacle}. Set engine.kind=auto, or change "
            "the layout or backbone.attention."
        )
    if asked == "direct":
        return Choice("direct", "the direct engine was asked for")
    if obstacle:
        return Choice("direct", f"direct engine: {obstacle}")
    return Choice("cached", "cached engine: nothing trained can reach the text, it is encoded once")
