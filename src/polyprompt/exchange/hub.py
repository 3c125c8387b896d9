"""Takes the folder of a run to the Hugging Face Hub, and back.

The token is the Hub client's own: ``HF_TOKEN`` or a login. Nothing but tables, tensors and texts is
ever fetched: no code and no pickles.
"""

from collections.abc import Sequence
from pathlib import Path

from polyprompt.errors import StoreError
from polyprompt.exchange.peft import CONFIG, WEIGHTS
from polyprompt.tables import cannot_write

FETCHED = (
    "README.md", "config.yaml", "run.json", "scores.parquet", "calibration.json", "task.yaml",
    "polyprompt.json", "parts/*.safetensors", "given/*.safetensors",
)  # fmt: skip
"""What a run in a repository consists of, as patterns."""


def check_repository(name: str) -> None:
    """Find out whether a name can be a repository's.

    Raises:
        StoreError: It cannot.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
        fault = "" if name.count("/") == 1 else "it has no owner."
    except HFValidationError as error:
        fault = next(iter(str(error).splitlines()), "")
    if fault:
        raise StoreError(f"'{name}' is no repository of the Hub: {fault} Expected OWNER/NAME.")


def push_folder(folder: Path, repository: str, *, private: bool = False) -> str:
    """Upload a folder as one commit, and make the repository if there is none.

    Args:
        folder: With nothing in it that is not to be seen.
        repository: ``owner/name``.
        private: Whether a new repository is; one that is there stays as it is.

    Returns:
        The address of the commit.

    Raises:
        StoreError: It is not there for us, or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True, repo_type="model")
        done = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            repo_type="model",
            commit_message="Share a run",
            delete_patterns=[*FETCHED, CONFIG, WEIGHTS],  # of a run that was there before
        )
    except Exception as error:  # the client lets many kinds of network errors through
        raise _failed(repository, error, "Nothing was shared, or not all") from error
    return str(getattr(done, "commit_url", done))


def pull_folder(repository: str, folder: Path, revision: str | None = None) -> None:
    """Fetch the files of a run into a folder.

    Args:
        repository: ``owner/name``.
        folder: New, or empty.
        revision: Branch, tag or commit; the newest if None.

    Raises:
        StoreError: There is no such repository or revision for us, it cannot be reached, or the
            folder cannot be written.
    """
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(
            repository, revision=revision, local_dir=folder, allow_patterns=list(FETCHED)
        )
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None and error.filename:
            raise cannot_write(folder, error) from error
        raise _failed(repository, error, "Nothing was taken up") from error


def files_of(folder: Path) -> Sequence[str]:
    """List the files of a folder, as a repository names them."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _failed(repository: str, error: Exception, outcome: str) -> StoreError:
    """Say what went wrong at the Hub, and the ways on."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, HFValidationError):
        reason = f"{next(iter(str(error).splitlines()), '')} Expected owner/name."
    elif isinstance(error, GatedRepoError):
        reason = "its owner asks you to accept terms on its page first; then set HF_TOKEN."
    elif isinstance(error, RevisionNotFoundError):
        reason = "it has no such revision."
    elif isinstance(error, LocalTokenNotFoundError) or status in {401, 403}:
        reason = (
            "you are not known there or may not do this: set HF_TOKEN, or log in (hf auth login)."
        )
    elif isinstance(error, RepositoryNotFoundError):
        reason = "there is none of this name, or it is private and needs HF_TOKEN."
    elif isinstance(error, OfflineModeIsEnabled):
        reason = "HF_HUB_OFFLINE is set."
    else:
        first = next(iter(str(error).splitlines()), "")
        reason = f"{type(error).__name__}: {first} Check the network."
    return StoreError(f"{outcome}: the Hub's '{repository}': {reason}")
