"""What all parts have in common: parameters an optimiser moves, and tensors that answer again."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from polyprompt.models.backbone import Backbone


class TrainablePart(nn.Module, ABC):
    """Something that is added to a backbone, or trained in it."""

    is_kept: bool = True
    """Whether its tensors go into the run's folder."""
    step: int | None = None
    """Which step of training a pass with gradient belongs to; None outside of training."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Give what has to be saved to answer again; whatever served training alone is folded."""

    def facts(self) -> dict[str, str]:
        """Say what has to be known, besides the tensors, to compute with them."""
        return {}


class WeightPart(TrainablePart):
    """A part that changes what the backbone computes of every token."""

    @abstractmethod
    def finish(self) -> None:
        """End training; from here on the backbone computes with what was trained."""

    @abstractmethod
    def copy_to(self, backbone: Backbone) -> None:
        """Let another copy of the backbone compute with what was trained."""

    def take_away(self) -> None:
        """Leave the backbones as they were, where the part only stands beside their weights."""
        return
