"""Which of a run's states is kept."""

from torch import Tensor

from polyprompt.training.member import Member


class BestState:
    """The parts of a run at the least dev loss so far, if that is how its state is chosen.

    Attributes:
        loss: The least dev loss so far.
        state: The parts' state dicts at it, by the parts' names; None where none was offered.
    """

    def __init__(self, member: Member) -> None:
        """Watch a run."""
        self._member = member
        self.loss = float("inf")
        self.state: dict[str, dict[str, Tensor]] | None = None

    def offer(self, loss: float) -> None:
        """Remember the present state if its dev loss is the least."""
        if self._member.settings.select == "dev_loss" and loss < self.loss:
            self.loss = loss
            self.state = {
                slot: {name: value.clone() for name, value in part.state_dict().items()}
                for slot, part in self._member.parts.items()
            }

    def restore(self) -> None:
        """Put the remembered state back; the last one stays where none was offered."""
        if self.state is not None:
            for slot, part in self._member.parts.items():
                part.load_state_dict(self.state[slot])
