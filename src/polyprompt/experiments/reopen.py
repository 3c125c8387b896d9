"""Puts a finished run together again from its folder, to answer with it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from polyprompt.capabilities import BackboneSettings, EngineSettings, RunSettings
from polyprompt.data.encoded import Sourced
from polyprompt.engine.engine import Deep, Engine, Prompts, choose
from polyprompt.errors import ConfigError, StoreError, listing
from polyprompt.experiments.assemble import build_engine
from polyprompt.experiments.compatibility import attention_of, head_of
from polyprompt.experiments.given import GivenParts
from polyprompt.experiments.heads import saved_head
from polyprompt.experiments.parts import apply_weight_part
from polyprompt.experiments.plan import reaches_of
from polyprompt.experiments.sourced import LANGUAGE, SourcedParts
from polyprompt.experiments.store import RunFolder
from polyprompt.fingerprint import file_sha256
from polyprompt.heads.head import Head
from polyprompt.models.backbone import Backbone
from polyprompt.models.load import load_backbone
from polyprompt.part_settings import FullSettings
from polyprompt.tasks.layout import Layout, parse_layout
from polyprompt.training.member import joined_deep
from polyprompt.tuning.deep_prompt import saved_deep_prompt


def settings_of(run: RunFolder) -> RunSettings:
    """Read a run's settings, every default written out."""
    known = {k: v for k, v in run.config().items() if k in RunSettings.model_fields}
    return RunSettings.model_validate(known)


def load_trained_on(run: RunFolder, settings: BackboneSettings) -> Backbone:
    """Load the backbone that a run was trained on.

    Args:
        run: The run.
        settings: Its backbone's, or those of a copy that reads.

    Raises:
        StoreError: The model of this name is another one by now.
    """
    backbone = load_backbone(settings)
    trained_on = run.record()["backbone_identity"]
    if backbone.facts.identity != trained_on:
        raise StoreError(
            f"{backbone.facts.name} is not the model that {run.path} was trained on: its files "
            f"have changed (identity {backbone.facts.identity}, then {trained_on}). Bring the "
            "old files back, or fit again."
        )
    return backbone


def layout_of(settings: RunSettings, record: Mapping[str, Any]) -> Layout:
    """Parse a run's layout."""
    lengths = {name: part.length for name, part in settings.soft_prompts.items()}
    layout = parse_layout(settings.layout or record["layout"], record["fields"], lengths)
    return layout.with_given(settings.sourced).with_instructions(settings.instructions)


def put_sourced(run: RunFolder, settings: RunSettings, backbone: Backbone) -> Sourced:
    """Put the frozen parts of earlier runs in place that a run was made with.

    A part for all languages is that of texts whose language is not known, too. In a run that was
    shared the parts lie in its own folder, and their paths begin there.

    Args:
        run: The run.
        settings: Its own.
        backbone: Loaded.

    Raises:
        StoreError: A file is gone, or is not what it was.
    """
    record = run.record().get("sourced_parts", {})
    files = {
        name: {language: run.path / one["path"] for language, one in own.items()}
        for name, own in record.items()
    }
    for name, own in files.items():
        if LANGUAGE not in (settings.sourced[name].source or ""):  # one for all languages
            own[""] = next(iter(own.values()))
    known = {one["path"]: one["sha256"] for own in record.values() for one in own.values()}
    for path, sha256 in known.items():
        _check_unchanged(run.path / path, sha256, run)
    return GivenParts(settings, SourcedParts(files)).put(backbone)


def _check_unchanged(path: Path, sha256: str, run: RunFolder) -> None:
    """Find out whether a part of an earlier run is what it was.

    Raises:
        StoreError: It is gone, or something else.
    """
    if not path.is_file() or file_sha256(path) != sha256:
        what = "has changed" if path.is_file() else "is gone"
        raise StoreError(
            f"{run.path} reads texts with the part {path}, which {what}. Bring the old file back, "
            "or run again."
        )


def check_language(run: RunFolder, language: str) -> None:
    """Find out whether texts of a language can be read with a run's parts and instructions.

    Raises:
        ConfigError: It has parts or instructions per language, and none of this one.
    """
    record, parts = run.record(), run.config()["parts"]
    asked = run.config().get("instructions", {})
    if asked and language not in asked and "default" not in asked:
        given = f"'{language}' is none of them" if language else "name it (--language CODE)"
        raise ConfigError(
            f"{run.path} asks in the words of a text's language; {given}. There is: "
            f"{listing(sorted(asked))}."
        )
    for name, own in record.get("sourced_parts", {}).items():
        if LANGUAGE not in parts[name]["source"]:  # one for all languages
            continue
        left_out = record.get("without_part", {}).get(name, ())
        if language not in own and language not in left_out:
            given = f"'{language}' is none of them" if language else "name it (--language CODE)"
            raise ConfigError(
                f"{run.path} reads texts with the part '{name}' of their language; {given}. There "
                f"is: {listing(sorted(own))}."
            )


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
