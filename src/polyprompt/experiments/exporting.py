"""Decides whether a run can be said in PEFT's terms, and writes it there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from polyprompt.capabilities import RunSettings
from polyprompt.errors import ConfigError
from polyprompt.exchange.peft import TASK_TYPES, Base, write_lora, write_prefix, write_prompt
from polyprompt.experiments.compatibility import head_of
from polyprompt.experiments.encoders import build_encoder
from polyprompt.experiments.reopen import layout_of, load_parts, load_trained_on, settings_of
from polyprompt.experiments.store import RunFolder
from polyprompt.head_settings import GeneratorSettings, VerbalizerSettings
from polyprompt.models.backbone import Backbone
from polyprompt.part_settings import DeepPromptSettings, LoraSettings
from polyprompt.records import Example
from polyprompt.tables import write_json
from polyprompt.tasks.layout import Layout
from polyprompt.tasks.segments import Decoder, Field, Slot, Words

USE = "polyprompt.json"
"""Beside an exported part: how its input is written and its answers are read."""
_PROBE = "a"


@dataclass(frozen=True)
class Input:
    """How the input of an exported part is written for other programs.

    Attributes:
        text: A Python format string with the names of the fields.
        special_tokens: Whether the tokenizer's own special tokens stand around it: a beginning in
            front of a decoder's input, an end behind an encoder's.
    """

    text: str
    special_tokens: bool


def to_peft(run: RunFolder, folder: Path, base_name: str = "") -> dict[str, Any]:
    """Write a run's part as an adapter of PEFT, with what is needed to use it beside.

    Args:
        run: Complete; of a decoder, or of an encoder with one; with one kind of part that PEFT has.
        folder: For the files.
        base_name: How others load the model; the run's own name for it if empty.

    Returns:
        What ``polyprompt.json`` says.

    Raises:
        ConfigError: PEFT has no form for it; says why.
    """
    settings, record = settings_of(run), run.record()
    rule = answer_rule(run, settings)
    layout = layout_of(settings, record)
    kind = peft_kind(run, settings, layout)
    backbone = load_trained_on(run, settings.backbone)
    base = _base(backbone, base_name or settings.backbone.name, settings.backbone.family or "")
    encoder = build_encoder(layout, settings, backbone)
    given = Input(template(layout), special_tokens=bool(len(encoder.begin) + len(encoder.end)))
    if kind == "LORA":
        _write_lora(run, settings, backbone, base, folder)
    elif kind == "PREFIX_TUNING":
        (name,) = settings.deep_prompts
        rows = load_file(run.path / "parts" / f"{name}.safetensors")["weight"]
        write_prefix(rows.float(), base, folder)
    else:
        _, prompts = load_parts(run, settings, layout, backbone)
        rows, given = folded(layout, settings, backbone, prompts.vectors[0], prompts.lengths[0])
        write_prompt(rows * backbone.look_up_scale, base, folder)
    use = usage(record, base.name, given, rule) | {"peft": kind}
    write_json(folder / USE, use)
    return use


def _write_lora(
    run: RunFolder, settings: RunSettings, backbone: Backbone, base: Base, folder: Path
) -> None:
    """Write low-rank additions."""
    from transformers.pytorch_utils import Conv1D

    ((name, part),) = settings.weight_parts.items()
    assert isinstance(part, LoraSettings)
    tensors = load_file(run.path / "parts" / f"{name}.safetensors")
    place = next(iter(tensors)).partition(".lora_")[0]
    transposed = isinstance(backbone.model.get_submodule(place), Conv1D)
    facts = {"rank": part.rank, "alpha": part.alpha, "transposed": transposed}
    write_lora(tensors, facts, base, folder)


def peft_kind(run: RunFolder, settings: RunSettings, layout: Layout) -> str:
    """Say as what PEFT holds a run's part.

    Raises:
        ConfigError: It has no form for it.
    """
    where = f"{run.path} cannot be a PEFT adapter"
    parts = settings.parts
    if settings.backbone.family not in TASK_TYPES:
        raise ConfigError(
            f"{where}: its backbone is of the family {settings.backbone.family}; decoders can be "
            "exported, alone or behind an encoder. Under one-way attention words do not see the "
            "prompt, which PEFT computes otherwise."
        )
    if layout.with_decoder().segments[-1] != Decoder():
        raise ConfigError(
            f"{where}: it has words or a prompt in the decoder; PEFT puts prompts in front of what "
            "the encoder reads."
        )
    if settings.sourced or settings.instructions:
        raise ConfigError(f"{where}: it reads texts with words or parts of their language.")
    kinds = {part.kind for part in parts.values()}
    if kinds == {"lora"} and len(parts) == 1:
        return "LORA"
    deep = [part for part in parts.values() if isinstance(part, DeepPromptSettings)]
    if len(deep) == 1 and len(parts) == 1 and not layout.slots:
        if deep[0].position == "suffix" or run.record().get("text_end") is not None:
            raise ConfigError(
                f"{where}: its keys and values stand behind the text, or at a fixed distance from "
                "its end; PEFT puts them in front, where the text begins."
            )
        return "PREFIX_TUNING"
    if kinds != {"soft_prompt"}:
        raise ConfigError(
            f"{where}: PEFT holds soft prompts, or one prefix, or one LoRA; it has "
            f"{', '.join(sorted(kinds)) or 'no part'}{' besides soft tokens' * bool(layout.slots)}."
        )
    check_in_front(where, layout)
    return "PROMPT_TUNING"


def check_in_front(where: str, layout: Layout) -> None:
    """Refuse a prompt behind a field of the task.

    Raises:
        ConfigError: PEFT would load it without a word, and put it in front of the text.
    """
    fields = [i for i, one in enumerate(layout.segments) if isinstance(one, Field)]
    behind = [one for one in layout.segments[fields[0] :] if isinstance(one, Slot)]
    if behind:
        raise ConfigError(
            f"{where}: its prompt '{behind[0].name}' stands behind the text. PEFT would load it "
            "without an error and put it in front, where it was not trained. Export it with "
            "--format tokens, which keeps its place, or train with the prompt in front "
            f"(layout='{{{behind[0].name}}}{{{layout.fields[0]}}}')."
        )


def answer_rule(run: RunFolder, settings: RunSettings) -> str:
    """Say how another program reads a run's answers.

    Raises:
        ConfigError: It would read others than the run gives; says why.
    """
    head, where = head_of(settings), f"{run.path} cannot be exported"
    if isinstance(head, GeneratorSettings):
        return "what the model writes behind the input, as generate does it"
    if not isinstance(head, VerbalizerSettings):
        raise ConfigError(
            f"{where}: it answers through a {head.kind} head, which other programs do not have. "
            "What can be exported answers by label words (head=verbalizer) or writes "
            "(head=generator)."
        )
    if head.calibration != "none":
        raise ConfigError(
            f"{where}: its scores are calibrated (head.calibration={head.calibration}), which "
            "other programs do not do; its answers there would be others. Train with none."
        )
    several = [label for label, own in run.record()["label_words"].items() if len(own) > 1]
    if several:
        raise ConfigError(
            f"{where}: the word for '{several[0]}' has several pieces, which other programs do not "
            "score as it does. Choose words of one piece (head.words) and train again."
        )
    if settings.backbone.family == "seq2seq":
        return "the label whose word has the highest logit at the decoder's first step"
    return "the label whose word has the highest logit behind the last token"


def template(layout: Layout) -> str:
    """Write what stands in the input from its last slot on, as a Python format string."""
    last = max((i for i, one in enumerate(layout.segments) if isinstance(one, Slot)), default=-1)
    return written(layout, last + 1)


def written(layout: Layout, start: int = 0, names: Mapping[str, str] | None = None) -> str:
    """Write a layout's segments as a Python format string.

    Args:
        layout: Parsed.
        start: The first segment.
        names: Texts that stand for slots, where slots are written.
    """
    found = []
    for one in layout.segments[start:]:
        if isinstance(one, Words):
            found.append(one.text.replace("{", "{{").replace("}", "}}"))
        elif isinstance(one, Field):
            found.append(f"{{{one.name}}}")
        elif isinstance(one, Slot) and names is not None:
            found.append(names[one.name])
    return "".join(found)


def folded(
    layout: Layout,
    settings: RunSettings,
    backbone: Backbone,
    vectors: Float[Tensor, "P D"],
    lengths: tuple[int, ...],
) -> tuple[Float[Tensor, "K D"], Input]:
    """Write everything in front of the text as rows: soft tokens, and words between them.

    Args:
        layout: With all slots in front.
        settings: Of the run.
        backbone: Loaded.
        vectors: Of all slots, one below the other.
        lengths: Of the slots.

    Returns:
        The rows, in the space of the word table, and how what follows them is written.
    """
    encoder = build_encoder(layout, settings, backbone)
    (probe,) = encoder.encode([Example("0", "", dict.fromkeys(layout.fields, _PROBE))])
    rows, at = [], 0
    for run, length in zip(probe.hard, lengths, strict=False):
        rows.append(backbone.embed(torch.from_numpy(run)).float().cpu())
        rows.append(vectors[at : at + length].float().cpu())
        at += length
    in_front = sum(len(run) for run in probe.hard[: len(lengths)])
    text, begins, ends = template(layout), len(encoder.begin) > 0, len(encoder.end) > 0
    if begins and ends and in_front:  # the beginning is among the rows, the end is not
        text += "".join(backbone.tokenizer.convert_ids_to_tokens(encoder.end.tolist()))
        ends = False
    return torch.cat(rows), Input(text, ends or (begins and not in_front))


def usage(record: Mapping[str, Any], base: str, given: Input, rule: str) -> dict[str, Any]:
    """Say how an exported part's input is written and its answers are read."""
    return {
        "base_model": base,
        "task": record["task"],
        "text": given.text,
        "add_special_tokens": given.special_tokens,
        "labels": record.get("label_words") or record["labels"],
        "answer": rule,
        "trained_on": {"source": record["source"], "draw": record["draw"]},
        "licence_of_the_data": record["licence"],
    }


def _base(backbone: Backbone, name: str, family: str) -> Base:
    """Say of a model what PEFT wants to know."""
    config = backbone.model.config.get_text_config(decoder=True)
    return Base(
        name,
        family,
        backbone.facts.width,
        int(config.num_hidden_layers),
        int(config.num_attention_heads),
    )
