"""Full fine-tuning: all parameters of the backbone, its word tables included."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from polyprompt.models.backbone import Backbone
from polyprompt.models.unfrozen import take_over
from polyprompt.tuning.part import WeightPart


class Full(WeightPart):
    """All parameters of a backbone, trained in place."""

    def __init__(
        self, backbone: Backbone, ids: Iterable[int] | None = None, *, is_kept: bool = True
    ) -> None:
        """Unfreeze a backbone.

        Args:
            backbone: Changed by training; load it anew for another run.
            ids: Words of whose rows alone the word tables are trained, as in
                ``Backbone.unfreeze``; None for whole tables.
            is_kept: Whether the weights go into the run's folder.
        """
        super().__init__()
        unfrozen = backbone.unfreeze(ids)
        self.is_kept = is_kept
        self._finish = backbone.freeze
        self._names, self._ids = tuple(unfrozen.parameters), unfrozen.ids()
        self.trained = nn.ParameterList(unfrozen.parameters.values())

    def tensors(self) -> dict[str, Tensor]:
        """Give the parameters by the model's own names; rows of a table with their words."""
        return dict(zip(self._names, self.trained, strict=True)) | self._ids

    def finish(self) -> None:
        """Write trained rows back and freeze everything."""
        self._finish()

    def copy_to(self, backbone: Backbone) -> None:
        """Write the parameters into another copy of the backbone, in its own precision."""
        take_over(backbone.model, self.tensors())


def apply_full(backbone: Backbone, tensors: Mapping[str, Tensor]) -> None:
    """Write saved parameters into a loaded backbone.

    Raises:
        KeyError: They are of another kind of model.
        RuntimeError: A shape differs.
    """
    take_over(backbone.model, tensors)
