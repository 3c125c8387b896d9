"""Loads a backbone by name: ``pypi:NAME``, a local folder, a GGUF file, or a model of the Hub."""

import json
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from polyprompt.capabilities import BackboneSettings
from polyprompt.errors import BackboneError
from polyprompt.families import FAMILIES, Attention
from polyprompt.models.backbone import Backbone, BackboneFacts
from polyprompt.models.causal import CausalBackbone
from polyprompt.models.embedding import EmbeddingBackbone
from polyprompt.models.gguf import converted_gguf
from polyprompt.models.hub import WAYS_OUT, hub_model
from polyprompt.models.locate import Location, locate, max_positions
from polyprompt.models.masked import MaskedBackbone
from polyprompt.models.precision import check_device, reading_dtype
from polyprompt.models.probe import probe_decoder, probe_encoder, probe_seq2seq
from polyprompt.models.pypi import converted_folder, wheel_model
from polyprompt.models.seq2seq import Seq2SeqBackbone

_CLASSES: dict[str, Any] = {
    "causal": AutoModelForCausalLM,
    "embedding": AutoModel,
    "masked": AutoModelForMaskedLM,
    "seq2seq": AutoModelForSeq2SeqLM,
}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_UNBOUNDED_POSITIONS = 2048
"""Most tokens of an input for models whose positions have no end (BLOOM was trained on as many)."""


def load_backbone(settings: BackboneSettings) -> Backbone:
    """Load and freeze a backbone.

    Raises:
        BackboneError: It cannot be found or read, is not of the family asked for, or computes
            something else on cached texts.
    """
    place = locate(settings)
    check_device(settings.device)
    where, options = _files(place, settings)
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, use_fast=True, **options)
        model = _load_model(where, place.family, settings, options)
    except Exception as error:
        raise _cannot_load(settings.name, error) from error
    if not tokenizer.is_fast:
        raise BackboneError(f"{settings.name} has no fast tokenizer (tokenizer.json).")
    return wrap(model, tokenizer, settings, place)


def load_pair(settings: BackboneSettings) -> tuple[Backbone, Backbone]:
    """Load the copy that is trained with and the one that reads texts once training is over.

    Where both have one precision they are one and the same.

    Raises:
        BackboneError: As ``load_backbone``.
    """
    backbone = load_backbone(settings)
    reading = reading_settings(settings)
    return backbone, backbone if reading.dtype == settings.dtype else load_backbone(reading)


def reading_settings(settings: BackboneSettings) -> BackboneSettings:
    """Give the settings of a backbone that only reads."""
    return settings.model_copy(update={"dtype": reading_dtype(settings)})


def wrap(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: BackboneSettings,
    place: Location,
) -> Backbone:
    """Wrap a loaded model as a backbone and probe it.

    Raises:
        BackboneError: It cannot be run as its family needs.
    """
    attention = settings.attention or FAMILIES[place.family].attentions[0]
    prefix, notes = _prefix_and_notes(place)
    counted = place.family in {"embedding", "masked"}  # by a table of absolute positions
    offset = _position_offset(model) if counted else 0
    facts = BackboneFacts(
        name=settings.name,
        identity=place.identity,
        attention=attention,
        width=_table_width(model),
        max_positions=(max_positions(model.config.to_dict()) or _UNBOUNDED_POSITIONS) - offset,
        text_prefix=prefix if settings.text_prefix is None else settings.text_prefix,
        parameters=model.num_parameters(),
        notes=(*notes, *place.notes),
        commit=place.commit,
        pooling=FAMILIES[place.family].pooling,
        guesses_masks=place.family == "masked",
    )
    backbone = _probed(model, tokenizer, facts, place.family, offset)
    backbone.autocast = _DTYPES[settings.autocast] if settings.autocast else None
    return backbone


def _probed(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    facts: BackboneFacts,
    family: str,
    offset: int,
) -> Backbone:
    """Build a backbone of a family and find out whether its cached path is exact."""
    if family == "causal":
        decoder = CausalBackbone(model, tokenizer, facts)
        probe_decoder(decoder)
        return decoder
    if family == "seq2seq":
        seq2seq = Seq2SeqBackbone(model, tokenizer, facts)
        probe_seq2seq(seq2seq)
        return seq2seq
    kind = MaskedBackbone if family == "masked" else EmbeddingBackbone
    encoder = kind(model, tokenizer, facts, offset)
    if facts.attention is Attention.ONE_WAY:
        probe_encoder(encoder)
    return encoder


