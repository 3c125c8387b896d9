"""Builds a run's parts from its settings, and puts saved ones back."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from polyprompt.capabilities import WeightSettings
from polyprompt.data.encoded import Encoded
from polyprompt.experiments.given import read_part
from polyprompt.experiments.plan import RunPlan
from polyprompt.heads.head import Head
from polyprompt.languages.catalogue import language_name
from polyprompt.models.backbone import Backbone
from polyprompt.part_settings import BottleneckAdapterSettings, LoraSettings
from polyprompt.seeds import generator
from polyprompt.tasks.card import TaskCard
from polyprompt.tuning.adapter import BottleneckAdapter, saved_adapter
from polyprompt.tuning.deep_prompt import DeepPrompt, LayerShape
from polyprompt.tuning.full import Full, apply_full
from polyprompt.tuning.initialisers import INITIALISERS, InitialRequest, saved_prompt
from polyprompt.tuning.lora import Lora, apply_lora
from polyprompt.tuning.part import WeightPart
from polyprompt.tuning.reparameterisers import build_network
from polyprompt.tuning.soft_prompt import SoftPrompt


def build_prompts(run: RunPlan, card: TaskCard, backbone: Backbone) -> dict[str, SoftPrompt]:
    """Build a run's soft prompts, in the layout's order, each from its own stream."""
    prompts = {}
    seed, soft = run.settings.train_seed or 0, run.settings.soft_prompts
    for slot in run.layout.slots:
        settings = soft[slot.name]
        initial = settings.initial
        request = InitialRequest(
            length=slot.length,
            rng=generator(seed, "initial", slot.name),
            bound=initial.bound,
            text=_named(initial.text, run.settings.source[0]),
            ends=initial.ends,
            descriptions=[card.description(label) for label in card.labels],
            path=initial.path,
        )
        weight = INITIALISERS[initial.kind](backbone, request)
        made = settings.reparameteriser
        network = made and build_network(
            made.kind, weight.shape[1], made.width, generator(seed, "network", slot.name)
        )
        prompt = SoftPrompt(
            weight,
            trained=settings.trained,
            network=network,
            kind=made.kind if made else "",
        )
        if network is not None and initial.kind == "file":
            prompt.resume(saved_prompt(initial.path or ""), initial.path or "")
        prompts[slot.name] = prompt.to(backbone.device)
    return prompts


def build_deep_prompts(run: RunPlan, backbone: Backbone) -> dict[str, DeepPrompt]:
    """Build a run's deep prompts, each from its own stream.

    Raises:
        DataError: One that a run goes on from cannot be read, or is of another shape.
    """
    prompts: dict[str, DeepPrompt] = {}
    if not run.settings.deep_prompts:
        return prompts
    layers = [LayerShape(*shape) for shape in backbone.layer_facts.shapes]
    for name, settings in run.settings.deep_prompts.items():
        initial = settings.initial
        prompt = DeepPrompt(
            settings.length,
            layers,
            generator(run.settings.train_seed or 0, "initial", name),
            position=settings.position,
            bound=initial.bound,
            width=backbone.facts.width,
            hidden=settings.projection,
            dropout=settings.dropout,
            trained=settings.trained,
        )
        if initial.kind == "file":
            prompt.resume(saved_prompt(initial.path or ""), initial.path or "")
        prompts[name] = prompt.to(backbone.device)
    return prompts


def build_weight_parts(
    run: RunPlan, backbone: Backbone, head: Head, inputs: Iterable[Encoded]
) -> dict[str, WeightPart]:
    """Build a run's parts that reach the weights; from here on the backbone is no longer frozen.

    Args:
        run: The run.
        backbone: Changed in place.
        head: Its own words are trained too.
        inputs: All that is trained on; its words' rows of the table alone can have a gradient.
    """
    parts: dict[str, WeightPart] = {}
    for name, settings in run.settings.weight_parts.items():
        rng = generator(run.settings.train_seed or 0, "initial", name)
        if isinstance(settings, LoraSettings):
            parts[name] = Lora(backbone, settings, rng)
        elif isinstance(settings, BottleneckAdapterSettings):
            parts[name] = _adapter(backbone, settings, rng)
        else:
            some = not head.reads_vocabulary and run.settings.training.weight_decay == 0
            known = _words(inputs, len(backbone.table)) if some else ()
            words = [*known, *head.word_ids] if some else None
            parts[name] = Full(backbone, words, is_kept=settings.save)
    return parts


def _named(text: str | None, language: str) -> str | None:
    """Put a language's name into a text."""
    return text and text.replace("{Language}", language_name(language))


def _adapter(
    backbone: Backbone, settings: BottleneckAdapterSettings, rng: np.random.Generator
) -> BottleneckAdapter:
    """Put an adapter behind the sub-layers; it may go on from a saved one."""
    adapter = BottleneckAdapter(backbone, settings, rng)
    if settings.initial.kind == "file":
        path = settings.initial.path or ""
        adapter.resume(read_part(Path(path))[0], path)
    return adapter


def _words(inputs: Iterable[Encoded], vocabulary: int) -> set[int]:
    """Collect the words of inputs that a vocabulary has."""
    found = {word for one in inputs for run in one.hard for word in run.tolist()}
    return {word for word in found if word < vocabulary}


def apply_weight_part(
    settings: WeightSettings, tensors: Mapping[str, Tensor], backbone: Backbone
) -> None:
    """Let a loaded backbone compute with what a finished run trained.

    Raises:
        KeyError: A tensor is missing.
        RuntimeError: A tensor has another shape.
    """
    if isinstance(settings, LoraSettings):
        apply_lora(backbone, tensors, settings)
    elif isinstance(settings, BottleneckAdapterSettings):
        own = saved_adapter(tensors, {}, settings, backbone, "the run's adapter")
        backbone.attachments.put(own)
    else:
        apply_full(backbone, tensors)
