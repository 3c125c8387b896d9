"""LoRA: low-rank additions to the backbone's projections (Hu et al. 2022), by the library PEFT."""

from collections.abc import Mapping
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor, nn

from polyprompt.errors import BackboneError, ConfigError, listing
from polyprompt.models.backbone import Backbone
from polyprompt.part_settings import LoraSettings
from polyprompt.tuning.part import WeightPart


class Lora(WeightPart):
    """Low-rank additions, trained; the backbone's own parameters stay as they are."""

    def __init__(
        self, backbone: Backbone, settings: LoraSettings, rng: np.random.Generator
    ) -> None:
        """Put additions into a backbone; at first they add nothing.

        Args:
            backbone: Changed in place; load it anew for another run.
            settings: Their rank, scale and places.
            rng: Of their initial values.
        """
        super().__init__()
        self._settings = settings
        added = _inject(backbone, settings, int(rng.integers(2**31)))
        self._names = tuple(added)
        self.trained = nn.ParameterList(added.values())

    def tensors(self) -> dict[str, Tensor]:
        """Give the additions by the names PEFT gives them in the model."""
        return dict(zip(self._names, self.trained, strict=True))

    def finish(self) -> None:
        """Freeze the additions, which stay in place."""
        for parameter in self.trained:
            parameter.requires_grad = False

    def copy_to(self, backbone: Backbone) -> None:
        """Put the trained additions into another copy of the backbone."""
        apply_lora(backbone, self.tensors(), self._settings)


@torch.no_grad()
def apply_lora(backbone: Backbone, tensors: Mapping[str, Tensor], settings: LoraSettings) -> None:
    """Put saved additions into a loaded backbone.

    Raises:
        KeyError: They are of another kind of model.
        RuntimeError: A shape differs.
    """
    for name, parameter in _inject(backbone, settings, 0).items():
        parameter.copy_(tensors[name])
        parameter.requires_grad = False


def _inject(backbone: Backbone, settings: LoraSettings, seed: int) -> dict[str, nn.Parameter]:
    """Put additions into a backbone's layers; returns their parameters by name.

    Raises:
        BackboneError: PEFT is not installed.
        ConfigError: The backbone has no projection of the names asked for.
    """
    if find_spec("peft") is None:
        raise BackboneError("A part of kind lora needs PEFT: pip install 'polyprompt[peft]'.")
    from peft import LoraConfig, inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D

    targets = _targets(backbone, settings)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=0.0,
        target_modules=targets,
        fan_in_fan_out=isinstance(backbone.model.get_submodule(targets[0]), Conv1D),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, backbone.model)
    named = backbone.model.named_parameters()
    return {name: p for name, p in named if ".lora_" in name}


def _targets(backbone: Backbone, settings: LoraSettings) -> list[str]:
    """Find the projections of a backbone's layers.

    Raises:
        ConfigError: There is none of the names asked for.
    """
    from transformers.pytorch_utils import Conv1D

    inside = {id(m) for layer in backbone.layers for m in layer.modules()}
    found = [
        name
        for name, module in backbone.model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and id(module) in inside
    ]
    wanted = settings.targets
    chosen = [n for n in found if wanted is None or any(n.endswith(end) for end in wanted)]
    if not chosen:
        ends = sorted({name.rsplit(".", 1)[-1] for name in found})
        raise ConfigError(
            f"lora: {backbone.facts.name} has no projection that ends with "
            f"{listing(list(wanted or ()))}. It has: {listing(ends)}. Set targets."
        )
    return chosen
