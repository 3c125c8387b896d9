"""Prepares a run's folder for others: what belongs to one machine is taken out or taken along."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from polyprompt.capabilities import BackboneSettings, RunSettings
from polyprompt.errors import BackboneError, ConfigError, StoreError
from polyprompt.exchange.hub import files_of
from polyprompt.experiments.reopen import settings_of
from polyprompt.experiments.results import gather
from polyprompt.experiments.sourced import LANGUAGE
from polyprompt.experiments.store import CONFIG, RECORD, SCORES, RunFolder
from polyprompt.experiments.temperature import CALIBRATION
from polyprompt.models.locate import Location, locate
from polyprompt.part_settings import FullSettings
from polyprompt.report.model_card import Shared, model_card
from polyprompt.tables import write_json, write_text
from polyprompt.tasks.card import load_card

CARD, TASK, GIVEN = "README.md", "task.yaml", "given"
_ANYWHERE = BackboneSettings.model_fields["device"].default
_WHOLE = (CONFIG, RECORD, SCORES)


@dataclass(frozen=True)
class Base:
    """The backbone as others load it.

    Attributes:
        settings: Of it.
        place: Where it is.
    """

    settings: BackboneSettings
    place: Location


def base_for(run: RunFolder, name: str = "") -> Base:
    """Say how others load the backbone of a run.

    Args:
        run: Complete.
        name: ``pypi:NAME`` or the Hub's ``owner/name``, where the run took it from a folder.

    Raises:
        BackboneError: Others cannot load it by the name.
        StoreError: It is another model by now.
    """
    own = settings_of(run).backbone
    record = run.record()
    settings = own.model_copy(update={"device": _ANYWHERE, "device_map": None})
    if name and name != own.name:
        update = {"name": name, "revision": None, "gguf_file": None}
        settings = settings.model_copy(update=update)
    place = locate(settings)
    if place.kind not in {"pypi", "hub"}:
        raise BackboneError(
            f"Others cannot load the backbone '{settings.name}': it is on this machine alone. Name "
            "the same model as they load it: --base pypi:NAME or --base OWNER/NAME (of the Hub)."
        )
    if settings.name == own.name and place.identity != record["backbone_identity"]:
        raise StoreError(
            f"{settings.name} is not the model any more that {run.path} was trained on. Name its "
            "revision (backbone.revision), and run again."
        )
    if place.commit:
        settings = settings.model_copy(update={"revision": place.commit})
    return Base(settings, place)


def stage(run: RunFolder, folder: Path, base: Base) -> RunFolder:
    """Write what of a run can be shared.

    Texts and answers to them stay where they are; frozen parts of earlier runs are taken along;
    paths of this machine become names.

    Args:
        run: Complete.
        folder: New.
        base: The backbone as others load it.

    Raises:
        StoreError: It is incomplete, or has not kept its weights.
    """
    settings = settings_of(run)
    if not run.is_complete():
        raise StoreError(f"{run.path} is not complete. Run it to its end first.")
    if any(isinstance(part, FullSettings) and not part.save for part in settings.parts.values()):
        raise StoreError(f"{run.path} did not keep its weights, so there is nothing to share.")
    given, config = _parts_along(run, folder), run.config()
    record = run.record() | {"part_kinds": sorted({p.kind for p in settings.parts.values()})}
    if given:
        record["sourced_parts"] = given
    config["backbone"] = base.settings.model_dump(mode="json")
    record |= {
        "backbone": base.settings.name,
        "backbone_identity": base.place.identity,
        "backbone_commit": base.place.commit,
        "backbone_notes": [
            str(note).replace(settings.backbone.name, base.settings.name)
            for note in record["backbone_notes"]
        ],
    }
    if settings.data is not None:
        names = [Path(place).name for place in settings.data.split("\n")]
        config["data"], record["data"] = "\n".join(names), ", ".join(names)
    _name_paths(config, folder, settings)
    shared = RunFolder(folder)
    write_json(folder / RECORD, record)
    shared.write_config(config)
    shutil.copy2(run.path / SCORES, folder / SCORES)
    if (run.path / CALIBRATION).is_file():
        shutil.copy2(run.path / CALIBRATION, folder / CALIBRATION)
    shutil.copytree(run.path / "parts", folder / "parts", ignore=shutil.ignore_patterns(".*"))
    return shared


def _parts_along(run: RunFolder, folder: Path) -> dict[str, Any]:
    """Copy the frozen parts of earlier runs; returns them as the record lists them."""
    settings, found = settings_of(run), {}
    for name, own in run.record().get("sourced_parts", {}).items():
        each = LANGUAGE in (settings.sourced[name].source or "")
        found[name] = {}
        for language, one in own.items():
            place = f"{GIVEN}/{name}-{language if each else 'all'}.safetensors"
            (folder / GIVEN).mkdir(parents=True, exist_ok=True)
            try:
                shutil.copy2(one["path"], folder / place)
            except OSError as error:
                raise StoreError(
                    f"The part {one['path']}, which {run.path} reads texts with, cannot be taken "
                    f"along: {error.strerror}. Bring it back, or run again."
                ) from error
            found[name][language] = one | {"path": place}
    return found


def _name_paths(config: dict[str, Any], folder: Path, settings: RunSettings) -> None:
    """Put names in the place of paths; a card of one's own is taken along."""
    for name, part in config["parts"].items():
        initial = part.get("initial") or {}
        if initial.get("path"):
            initial["path"] = Path(initial["path"]).name
        if part.get("source"):
            each = LANGUAGE in part["source"]
            part["source"] = f"{GIVEN}/{name}-{LANGUAGE if each else 'all'}.safetensors"
    if settings.task.endswith((".yaml", ".yml")):
        card = Path(settings.task)
        if card.is_file():
            write_text(folder / TASK, card.read_text(encoding="utf-8"))
        config["task"] = TASK


