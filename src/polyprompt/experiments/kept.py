"""Files of a group of runs that has not ended: tensors with plain values, and which runs it has.

``STUDY/groups/NAME/`` holds ``group.json`` (its runs), ``training.safetensors`` (where training
stands), ``steps.jsonl`` (its records) and ``answers-N.safetensors`` (blocks of answers). Every file
is whole or absent; the folder is taken away when the group has ended.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from polyprompt.errors import StoreError
from polyprompt.fingerprint import fingerprint
from polyprompt.tables import read_json, replacing, write_json

GROUPS = "groups"
TRAINING, STEPS, GROUP = "training.safetensors", "steps.jsonl", "group.json"


@dataclass(frozen=True)
class Begun:
    """A group that was broken off.

    Attributes:
        path: Its folder.
        runs: Their names, in the group's order.
    """

    path: Path
    runs: tuple[str, ...]


def group_folder(study: Path, runs: Sequence[str]) -> Path:
    """Name the folder of a group of runs."""
    return study / GROUPS / fingerprint(list(runs))


def begin(folder: Path, runs: Sequence[str]) -> None:
    """Write down which runs a group has."""
    write_json(folder / GROUP, {"runs": list(runs)})


def begun_groups(study: Path) -> tuple[list[Begun], list[str]]:
    """Find the groups of a study that were broken off.

    Returns:
        The groups, and a sentence for each whose list of runs cannot be read.
    """
    found, notes = [], []
    for path in sorted(study.glob(f"{GROUPS}/*/{GROUP}")):
        try:
            runs = read_json(path)["runs"]
            found.append(Begun(path.parent, tuple(map(str, runs))))
        except (StoreError, KeyError, TypeError) as error:
            notes.append(
                f"{path} is damaged ({error}): what was kept beside it is used only if the very "
                "same runs are computed together; else the folder can be deleted"
            )
    return found, notes


def take_away(folder: Path) -> None:
    """Delete what was kept of a group, and ``groups`` with the last one."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # other groups have not ended
        folder.parent.rmdir()


def clear(folder: Path, name: str = "*.*") -> None:
    """Delete files of a group, half-written ones of a killed process among them."""
    with suppress(OSError):
        for path in [*folder.glob(name), *folder.glob(".*")]:
            path.unlink(missing_ok=True)


def block(number: int) -> str:
    """Name the file of a block of answers."""
    return f"answers-{number:05d}.safetensors"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Write tensors with plain values beside them.

    Raises:
        StoreError: The disk is full, or the folder cannot be written.
    """
    from safetensors.torch import save_file

    whole = {key: tensor.detach().contiguous() for key, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(whole, temporary, metadata={"values": json.dumps(values)})


def drop_blocks(folder: Path, first: int = 0) -> None:
    """Delete the blocks of answers from one on."""
    for path in folder.glob("answers-*"):
        if path.name >= block(first):
            path.unlink(missing_ok=True)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``write_tensors`` wrote.

    Raises:
        StoreError: It is broken, or may not be read.
    """
    with _opened(path) as (stored, values):
        names = list(stored.keys())
        return {name: stored.get_tensor(name) for name in names}, values


def read_values(path: Path) -> dict[str, Any]:
    """Read the plain values of a file of tensors alone.

    Raises:
        StoreError: It is broken, or may not be read.
    """
    with _opened(path) as (_, values):
        return values


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Open a file of tensors; lends it with its plain values."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as stored:
            yield stored, json.loads(stored.metadata()["values"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"Cannot read {path}: {error}.") from error
