"""Files that are either whole or absent: every write goes to a temporary name and is renamed."""

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

import polars as pl
from safetensors import SafetensorError

from polyprompt.errors import StoreError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Lend a temporary path beside ``path`` that takes its place when the block ends well.

    Raises:
        StoreError: The folder cannot be written, or the disk is full.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".{path.name}.{token_hex(4)}"
        temporary.touch(exist_ok=False)
        rights = temporary.stat().st_mode  # those of any file of the user's; a writer may change it
        yield temporary
        with suppress(OSError):  # a file system without rights
            temporary.chmod(rights)
        _to_disk(temporary)  # else a loss of power behind the renaming leaves an empty file
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def cannot_write(path: Path | str, error: Exception) -> StoreError:
    """Compose the error of what cannot be written."""
    reason = getattr(error, "strerror", None) or error
    return StoreError(
        f"Cannot write {path}: {reason}. Nothing that was complete is lost. "
        "Free space or choose another folder with output=FOLDER and run the same command again."
    )


def _to_disk(path: Path) -> None:
    """Have a file's contents on the disk, not in the system's memory alone."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, UTF-8 with LF line ends."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def check_writable(folder: Path) -> None:
    """Find out before anything is computed that a folder can be written; leaves nothing behind.

    Raises:
        StoreError: It cannot.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    write_text(folder / ".writable", "")
    (folder / ".writable").unlink(missing_ok=True)
    with suppress(OSError):  # somebody else has begun to write there
        for path in made:
            path.rmdir()


def check_new(folder: Path) -> None:
    """Find out whether a folder is there to be filled: writable, and empty or not there yet.

    Raises:
        StoreError: It is not.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "is not empty" if folder.is_dir() else "is a file"
        raise StoreError(f"{folder} {what}. Name a new folder.")
    check_writable(folder)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    """Write a data frame as zstd-compressed parquet, atomically."""
    data = parquet_bytes(frame)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    """Give a data frame as zstd-compressed parquet.

    Written by polars itself, it would not say in all cases that a disk is full.
    """
    held = io.BytesIO()
    frame.write_parquet(held, compression="zstd")
    return held.getvalue()


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        StoreError: It is missing or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"Cannot read {path}: {error}.") from error


def read_parquet(path: Path) -> pl.DataFrame:
    """Read a parquet file.

    Raises:
        StoreError: It is missing or broken.
    """
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StoreError(f"Cannot read the table {path}: {error}.") from error
