"""The folder for converted backbones: written whole or not at all, checked whenever it is used."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_cache_path

from polyprompt.errors import BackboneError
from polyprompt.fingerprint import file_sha256
from polyprompt.tables import read_json, write_json

_CHECKSUMS = "checksums.json"


def cache_folder() -> Path:
    """Give the folder for converted backbones: ``POLYPROMPT_CACHE``, or the user's cache."""
    asked = os.environ.get("POLYPROMPT_CACHE")
    return Path(asked).expanduser() if asked else user_cache_path("polyprompt")


def is_written(folder: Path) -> bool:
    """Say whether a model stands ready."""
    return (folder / _CHECKSUMS).is_file()


def checked(folder: Path, convert: Callable[[Path], None]) -> Path:
    """Give a folder whose files have their checksums; fill it first if it is not there.

    Args:
        folder: Of the converted model.
        convert: Fills an empty folder.

    Raises:
        BackboneError: It cannot be written, or what lies in it is broken.
    """
    if not is_written(folder):
        write_once(folder, convert)
    for file, expected in read_json(folder / _CHECKSUMS).items():
        path = folder / file
        if not path.is_file() or file_sha256(path) != expected:
            raise BackboneError(
                f"The converted backbone is broken: {path} does not have its checksum. Delete the "
                f"folder {folder} and run the command again; it is made anew."
            )
    return folder


def write_once(folder: Path, convert: Callable[[Path], None]) -> None:
    """Fill a folder beside its place and move it there, whole or not at all.

    Raises:
        BackboneError: It cannot be written.
    """
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
        convert(temporary)
        sums = {path.name: file_sha256(path) for path in sorted(temporary.iterdir())}
        write_json(temporary / _CHECKSUMS, sums)
        if not folder.exists():
            temporary.rename(folder)
    except OSError as error:
        raise BackboneError(
            f"Cannot write the converted backbone to {folder}: {error}. Free space there, or set "
            "POLYPROMPT_CACHE to another folder."
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
