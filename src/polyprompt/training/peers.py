"""Processes that compute one group of runs together: each takes its share of rows and sentences.

All hold the same parameters and take the same steps; gradients are added up before each of them, so
that a step is the one that a single process would take, but for the order of sums.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from polyprompt.errors import ConfigError


class Peers(ABC):
    """This process and those beside it.

    Attributes:
        count: How many there are, this one included.
        index: Which of them this one is; 0 writes the results.
    """

    count: int
    index: int

    @property
    def share(self) -> slice:
        """Which of a list's entries this process computes."""
        return slice(self.index, None, self.count)

    @abstractmethod
    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up the gradients of all processes, in place; what has none anywhere keeps none."""

    @abstractmethod
    def added(self, numbers: Sequence[float]) -> list[float]:
        """Add up numbers over all processes."""

    @abstractmethod
    def same(self, value: Any) -> Any:
        """Give the value that process 0 has, to all."""

    @abstractmethod
    def gathered(self, value: Any) -> list[Any]:
        """Collect the values of all processes, in their order."""


class Alone(Peers):
    """One process, which has nobody to ask."""

    count, index = 1, 0

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Leave gradients as they are."""

    def added(self, numbers: Sequence[float]) -> list[float]:
        """Give the numbers."""
        return list(numbers)

    def same(self, value: Any) -> Any:
        """Give the value."""
        return value

    def gathered(self, value: Any) -> list[Any]:
        """Give the value."""
        return [value]


class Together(Peers):
    """Processes that torchrun or accelerate has started."""

    def __init__(self, count: int | None) -> None:
        """Find the others.

        Args:
            count: How many there have to be; None takes whatever number was started, but not one.

        Raises:
            ConfigError: There are fewer, or more.
        """
        from accelerate import PartialState

        self._state = PartialState(cpu=not torch.cuda.is_available())
        self.count, self.index = self._state.num_processes, self._state.process_index
        if self.count != (count or max(self.count, 2)):
            wanted = count or 2
            raise ConfigError(
                f"launch.kind: together needs {wanted} processes, and this program runs as "
                f"{self.count}. Start it with: torchrun --nproc-per-node {wanted} -m "
                "polyprompt.cli.main run STUDY … ('accelerate launch --cpu --num_processes 2' "
                "starts one only)"
            )

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up the gradients of all processes."""
        from accelerate.utils import reduce

        has = torch.tensor([float(p.grad is not None) for p in parameters])
        for parameter, anywhere in zip(parameters, self._sum(has).tolist(), strict=True):
            if not anywhere:
                continue
            if parameter.grad is None:  # none of this process's rows reached it
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad = reduce(parameter.grad, "sum")  # type: ignore[assignment]  # its type is that of all nested tensors

    def added(self, numbers: Sequence[float]) -> list[float]:
        """Add up numbers over all processes."""
        return self._sum(torch.tensor(numbers, dtype=torch.float64)).tolist()

    def _sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Add a small tensor up, where the processes exchange tensors."""
        from accelerate.utils import reduce

        found = reduce(tensor.to(self._state.device), "sum")
        assert isinstance(found, torch.Tensor)
        return found.cpu()

    def same(self, value: Any) -> Any:
        """Give the value that process 0 has."""
        from accelerate.utils import broadcast_object_list

        held = [value]
        broadcast_object_list(held, from_process=0)
        return held[0]

    def gathered(self, value: Any) -> list[Any]:
        """Collect the values of all processes."""
        from accelerate.utils import gather_object

        return gather_object([value])


ALONE = Alone()
