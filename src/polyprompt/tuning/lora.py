"""LoRA: low-rank additions to the backbone's projections (Hu et al. 2022), by the library PEFT."""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from polyprompt.errors import BackboneError, ConfigError, DataError, listing
from polyprompt.models.backbone import Backbone
from polyprompt.part_settings import LoraSettings
from polyprompt.tuning.part import WeightPart

OF_PEFT = "adapter_config.json"
IN_MODEL = "base_model.model."
"""Stands before the names in PEFT's files."""
_PLAIN = {
    "auto_mapping", "base_model_name_or_path", "exclude_modules", "fan_in_fan_out",
    "inference_mode", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout",
    "megatron_core", "peft_type", "peft_version", "qalora_group_size", "r", "revision",
    "target_modules", "task_type",
}  # fmt: skip
"""Of PEFT's settings those that leave LoRA plain, or say where it stands."""
_BEGINNINGS = (True, False, "gaussian", "eva", None)
"""Ways in which plain LoRA begins; others change the model's own weights, too."""


class Lora(WeightPart):
    """Low-rank additions, trained; the backbone's own parameters stay as they are."""

    def __init__(
        self, backbone: Backbone, settings: LoraSettings, rng: np.random.Generator
    ) -> None:
        """Put additions into a backbone; at first they add nothing, or what was saved.

        Args:
            backbone: Changed in place; load it anew for another run.
            settings: Their rank, scale and places, and what they begin with.
            rng: Of their initial values.

        Raises:
            ConfigError: The backbone has no projection of the names asked for, or saved ones have
                another scale.
            DataError: Saved ones cannot be read, or stand elsewhere.
        """
        super().__init__()
        self._settings = settings
        added = _inject(backbone, settings, int(rng.integers(2**31)))
        self._names = tuple(added)
        self.trained = nn.ParameterList(added.values())
        if settings.initial.kind == "file":
            self._resume(Path(settings.initial.path or ""))

    def tensors(self) -> dict[str, Tensor]:
        """Give the additions by the names PEFT gives them in the model."""
        return dict(zip(self._names, self.trained, strict=True))

    def facts(self) -> dict[str, str]:
        """Say by how much the additions are scaled."""
        return {"kind": "lora", "alpha": str(self._settings.alpha)}

    @torch.no_grad()
    def _resume(self, path: Path) -> None:
        """Begin with saved additions.

        Raises:
            ConfigError: They have another scale.
            DataError: They cannot be read, or stand elsewhere.
        """
        saved, alpha = saved_lora(path)
        if alpha != self._settings.alpha:
            raise ConfigError(
                f"The additions {path} have alpha {alpha:g}, the settings say "
                f"{self._settings.alpha}. Set alpha: {alpha:g}."
            )
        for name, own in self.tensors().items():
            if name not in saved or saved[name].shape != own.shape:
                found = tuple(saved[name].shape) if name in saved else "nothing"
                raise DataError(
                    f"The additions {path} do not fit: at {name} they have {found}, expected "
                    f"{tuple(own.shape)}. Set rank and targets as they were trained with, and the "
                    "same backbone."
                )
        others = sorted(saved.keys() - self.tensors().keys())
        if others:
            raise DataError(
                f"The additions {path} also stand at {listing(others, 3)}, where the settings put "
                "none. Set targets as they were trained with."
            )
        for name, own in self.tensors().items():
            own.copy_(saved[name])

    def finish(self) -> None:
        """Freeze the additions, which stay in place."""
        for parameter in self.trained:
            parameter.requires_grad = False

    def copy_to(self, backbone: Backbone) -> None:
        """Put the trained additions into another copy of the backbone."""
        apply_lora(backbone, self.tensors(), self._settings)


def in_model(name: str) -> str:
    """Give an addition of PEFT's file the name it has in the model."""
    own = name.removeprefix(IN_MODEL)
    start, _, end = own.rpartition(".weight")
    return f"{start}.default.weight{end}" if start and ".default." not in own else own


def saved_lora(path: Path) -> tuple[dict[str, Tensor], float]:
    """Read additions that an earlier run or PEFT has saved.

    Returns:
        The additions by the names they have in the model, and alpha.

    Raises:
        DataError: They cannot be read, their scale is not known, or PEFT computes something else
            with them.
    """
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get("part", "{}"))
            names = [*file.keys()]
            saved = {in_model(name): file.get_tensor(name).float() for name in names}
        beside = path.parent / OF_PEFT
        of_peft = any(name.startswith(IN_MODEL) for name in names)
        config = json.loads(beside.read_text(encoding="utf-8")) if of_peft else {}
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(
            f"Cannot read the additions {path}: {error}. Expected a safetensors file, as runs save "
            f"it under parts/, or PEFT's, with {OF_PEFT} beside it."
        ) from error
    if not any(".lora_" in name for name in saved):
        raise DataError(f"{path} has no low-rank additions.")
    if other := _beyond_plain(config):
        raise DataError(
            f"{path} is no plain LoRA: PEFT has {other}={config[other]} for it, and computes "
            "something else. Train it without."
        )
    alpha = config.get("lora_alpha", facts.get("alpha"))
    if alpha is None:
        raise DataError(
            f"{path} does not say by how much its additions are scaled (it was saved by an older "
            "version). Export its run to PEFT and name the adapter's folder."
        )
    return saved, float(alpha)


def _beyond_plain(config: Mapping[str, Any]) -> str:
    """Name a setting of PEFT that makes something else of LoRA; empty where there is none."""
    for key, value in config.items():
        if key == "init_lora_weights":
            if value not in _BEGINNINGS:
                return key
        elif key not in _PLAIN and value and value != "none":
            return key
    return ""


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
