"""Puts a finished run together again from its folder, to answer with it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from polyprompt.capabilities import EngineSettings, RunSettings
from polyprompt.engine.engine import Deep, Engine, Prompts, choose
from polyprompt.errors import StoreError
from polyprompt.experiments.assemble import build_engine
from polyprompt.experiments.compatibility import attention_of, head_of
from polyprompt.experiments.heads import saved_head
from polyprompt.experiments.parts import apply_weight_part
from polyprompt.experiments.plan import reaches_of
from polyprompt.experiments.store import RunFolder
from polyprompt.heads.head import Head
from polyprompt.models.backbone import Backbone
from polyprompt.part_settings import FullSettings
from polyprompt.tasks.layout import Layout, parse_layout
from polyprompt.training.member import joined_deep
from polyprompt.tuning.deep_prompt import saved_deep_prompt


def settings_of(run: RunFolder) -> RunSettings:
    """Read a run's settings, every default written out."""
    known = {k: v for k, v in run.config().items() if k in RunSettings.model_fields}
    return RunSettings.model_validate(known)


def layout_of(settings: RunSettings, record: Mapping[str, Any]) -> Layout:
    """Parse a run's layout."""
    lengths = {name: part.length for name, part in settings.soft_prompts.items()}
    return parse_layout(settings.layout or record["layout"], record["fields"], lengths)


def engine_for(
    settings: RunSettings, layout: Layout, backbone: Backbone, branches: Sequence[Sequence[int]]
) -> Engine:
    """Build the engine that suits a layout."""
    options = EngineSettings(cache_budget_bytes=0)
    choice = choose("auto", attention_of(settings), reaches_of(settings, layout))
    return build_engine(choice.kind, backbone, options, branches)


def load_parts(
    run: RunFolder, settings: RunSettings, layout: Layout, backbone: Backbone
) -> tuple[Head, Prompts]:
    """Read the trained tensors of a run.

    Raises:
        StoreError: A file is missing or broken.
    """
    for name, part in settings.weight_parts.items():
        if isinstance(part, FullSettings) and not part.save:
            raise StoreError(
                f"{run.path} did not keep its weights (parts.{name}.save: false), so it cannot "
                "answer. Run it again with save: true."
            )
    try:
        soft = [load_file(run.path / "parts" / f"{s.name}.safetensors") for s in layout.slots]
        deep = _deep(run, settings, backbone.device)
        head = load_file(run.path / "parts" / "head.safetensors")
        for name, part in settings.weight_parts.items():
            tensors = load_file(run.path / "parts" / f"{name}.safetensors")
            apply_weight_part(part, tensors, backbone)
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"The parts of {run.path} cannot be read: {error}. The folder is damaged; run or fit "
            "again."
        ) from error
    nothing = torch.zeros(0, backbone.facts.width)
    vectors = torch.cat([nothing, *(part["weight"] for part in soft)]).to(backbone.device)
    lengths = tuple(slot.length for slot in layout.slots)
    prompts = Prompts((vectors,), (lengths,), () if deep is None else (deep,))
    return saved_head(head_of(settings), head, backbone), prompts


def _deep(run: RunFolder, settings: RunSettings, device: torch.device) -> Deep | None:
    """Read a run's deep prompts; texts end where they did when it was trained."""
    found = []
    for name, part in settings.deep_prompts.items():
        path = run.path / "parts" / f"{name}.safetensors"
        found.append((part.position, saved_deep_prompt(load_file(path, str(device)))))
    return joined_deep(found, run.record().get("text_end"))
