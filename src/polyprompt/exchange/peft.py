"""PEFT's files: a folder with ``adapter_config.json`` and ``adapter_model.safetensors``.

PEFT puts a prompt in front of everything that it is given, behind the word table's scale (XGLM,
Gemma); ours stands before that scale. Prefixes have the same numbers in the same order.

Axes: K virtual tokens, D width.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from polyprompt.errors import BackboneError, DataError
from polyprompt.tables import replacing, write_text
from polyprompt.tuning.initialisers import OF_PEFT
from polyprompt.tuning.lora import IN_MODEL, in_model

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TASK_TYPES = {"causal": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM"}
"""PEFT's names of what a model of a family does."""
_DEFAULT = ".default."

Kind = Literal["PROMPT_TUNING", "PREFIX_TUNING", "LORA"]
_READ: Mapping[str, Kind] = {
    "PROMPT_TUNING": "PROMPT_TUNING",
    "P_TUNING": "PROMPT_TUNING",
    "PREFIX_TUNING": "PREFIX_TUNING",
    "LORA": "LORA",
}


@dataclass(frozen=True)
class Base:
    """The model that an adapter stands on, as PEFT wants to know it.

    Attributes:
        name: That transformers loads it by.
        family: One of ``TASK_TYPES``.
        width: D.
        layers: Of it.
        heads: Of attention.
    """

    name: str
    family: str
    width: int
    layers: int
    heads: int


@dataclass(frozen=True)
class Adapter:
    """An adapter as it was read.

    Attributes:
        kind: Of PEFT; P-tuning is a prompt once its encoder is folded, which PEFT does on saving.
        tensors: ``weight`` for prompts and prefixes; the additions of LoRA by the names they have
            in the model.
        config: All of its configuration.
    """

    kind: Kind
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any]


def write_prompt(rows: Float[Tensor, "K D"], base: Base, folder: Path) -> None:
    """Write a soft prompt as PEFT's prompt tuning.

    Args:
        rows: Behind the word table's scale.
        base: The model.
        folder: For the two files.

    Raises:
        BackboneError: PEFT is not installed.
    """
    from_peft = _library()
    config = from_peft.PromptTuningConfig(
        task_type=TASK_TYPES[base.family],
        prompt_tuning_init="RANDOM",
        **_common(rows, base),
    )
    _write(config, {OF_PEFT: rows}, folder)


def write_prefix(rows: Float[Tensor, "K numbers"], base: Base, folder: Path) -> None:
    """Write keys and values of every layer as PEFT's prefix tuning.

    Args:
        rows: As ``deep_prompt`` saves them: layer by layer keys, then values.
        base: The model.
        folder: For the two files.

    Raises:
        BackboneError: PEFT is not installed.
    """
    from_peft = _library()
    common = _common(rows, base) | {"token_dim": rows.shape[1] // (2 * base.layers)}
    config = from_peft.PrefixTuningConfig(
        task_type=TASK_TYPES[base.family], prefix_projection=False, **common
    )
    _write(config, {OF_PEFT: rows}, folder)


def write_lora(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any], base: Base, folder: Path
) -> None:
    """Write low-rank additions as PEFT's LoRA.

    Args:
        tensors: By the names that PEFT gives them in the model.
        settings: ``rank``, ``alpha`` and ``transposed``: whether the model keeps its projections
            with inputs as rows (GPT-2's Conv1D).
        base: The model.
        folder: For the two files.

    Raises:
        BackboneError: PEFT is not installed.
    """
    from_peft = _library()
    modules = sorted({name.partition(".lora_")[0] for name in tensors})
    config = from_peft.LoraConfig(
        task_type=TASK_TYPES[base.family],
        r=settings["rank"],
        lora_alpha=settings["alpha"],
        lora_dropout=0.0,
        fan_in_fan_out=settings["transposed"],
        target_modules=modules,
        base_model_name_or_path=base.name,
        inference_mode=True,
    )
    named = {IN_MODEL + name.replace(_DEFAULT, "."): value for name, value in tensors.items()}
    _write(config, named, folder)


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter that PEFT has saved; code and pickles are never read.

    Raises:
        DataError: A file is missing or broken, or it is of a kind that is not known here.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        saved = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(
            f"Cannot read the PEFT adapter {folder}: {error}. Expected {CONFIG} and {WEIGHTS} "
            "(save it with safe_serialization=True)."
        ) from error
    kind = _READ.get(str(config.get("peft_type")))
    if kind is None:
        raise DataError(
            f"{folder} is a PEFT adapter of the kind {config.get('peft_type')}; read are "
            f"{', '.join(_READ)}."
        )
    if kind == "LORA":
        return Adapter(kind, {in_model(name): value for name, value in saved.items()}, config)
    rows = saved.get(OF_PEFT)
    if rows is None or rows.ndim != 2:
        raise DataError(f"{folder / WEIGHTS} has no matrix '{OF_PEFT}'.")
    if config.get("task_type") == TASK_TYPES["seq2seq"] and kind == "PROMPT_TUNING":
        rows = rows[: int(config["num_virtual_tokens"])]  # PEFT reads the encoder's alone
    return Adapter(kind, {"weight": rows.float()}, config)


def is_adapter(path: Path) -> bool:
    """Say whether a folder holds an adapter of PEFT."""
    return (path / CONFIG).is_file()


def _common(rows: Tensor, base: Base) -> dict[str, Any]:
    """Give what PEFT does not find out of every model by itself."""
    return {
        "num_virtual_tokens": rows.shape[0],
        "token_dim": base.width,
        "num_layers": base.layers,
        "num_attention_heads": base.heads,
        "num_transformer_submodules": 1,
        "base_model_name_or_path": base.name,
        "inference_mode": True,
    }


def _write(config: Any, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Write the two files of an adapter."""
    shown = {key: _plain(value) for key, value in config.to_dict().items()}
    with replacing(folder / WEIGHTS) as temporary:
        save_file({name: own.detach().float().cpu().contiguous() for name, own in tensors.items()},
                  temporary, {"format": "pt"})  # fmt: skip
    write_text(folder / CONFIG, json.dumps(shown, indent=2, sort_keys=True) + "\n")


def _plain(value: Any) -> Any:
    """Write a set as a list, and an enumeration as its value."""
    if isinstance(value, set):
        return sorted(value)
    return getattr(value, "value", value)


def _library() -> Any:
    """Import PEFT.

    Raises:
        BackboneError: It is not installed.
    """
    if find_spec("peft") is None:
        raise BackboneError("Exporting to PEFT needs it: pip install 'polyprompt[peft]'.")
    import peft

    return peft
