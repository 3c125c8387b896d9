"""Bottleneck adapters behind sub-layers (Houlsby et al. 2019; Pfeiffer et al. 2020), our own.

Axes: S sub-layers, D width of the stream, W width of the bottleneck.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from polyprompt.errors import ConfigError, DataError
from polyprompt.models.attachments import Attachment, Position
from polyprompt.models.backbone import Backbone
from polyprompt.part_settings import BottleneckAdapterSettings
from polyprompt.tuning.part import WeightPart

_ACTIVATIONS = {
    "relu": nn.functional.relu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
}
_NAMES = ("down", "down_bias", "up", "up_bias")


class Bottleneck(Attachment):
    """up(activation(down(z))) behind each of S sub-layers.

    Attributes:
        weights: ``down`` (S W D), ``down_bias`` (S W), ``up`` (S D W) and ``up_bias`` (S D).
    """

    def __init__(self, weights: Mapping[str, Tensor], settings: BottleneckAdapterSettings) -> None:
        """Compute with weights; whatever they become later counts."""
        self.weights = dict(weights)
        self._positions = positions_of(settings)
        self._activation = _ACTIVATIONS[settings.activation]

    def added(
        self, layer: int, position: Position, stream: Float[Tensor, "... D"]
    ) -> Float[Tensor, "... D"] | None:
        """Compute what is added behind a sub-layer, in the adapter's precision."""
        if position not in self._positions:
            return None
        at = layer * len(self._positions) + self._positions.index(position)
        down, down_bias, up, up_bias = (self.weights[name][at] for name in _NAMES)
        inner = self._activation(nn.functional.linear(stream.to(down.dtype), down, down_bias))
        return nn.functional.linear(inner, up, up_bias).to(stream.dtype)


class OfLanguages(Attachment):
    """A frozen adapter per language: a text is read with that of its own, if it has one."""

    def __init__(self, backbone: Backbone, adapters: Mapping[str, Bottleneck]) -> None:
        """Choose among adapters by what ``Backbone.variant`` says."""
        self._backbone, self.adapters = backbone, dict(adapters)

    def added(
        self, layer: int, position: Position, stream: Float[Tensor, "... D"]
    ) -> Float[Tensor, "... D"] | None:
        """Compute what the adapter of the pass's language adds."""
        own = self.adapters.get(self._backbone.variant)
        return None if own is None else own.added(layer, position, stream)


class BottleneckAdapter(WeightPart):
    """A bottleneck adapter that is trained, or stays as it began."""

    def __init__(
        self, backbone: Backbone, settings: BottleneckAdapterSettings, rng: np.random.Generator
    ) -> None:
        """Put an adapter behind a backbone's sub-layers.

        Args:
            backbone: Its weights stay as they are.
            settings: Where it stands, and its size.
            rng: Of its initial values.

        Raises:
            BackboneError: It cannot stand there in this model.
        """
        super().__init__()
        self.settings = settings
        width, layers = backbone.stream_width, backbone.attachments.layers
        sites = layers * len(positions_of(settings))
        narrow = max(round(width / settings.reduction), 1)
        bound = settings.initial.bound
        initial = {
            "down": rng.normal(0, bound, (sites, narrow, width)),
            "down_bias": np.zeros((sites, narrow)),
            "up": rng.normal(0, bound, (sites, width, narrow)),
            "up_bias": np.zeros((sites, width)),
        }
        for name, value in initial.items():
            weight = torch.from_numpy(value).float().to(backbone.device)
            setattr(self, name, nn.Parameter(weight, requires_grad=settings.trained))
        self._put(backbone)

    def tensors(self) -> dict[str, Tensor]:
        """Give the weights."""
        return {name: getattr(self, name) for name in _NAMES}

    def facts(self) -> dict[str, str]:
        """Say what has to be known to compute with the weights."""
        return facts_of(self.settings)

    def finish(self) -> None:
        """Freeze the weights, which stay in place."""
        self.requires_grad_(requires_grad=False)

    def copy_to(self, backbone: Backbone) -> None:
        """Let another copy of the backbone compute with the same weights."""
        self._put(backbone)

    def take_away(self) -> None:
        """Leave the backbones as they were."""
        for backbone, attachment in self._places:
            backbone.attachments.take_away(attachment)
        self._places = []

    @torch.no_grad()
    def resume(self, saved: Mapping[str, Tensor], where: str) -> None:
        """Go on from a saved adapter.

        Args:
            saved: Its tensors.
            where: They were read, for the message.

        Raises:
            DataError: They are of another size.
        """
        check_shapes(saved, {n: tuple(t.shape) for n, t in self.tensors().items()}, where)
        for name, value in self.tensors().items():
            value.copy_(saved[name])

    def _put(self, backbone: Backbone) -> None:
        """Stand behind the sub-layers of a backbone."""
        places: list[tuple[Backbone, Attachment]] = getattr(self, "_places", [])
        attachment = attach(backbone, self.tensors(), self.settings)
        self._places = [*places, (backbone, attachment)]


