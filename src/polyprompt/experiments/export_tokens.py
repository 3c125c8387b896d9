"""Writes a run as a plain checkpoint and tokenizer, and as embeddings that a server takes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from polyprompt.capabilities import RunSettings
from polyprompt.data.encoding import Encoder
from polyprompt.errors import ConfigError
from polyprompt.exchange.tokens import token_names, write_checkpoint
from polyprompt.experiments.compatibility import head_of
from polyprompt.experiments.encoders import build_encoder
from polyprompt.experiments.exporting import USE, Input, answer_rule, usage, written
from polyprompt.experiments.reopen import layout_of, load_parts, load_trained_on, settings_of
from polyprompt.experiments.store import RunFolder
from polyprompt.head_settings import GeneratorSettings
from polyprompt.records import Example
from polyprompt.tables import write_json
from polyprompt.tasks.layout import Layout
from polyprompt.tasks.segments import Slot


def to_tokens(run: RunFolder, folder: Path) -> dict[str, Any]:
    """Write the model with a run's soft tokens as new words, wherever they stand in the input.

    Args:
        run: Complete; of a decoder, with soft prompts alone.
        folder: For the checkpoint.

    Returns:
        What ``polyprompt.json`` says.

    Raises:
        ConfigError: A plain checkpoint cannot hold it; says why.
    """
    settings, record = settings_of(run), run.record()
    rule = answer_rule(run, settings)
    if isinstance(head_of(settings), GeneratorSettings):
        raise ConfigError(
            f"{run.path} cannot be a plain checkpoint: it writes, and where the model's word table "
            "is its head, too, it would write the prompt's own words. Export it to PEFT."
        )
    layout = layout_of(settings, record)
    _check_plain(run, settings, layout)
    backbone = load_trained_on(run, settings.backbone)
    encoder = build_encoder(layout, settings, backbone)
    _, prompts = load_parts(run, settings, layout, backbone)
    slots = {slot.name: token_names(slot.name, slot.length) for slot in layout.slots}
    names = [name for own in slots.values() for name in own]
    rows = prompts.vectors[0].float().cpu()
    use = usage(
        record, settings.backbone.name, _input(layout, slots, encoder, backbone.tokenizer), rule
    )
    write_checkpoint(backbone.model, backbone.tokenizer, names, rows, folder)
    use |= {"new_words": names, "base_model": str(folder), "made_from": settings.backbone.name}
    write_json(folder / USE, use)
    return use


def _input(
    layout: Layout,
    slots: Mapping[str, Sequence[str]],
    encoder: Encoder,
    tokenizer: PreTrainedTokenizerBase,
) -> Input:
    """Say how the input is written; prompts in front stand before the tokenizer's beginning."""
    names = {slot: "".join(own) for slot, own in slots.items()}
    segments = layout.segments
    front = next(i for i, one in enumerate(segments) if not isinstance(one, Slot))
    if not front or not len(encoder.begin):
        return Input(written(layout, names=names), bool(len(encoder.begin)))
    begin = "".join(tokenizer.convert_ids_to_tokens(encoder.begin.tolist()))
    rest = written(layout, front, names)
    in_front = "".join(names[one.name] for one in segments[:front] if isinstance(one, Slot))
    return Input(f"{in_front}{begin}{rest}", special_tokens=False)


def _check_plain(run: RunFolder, settings: RunSettings, layout: Layout) -> None:
    """Refuse what a checkpoint's own pass does not compute.

    Raises:
        ConfigError: Says what it is.
    """
    where = f"{run.path} cannot be a plain checkpoint"
    if settings.backbone.family != "causal":
        raise ConfigError(
            f"{where}: its backbone is of the family {settings.backbone.family}; decoders are "
            "written so. Under one-way attention words do not see the prompt, which no plain model "
            "computes."
        )
    others = sorted({part.kind for part in settings.parts.values()} - {"soft_prompt"})
    if others or not layout.slots or settings.sourced or settings.instructions:
        what = others[0] if others else "parts or words of a text's language, or no prompt"
        raise ConfigError(f"{where}: soft prompts alone become words, and it has {what}.")


def prompt_embeds(run: RunFolder, rows: list[dict[str, str]]) -> list[Float[Tensor, "T D"]]:
    """Give whole inputs as embeddings, for servers that take them (vLLM: ``prompt_embeds``).

    Args:
        run: Complete; of a decoder, with soft prompts alone.
        rows: Texts by the names of the fields.

    Returns:
        A tensor per row, in the precision of the model, behind the word table's scale.

    Raises:
        ConfigError: A plain model does not compute it.
    """
    settings, record = settings_of(run), run.record()
    answer_rule(run, settings)
    layout = layout_of(settings, record)
    _check_plain(run, settings, layout)
    backbone = load_trained_on(run, settings.backbone)
    encoder = build_encoder(layout, settings, backbone)
    _, prompts = load_parts(run, settings, layout, backbone)
    vectors, lengths = prompts.vectors[0].to(backbone.dtype), (*prompts.lengths[0], 0)
    examples = [Example(str(i), "", row) for i, row in enumerate(rows)]
    found = []
    for one in encoder.encode(examples):
        pieces, at = [], 0
        for hard, length in zip(one.hard, lengths, strict=True):
            pieces += [backbone.embed(torch.from_numpy(hard)), vectors[at : at + length]]
            at += length
        found.append((torch.cat(pieces) * backbone.look_up_scale).cpu())
    return found
