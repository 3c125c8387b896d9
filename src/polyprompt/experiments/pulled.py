"""Finds out whether what came from the Hub is a run that can be used."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from polyprompt.capabilities import RunSettings
from polyprompt.errors import ConfigError, PolypromptError, StoreError
from polyprompt.experiments.reopen import layout_of, settings_of
from polyprompt.experiments.store import CONFIG, RECORD, SCORES, RunFolder

_WHOLE = (CONFIG, RECORD, SCORES)


class _Record(BaseModel):
    """What a record has to say for a run to be used."""

    model_config = ConfigDict(extra="allow")

    status: str
    task: str
    task_title: str
    kind: str
    labels: list[str]
    fields: list[str]
    source: list[str]
    layout: str
    backbone: str
    backbone_identity: str
    backbone_notes: list[str]
    trained_parameters: int
    sourced_parts: dict[str, dict[str, dict[str, str]]] = {}


def check_pulled(folder: Path, repository: str) -> RunFolder:
    """Find out whether what came from the Hub is a run that can be used.

    Raises:
        StoreError: It is none, is not whole, or names places of a machine; says what it is.
    """
    missing = [name for name in _WHOLE if not (folder / name).is_file()]
    if missing:
        raise StoreError(
            f"'{repository}' is no run of polyprompt: it has no {', '.join(missing)}. Expected "
            "what 'polyprompt push' has written there."
        )
    run = RunFolder(folder)
    try:
        record: Any = run.record()
        _Record.model_validate(record)
        settings = settings_of(run)
        fault = _fault(folder, record, settings, run.config())
        layout_of(settings, record)
        run.scores()
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "it"
        fault = f"{place}: {first['msg']}"
    except ConfigError as error:
        fault = str(error)
    except PolypromptError as error:
        fault = str(error).replace(f"{folder}/", "")
    if fault:
        raise StoreError(
            f"'{repository}' cannot be used: {fault} Ask its owner to share it again with this "
            "version, or name another revision."
        )
    return run


def _fault(
    folder: Path, record: Mapping[str, Any], settings: RunSettings, config: Mapping[str, Any]
) -> str:
    """Say what is wrong with a run's settings and files; nothing where they are as they should."""
    name = settings.backbone.name
    if record["status"] != "complete":
        return f"its status is '{record['status']}'."
    if name != record["backbone"]:
        return f"its settings name the backbone '{name}', its record '{record['backbone']}'."
    for what, place in (("backbone", name), ("task", settings.task)):
        if Path(place).is_absolute() or place.startswith(("~", ".")) or ".." in place:
            return f"its {what} '{place}' is a place on somebody's machine."
    return _missing_part(folder, record, config)


def _missing_part(folder: Path, record: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Say which part is not among a run's files; nothing where all are."""
    trained = [part for part in config["parts"] if part not in record.get("sourced_parts", {})]
    for part in (*trained, "head"):
        if not (folder / "parts" / f"{part}.safetensors").is_file():
            return f"the part '{part}' is not among its files."
    for own in record.get("sourced_parts", {}).values():
        for one in own.values():
            inside = (folder / one["path"]).resolve()
            if not inside.is_relative_to(folder.resolve()) or not inside.is_file():
                return f"it reads texts with a part that is not among its files ({one['path']})."
    return ""
