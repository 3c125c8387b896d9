"""Says what a backbone's name means and what kind of model it is, without loading weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from polyprompt.capabilities import BackboneSettings
from polyprompt.cautions import contamination_of
from polyprompt.errors import BackboneError
from polyprompt.fingerprint import fingerprint
from polyprompt.models.hub import hub_config
from polyprompt.models.pypi import wheel_model

ENCODERS = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "electra", "ernie"})
"""Model types of the embedding family: encoders with a table of absolute positions."""

_POSITIONS = ("max_position_embeddings", "n_positions", "seq_length")


@dataclass(frozen=True)
class Location:
    """Where a backbone comes from and what it is.

    Attributes:
        kind: Wheels of PyPI, a local folder, a GGUF file, or the Hub.
        name: The model's name, folder or file.
        identity: Changes when the contents change.
        family: ``embedding`` or ``causal``.
        model_type: As transformers calls it; empty where it is not known yet.
        max_positions: Most tokens of an input; None where it is not known yet.
        commit: Of the Hub; empty for others.
        notes: Cautions, for results.
    """

    kind: Literal["pypi", "folder", "gguf", "hub"]
    name: str
    identity: str
    family: str
    model_type: str
    max_positions: int | None = None
    commit: str = ""
    notes: tuple[str, ...] = ()


def locate(settings: BackboneSettings) -> Location:
    """Find out what a backbone's name means.

    Raises:
        BackboneError: There is no such model, or its family cannot be told.
    """
    name = settings.name
    if name.startswith("pypi:"):
        short = name.removeprefix("pypi:")
        model = wheel_model(short)
        return Location(
            "pypi",
            short,
            model.sha256[:16],
            model.family,
            model.model_type,
            model.max_positions,
        )
    path = Path(name).expanduser()
    if path.is_dir() and settings.gguf_file:
        path /= settings.gguf_file
    if path.suffix == ".gguf" or (path.is_file() and path.suffix):
        return _gguf_file(path)
    if path.is_dir():
        return _folder(path, settings)
    if name.startswith(("/", "./", "../", "~")):
        raise BackboneError(
            f"There is no folder {path} (backbone). Expected a folder with config.json, "
            "model.safetensors and tokenizer.json, or a GGUF file."
        )
    return _hub(settings)


def _folder(folder: Path, settings: BackboneSettings) -> Location:
    """Describe a local folder by its configuration."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BackboneError(
            f"The folder {folder} (backbone) has no readable config.json: {error}. Expected "
            "config.json, model.safetensors and tokenizer.json."
        ) from error
    stamps = {p.name: _stamp(p) for p in sorted(folder.iterdir()) if p.is_file()}
    family = settings.family or family_of(config, str(folder))
    return Location(
        "folder",
        str(folder),
        fingerprint(stamps),
        family,
        str(config.get("model_type", "")),
        _positions(config, family),
        notes=contamination_of(folder.name, str(config.get("_name_or_path", ""))),
    )


def _gguf_file(path: Path) -> Location:
    """Describe a GGUF file by its metadata."""
    from polyprompt.models.gguf import gguf_facts

    if not path.is_file():
        raise BackboneError(f"There is no file {path} (backbone). Expected a GGUF file.")
    model_type, positions = gguf_facts(path)
    return Location(
        "gguf",
        str(path),
        fingerprint([path.name, _stamp(path)]),
        "causal",
        model_type,
        positions,
        notes=contamination_of(path.name),
    )


def _hub(settings: BackboneSettings) -> Location:
    """Describe a model of the Hub."""
    commit, config = hub_config(settings.name, settings.revision)
    known = "causal" if settings.gguf_file else settings.family
    family = known or family_of(config, settings.name)
    return Location(
        "hub",
        settings.name,
        fingerprint([settings.name, commit, settings.gguf_file]),
        family,
        str(config.get("model_type", "")),
        _positions(config, family),
        commit,
        contamination_of(settings.name, str(config.get("_name_or_path", ""))),
    )


def family_of(config: Mapping[str, Any], name: str) -> str:
    """Tell a model's family from its configuration.

    Raises:
        BackboneError: It is of none that polyprompt knows.
    """
    kind = str(config.get("model_type", ""))
    if kind in ENCODERS and not config.get("is_decoder"):
        return "embedding"
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    )

    known = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if known and kind not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        return "causal"
    raise BackboneError(
        f"{name} is of the type '{kind or 'unknown'}'; expected a decoder with a language-model "
        f"head, or an encoder ({', '.join(sorted(ENCODERS))}). If it is one of the two, set "
        "backbone.family=causal or backbone.family=embedding."
    )


def _positions(config: Mapping[str, Any], family: str) -> int | None:
    """Read how many positions a decoder has; an encoder's table holds some that are reserved."""
    inner = config.get("text_config") or config
    found = [inner[name] for name in _POSITIONS if isinstance(inner.get(name), int)]
    return found[0] if found and family == "causal" else None


def _stamp(path: Path) -> list[int]:
    """Give a file's size and time of change."""
    return [path.stat().st_size, path.stat().st_mtime_ns]