def write_card(run: RunFolder, shared: RunFolder, repository: str, licence: str = "") -> str:
    """Write the model card of what is shared, beside it.

    Args:
        run: The run itself, with its answers.
        shared: As ``stage`` has written it.
        repository: ``owner/name``.
        licence: Of the parts, as the Hub abbreviates it; empty for none.

    Returns:
        The card.
    """
    record, setting = shared.record(), None
    names = settings_of(run).backbone.name, settings_of(shared).backbone.name
    own = pl.col("baseline").is_null() & pl.col("label").is_not_null()
    if run.predictions().filter(own).height:
        (found,) = gather([run])
        warnings = tuple(text.replace(*names) for text in found.warnings)
        setting = replace(found, records=(record,), warnings=warnings)
    card = model_card(
        Shared(
            repository,
            record,
            [*files_of(shared.path), CARD],
            setting and setting.summary,
            setting and setting.section(),
            licence,
            "" if names[1].startswith("pypi:") else names[1],
            _data_on_the_hub(settings_of(run)),
            (shared.path / "adapter_config.json").is_file(),
        )
    )
    write_text(shared.path / CARD, card)
    return card


def _data_on_the_hub(settings: RunSettings) -> str:
    """Name a run's data set as the Hub does; empty where it comes from elsewhere."""
    try:
        hub = load_card(settings.task).hub
    except ConfigError:  # a fit has made it, or it has gone
        return ""
    return "" if hub is None or settings.data is not None or Path(hub.path).exists() else hub.path


def check_pulled(folder: Path, repository: str) -> RunFolder:
    """Find out whether what came from the Hub is a run.

    Raises:
        StoreError: It is none, or reads parts from elsewhere.
    """
    missing = [name for name in _WHOLE if not (folder / name).is_file()]
    if missing:
        raise StoreError(
            f"'{repository}' is no run of polyprompt: it has no {', '.join(missing)}. Expected "
            "what 'polyprompt push' has written there."
        )
    run = RunFolder(folder)
    settings_of(run)
    for own in _sourced(run.record()).values():
        for one in own.values():
            inside = (folder / one["path"]).resolve()
            if not inside.is_relative_to(folder.resolve()) or not inside.is_file():
                raise StoreError(
                    f"'{repository}' reads texts with a part that is not among its files "
                    f"({one['path']}). Ask its owner to share it again."
                )
    return run


def _sourced(record: Mapping[str, Any]) -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    """Give the frozen parts that a record lists."""
    return record.get("sourced_parts", {})
