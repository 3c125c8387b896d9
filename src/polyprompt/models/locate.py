"""Says what a backbone's name means and what kind of model it is, without loading weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from polyprompt.capabilities import BackboneSettings
from polyprompt.cautions import contamination_of
from polyprompt.errors import BackboneError
from polyprompt.fingerprint import file_edges, fingerprint
from polyprompt.models.hub import hub_model, read_config
from polyprompt.models.pypi import wheel_model

ENCODERS = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "electra", "ernie"})
"""Model types of the embedding family: encoders with a table of absolute positions."""

SEQ2SEQ = frozenset({"t5", "mt5"})
"""Model types of the seq2seq family."""

_MODEL_FILES = frozenset({".json", ".safetensors", ".gguf", ".model", ".txt"})

_POSITIONS = ("max_position_embeddings", "n_positions", "seq_length")


@dataclass(frozen=True)
class Location:
    """Where a backbone comes from and what it is.

    Attributes:
        kind: Wheels of PyPI, a local folder, a GGUF file, or the Hub.
        name: The model's name, folder or file.
        identity: Changes when the contents change.
        family: ``embedding``, ``causal``, ``masked`` or ``seq2seq``.
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
        if settings.revision or settings.gguf_file:
            raise BackboneError(
                f"{name} is one fixed file: take backbone.revision and backbone.gguf_file out."
            )
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
        config = read_config(folder / "config.json")
    except (OSError, ValueError) as error:
        gguf = sorted(path.name for path in folder.glob("*.gguf"))
        hint = f" For the GGUF file there, set backbone.gguf_file={gguf[0]}." if gguf else ""
        raise BackboneError(
            f"The folder {folder} (backbone) has no readable config.json: {error}. Expected "
            f"config.json, model.safetensors and tokenizer.json.{hint}"
        ) from error
    files = [path for path in sorted(folder.iterdir()) if path.suffix in _MODEL_FILES]
    family = settings.family or family_of(config, str(folder))
    return Location(
        "folder",
        str(folder),
        fingerprint({path.name: file_edges(path) for path in files}),
        family,
        str(config.get("model_type", "")),
        max_positions(config) if family == "causal" else None,
        notes=contamination_of(str(folder), str(config.get("_name_or_path", ""))),
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
        fingerprint([file_edges(path)]),
        "causal",
        model_type,
        positions,
        notes=contamination_of(str(path)),
    )


def _hub(settings: BackboneSettings) -> Location:
    """Describe a model of the Hub."""
    found = hub_model(settings.name, settings.revision, settings.gguf_file)
    names = (settings.name, settings.gguf_file or "", str(found.config.get("_name_or_path", "")))
    notes = contamination_of(*names)
    identity = fingerprint([settings.name, found.commit, settings.gguf_file])
    if found.gguf is not None:
        file = _gguf_file(found.gguf)
        return replace(
            file,
            kind="hub",
            name=settings.name,
            identity=identity,
            commit=found.commit,
            notes=notes,
        )
    family = settings.family or family_of(found.config, settings.name)
    return Location(
        "hub",
        settings.name,
        identity,
        family,
        str(found.config.get("model_type", "")),
        max_positions(found.config) if family == "causal" else None,
        found.commit,
        notes,
    )


def family_of(config: Mapping[str, Any], name: str) -> str:
    """Tell a model's family from its configuration.

    Raises:
        BackboneError: It is of none that polyprompt knows.
    """
    kind = str(config.get("model_type", ""))
    if kind in ENCODERS and not config.get("is_decoder"):
        guesses = any("ForMaskedLM" in name for name in config.get("architectures") or ())
        return "masked" if guesses else "embedding"
    if kind in SEQ2SEQ:
        return "seq2seq"
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    )

    known = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if known and kind not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        return "causal"
    raise BackboneError(
        f"{name} is of the type '{kind or 'unknown'}'; expected a decoder with a language-model "
        f"head, an encoder ({', '.join(sorted(ENCODERS))}), or one with a decoder "
        f"({', '.join(sorted(SEQ2SEQ))}). If it is one of these, set backbone.family=causal, "
        "embedding, masked or seq2seq."
    )


def max_positions(config: Mapping[str, Any]) -> int | None:
    """Read how many positions a model has; None where they have no end."""
    inner = config.get("text_config") or config
    found = [inner[name] for name in _POSITIONS if isinstance(inner.get(name), int)]
    return found[0] if found else None