def _files(place: Location, settings: BackboneSettings) -> tuple[str, dict[str, Any]]:
    """Say where transformers finds the files, fetched and converted if need be, and how."""
    if place.kind == "pypi":
        return str(converted_folder(place.name)), {}
    if place.kind == "gguf":
        return str(converted_gguf(Path(place.name))), {}
    if place.kind == "hub":
        file = hub_model(place.name, settings.revision, settings.gguf_file).gguf
        if file is not None:
            return str(converted_gguf(file)), {}
        return place.name, {"revision": place.commit}
    return place.name, {}


def _load_model(
    where: str, family: str, settings: BackboneSettings, options: dict[str, Any]
) -> PreTrainedModel:
    """Load the weights, from safetensors alone, in the precision and on the device asked for."""
    config = AutoConfig.from_pretrained(where, **options)
    options = options | {"config": config, "dtype": _DTYPES[settings.dtype]}
    kind = _CLASSES[family]
    if family == "embedding":
        options |= _without_pooler(config)
    whole = settings.device_map is None and settings.quantization is None
    if not whole:
        options["device_map"] = settings.device_map or {"": settings.device}
    if settings.quantization is not None:
        options["quantization_config"] = _quantization(settings)
    model: PreTrainedModel = kind.from_pretrained(where, use_safetensors=True, **options)
    for module in model.modules():
        # bitsandbytes repacks 4-bit weights for CPUs on first use and then has no gradient
        if hasattr(module, "support_avx512bf16_for_cpu"):
            vars(module)["support_avx512bf16_for_cpu"] = False
    return model.to(torch.device(settings.device)) if whole else model  # type: ignore[arg-type]


def _quantization(settings: BackboneSettings) -> BitsAndBytesConfig:
    """Say how bitsandbytes is to store the projections; they compute in ``dtype``.

    Raises:
        BackboneError: It is not installed.
    """
    if find_spec("bitsandbytes") is None:
        raise BackboneError(
            f"backbone.quantization={settings.quantization} needs bitsandbytes: "
            "pip install 'polyprompt[quantized]'."
        )
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it reports every product
    if settings.quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    dtype = _DTYPES[settings.dtype]
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )


def _prefix_and_notes(place: Location) -> tuple[str, tuple[str, ...]]:
    """Give the words that a model's texts begin with, and its origin and terms."""
    if place.kind == "pypi":
        model = wheel_model(place.name)
        return model.text_prefix, (*model.notes, *filter(None, [model.terms]))
    if place.kind == "folder" and place.family == "embedding":
        return _folder_prefix(Path(place.name)), ()
    return "", ()


def _without_pooler(config: object) -> dict[str, bool]:
    """Leave out the pooling layer, which a sentence vector made of a mean does not use."""
    kinds = {"bert", "roberta", "xlm-roberta"}
    return {"add_pooling_layer": False} if getattr(config, "model_type", "") in kinds else {}


def _table_width(model: PreTrainedModel) -> int:
    """Give the width of the embedding table, in whose space soft prompts live."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, torch.Tensor)
    return weight.shape[1]


def _position_offset(model: PreTrainedModel) -> int:
    """Find where positions begin: after the padding index if the table reserves a row for it."""
    table = next(
        (m for name, m in model.named_modules() if name.endswith("position_embeddings")), None
    )
    if not isinstance(table, torch.nn.Embedding):
        raise BackboneError(
            f"{model.config.model_type} has no table of absolute positions; the embedding family "
            "reads BERT and XLM-R encoders."
        )
    return 0 if table.padding_idx is None else table.padding_idx + 1


def _folder_prefix(folder: Path) -> str:
    """Read the query prompt of a sentence-transformers folder, if it names one."""
    path = folder / "config_sentence_transformers.json"
    if not path.is_file():
        return ""
    prompts = json.loads(path.read_text(encoding="utf-8")).get("prompts") or {}
    return prompts.get("query", "")


def _cannot_load(name: str, error: Exception) -> BackboneError:
    """Explain a failed load and the ways out."""
    first = str(error).splitlines()[0] if str(error) else ""
    if "safetensors" in first:
        first += " – weights are read from safetensors alone; save_pretrained of transformers, run "
        first += "once where you trust the model's other files, makes them."
    return BackboneError(
        f"Cannot load the backbone '{name}': {type(error).__name__}: {first[:500]}\n{WAYS_OUT}"
    )
