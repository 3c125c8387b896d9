"""Prepares a run's folder for others: what belongs to one machine is taken out or taken along."""

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from polyprompt.capabilities import BackboneSettings, RunSettings
from polyprompt.cautions import contamination_notes, renamed
from polyprompt.errors import BackboneError, ConfigError, StoreError
from polyprompt.experiments.reopen import settings_of
from polyprompt.experiments.sourced import LANGUAGE
from polyprompt.experiments.store import RECORD, SCORES, RunFolder
from polyprompt.experiments.temperature import CALIBRATION
from polyprompt.models.locate import Location, locate
from polyprompt.part_settings import FullSettings
from polyprompt.tables import write_json, write_text
from polyprompt.tasks.card import TaskCard, load_card

TASK, GIVEN = "task.yaml", "given"
_ANYWHERE = BackboneSettings.model_fields["device"].default
_TEXTS = (".json", ".yaml", ".md")


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
        StoreError: It is another model by now, or the run itself was taken from the Hub.
    """
    record = run.record()
    if record.get("shared"):
        raise StoreError(
            f"{run.path} was taken from the Hub, and has no answers of which a card is made. Share "
            "the run it was made from, or copy the repository there."
        )
    own = settings_of(run).backbone
    settings = own.model_copy(update={"device": _ANYWHERE, "device_map": None})
    if name and name != own.name:
        update = {"name": name, "revision": None, "gguf_file": None}
        settings = settings.model_copy(update=update)
    place = locate(settings)
    if place.kind not in {"pypi", "hub"}:
        hidden = "" if not name else (
            " If the Hub has a model of this name, the folder of the same name here hides it: call "
            "the command from another directory."
        )  # fmt: skip
        raise BackboneError(
            f"Others cannot load the backbone '{settings.name}': it is on this machine alone. Name "
            "the same model as they load it: --base pypi:NAME or --base OWNER/NAME (of the Hub)."
            f"{hidden}"
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
    record = run.record() | _of_backbone(run, settings.backbone, base)
    record |= {"shared": True, "part_kinds": sorted({p.kind for p in settings.parts.values()})}
    if given:
        record["sourced_parts"] = given
    config["backbone"] = base.settings.model_dump(mode="json")
    if settings.data is not None:
        names = [Path(place).name for place in settings.data.split("\n")]
        config["data"], record["data"] = "\n".join(names), ", ".join(names)
    _name_parts(config)
    config["task"] = _task_along(settings, folder, record["task"])
    shared = RunFolder(folder)
    write_json(folder / RECORD, record)
    shared.write_config(config)
    shutil.copy2(run.path / SCORES, folder / SCORES)
    if (run.path / CALIBRATION).is_file():
        shutil.copy2(run.path / CALIBRATION, folder / CALIBRATION)
    shutil.copytree(run.path / "parts", folder / "parts", ignore=shutil.ignore_patterns(".*"))
    return shared


def _of_backbone(run: RunFolder, own: BackboneSettings, base: Base) -> dict[str, Any]:
    """Say in the record which backbone others load, with all that is known of either."""
    notes = run.record()["backbone_notes"]
    seen = renamed(contamination_notes(notes), base.settings.name)
    kept = [str(note) for note in notes if note not in contamination_notes(notes)]
    for path in _spellings(own.name):
        kept = [note.replace(path, base.settings.name) for note in kept]
    return {
        "backbone": base.settings.name,
        "backbone_identity": base.place.identity,
        "backbone_commit": base.place.commit,
        "backbone_notes": list(dict.fromkeys([*seen, *base.place.notes, *kept])),
    }


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


def _name_parts(config: dict[str, Any]) -> None:
    """Put names in the place of the paths that parts begin with or are taken from."""
    for name, part in config["parts"].items():
        initial = part.get("initial") or {}
        if initial.get("path"):
            initial["path"] = Path(initial["path"]).name
        if part.get("source"):
            each = LANGUAGE in part["source"]
            part["source"] = f"{GIVEN}/{name}-{LANGUAGE if each else 'all'}.safetensors"


def _task_along(settings: RunSettings, folder: Path, name: str) -> str:
    """Take a card of one's own along; returns how the configuration names the task."""
    if not settings.task.endswith((".yaml", ".yml")):
        return settings.task
    try:
        card = load_card(settings.task)
    except ConfigError:  # it has gone, or is another by now
        return name
    write_text(folder / TASK, _card_text(card))
    return TASK


def _card_text(card: TaskCard) -> str:
    """Write a card without its comments, and files by their names."""
    value = card.model_dump(mode="json", exclude_defaults=True)
    if card.local is not None:
        files = card.local.files
        value["local"]["files"] = {split: Path(path).name for split, path in files.items()}
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)


def check_no_paths(run: RunFolder, folder: Path, base: Base) -> None:
    """Find out whether any path of this machine is left in what is shared.

    Args:
        run: The run.
        folder: What is shared.
        base: The backbone as others load it.

    Raises:
        StoreError: One is; nothing has been uploaded.
    """
    settings = settings_of(run)
    places = [str(Path.home()), str(run.path.resolve().parent), *_places(settings)]
    if base.settings.name != settings.backbone.name:
        places.append(settings.backbone.name)
    public = (base.settings.name, *base.place.notes)
    secrets = {
        one
        for place in places
        for one in _spellings(place)
        if len(one) > 3 and not any(one in text for text in public)
    }
    for path in sorted(folder.rglob("*")):
        if path.suffix not in _TEXTS:
            continue
        text = path.read_text(encoding="utf-8")
        for secret in secrets:
            if re.search(rf"(?<![\w.-]){re.escape(secret)}(?![\w-])", text):
                raise StoreError(
                    f"{path.name} would tell of the place '{secret}' on this machine; nothing was "
                    f"uploaded. Take it out of the run's settings or of its task card ({run.path})."
                )


def _places(settings: RunSettings) -> Iterable[str]:
    """List the places of this machine that settings name, but for those that others have, too."""
    yield from (settings.data or "").split("\n")
    parts: list[Mapping[str, Any]] = [part.model_dump() for part in settings.parts.values()]
    for part in parts:
        yield (part.get("initial") or {}).get("path") or ""
        yield part.get("source") or ""
    if settings.task.endswith((".yaml", ".yml")):
        yield str(Path(settings.task).parent)


def _spellings(place: str) -> list[str]:
    """Give the ways in which a place of this machine may be written, the longest first."""
    path = Path(place).expanduser()
    if not place or not (path.is_absolute() or path.exists()):
        return []
    found = {place, place.rstrip("/"), str(path), str(path.absolute()), str(path.resolve())}
    return sorted((one for one in found if "/" in one), key=len, reverse=True)
