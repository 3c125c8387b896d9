"""Workers elsewhere, whatever starts them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from polyprompt.experiments.events import Event
from polyprompt.experiments.launch.jobs import Job, Outcome

Message = tuple[int, Event | Outcome]
"""Which worker, and what it says."""


class Pool(ABC):
    """Numbered workers that compute jobs; of each job they tell the progress, and then the outcome.

    A worker that is lost tells so by an outcome, and can be started again.
    """

    @abstractmethod
    def start(self, worker: int) -> None:
        """Start a worker, or one in the place of one that was lost."""

    @abstractmethod
    def send(self, worker: int, job: Job) -> None:
        """Give a worker that has nothing to do a job."""

    @abstractmethod
    def messages(self, timeout_seconds: float) -> Sequence[Message]:
        """Wait for something to be told, no longer than a timeout."""

    @abstractmethod
    def close(self) -> None:
        """End all workers; what they are at is broken off."""
