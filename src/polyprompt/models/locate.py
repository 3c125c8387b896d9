"""Says what a backbone's name means and names its contents, without loading anything."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from polyprompt.errors import BackboneError
from polyprompt.fingerprint import fingerprint
from polyprompt.models.pypi import wheel_model


@dataclass(frozen=True)
class Location:
    """Where a backbone comes from.

    Attributes:
        kind: A wheel of PyPI, a local folder, or the Hub.
        name: The model's name or folder.
        identity: Changes when the contents change.
    """

    kind: Literal["pypi", "folder", "hub"]
    name: str
    identity: str


def locate(name: str, revision: str | None) -> Location:
    """Find out what a backbone's name means.

    Raises:
        BackboneError: A wheel model that does not exist, or a path where no folder is.
    """
    if name.startswith("pypi:"):
        short = name.removeprefix("pypi:")
        return Location("pypi", short, wheel_model(short).sha256[:16])
    folder = Path(name).expanduser()
    if folder.is_dir():
        stamps = {
            p.name: [p.stat().st_size, p.stat().st_mtime_ns]
            for p in sorted(folder.iterdir())
            if p.is_file()
        }
        return Location("folder", str(folder), fingerprint(stamps))
    if name.startswith(("/", "./", "../", "~")):
        raise BackboneError(
            f"There is no folder {folder} (backbone). Expected a folder with config.json, "
            "model.safetensors and tokenizer.json."
        )
    return Location("hub", name, fingerprint([name, revision]))