def attach(
    backbone: Backbone, tensors: Mapping[str, Tensor], settings: BottleneckAdapterSettings
) -> Bottleneck:
    """Let a loaded backbone compute with an adapter, behind what stands there already.

    Raises:
        BackboneError: It cannot stand there in this model.
    """
    backbone.attachments.check(positions_of(settings), backbone.facts.name)
    attachment = Bottleneck(tensors, settings)
    backbone.attachments.put(attachment)
    return attachment


def positions_of(settings: BottleneckAdapterSettings) -> tuple[Position, ...]:
    """Name the sub-layers that an adapter stands behind."""
    return ("attention", "feed_forward") if settings.position == "both" else ("feed_forward",)


def facts_of(settings: BottleneckAdapterSettings) -> dict[str, str]:
    """Say what has to be known, besides its tensors, to compute with an adapter."""
    return {
        "kind": settings.kind,
        "position": settings.position,
        "reduction": f"{settings.reduction:g}",
        "activation": settings.activation,
    }


def saved_adapter(
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, str],
    settings: BottleneckAdapterSettings,
    backbone: Backbone,
    where: str,
) -> Bottleneck:
    """Build a frozen adapter from what was saved of it.

    Args:
        tensors: Of the file.
        facts: Of the file; what they say must be what the settings say.
        settings: Of the run that uses it.
        backbone: For the sizes.
        where: The file.

    Raises:
        ConfigError: The settings say something else than the file.
        DataError: The file is of another backbone, or no adapter.
    """
    own = facts_of(settings)
    other = [name for name in own if name != "reduction" and facts.get(name) != own[name]]
    if facts and other:
        name = other[0]
        raise ConfigError(
            f"The adapter {where} has {name} '{facts.get(name)}', the settings say '{own[name]}'. "
            f"Set {name} to '{facts.get(name)}'."
        )
    sites = backbone.attachments.layers * len(positions_of(settings))
    width = backbone.stream_width
    narrow = tensors["down"].shape[1] if tensors.get("down") is not None else 0
    shapes: dict[str, Sequence[int]] = {
        "down": (sites, narrow, width),
        "down_bias": (sites, narrow),
        "up": (sites, width, narrow),
        "up_bias": (sites, width),
    }
    check_shapes(tensors, shapes, where)
    on_device = {name: tensors[name].float().to(backbone.device) for name in _NAMES}
    return Bottleneck(on_device, settings)


def check_shapes(
    saved: Mapping[str, Tensor], expected: Mapping[str, Sequence[int]], where: str
) -> None:
    """Find out whether saved weights are of an adapter of a size.

    Raises:
        DataError: They are not.
    """
    for name, shape in expected.items():
        if name not in saved:
            raise DataError(
                f"{where} is no bottleneck adapter: it has no '{name}'. Expected "
                f"{', '.join(expected)}, as runs save them under parts/."
            )
        if tuple(saved[name].shape) != tuple(shape):
            raise DataError(
                f"The adapter {where} does not fit: '{name}' has shape "
                f"{tuple(saved[name].shape)}, expected {tuple(shape)} (sub-layers, width of the "
                "bottleneck, width of the backbone). It was saved for another backbone, position "
                "or reduction."
            )
