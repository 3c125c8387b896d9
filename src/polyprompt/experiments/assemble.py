"""Builds what a planned group needs – encoder, engine, parts, heads – from settings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from polyprompt.capabilities import (
    FAMILIES,
    EngineSettings,
    HeadSettings,
    RunSettings,
    SimilaritySettings,
    VerbalizerSettings,
)
from polyprompt.data.encoding import Encoded, Encoder
from polyprompt.engine.cached import CachedEngine
from polyprompt.engine.compiling import compile_where_it_pays
from polyprompt.engine.direct import DirectEngine
from polyprompt.engine.engine import Engine
from polyprompt.engine.memory import remembered
from polyprompt.engine.store import Budget
from polyprompt.engine.threads import best_threads
from polyprompt.experiments.compatibility import check_positions, head_of
from polyprompt.experiments.parts import build_prompts, build_weight_parts
from polyprompt.experiments.plan import GroupPlan, RunPlan
from polyprompt.heads.head import Head
from polyprompt.heads.similarity import SimilarityHead, class_means
from polyprompt.heads.verbalizer import VerbalizerHead, Words, label_pieces
from polyprompt.models.backbone import Backbone
from polyprompt.models.load import load_backbone, reading_settings
from polyprompt.records import Example
from polyprompt.tasks.card import TaskCard
from polyprompt.tasks.layout import Field, Layout, parse_layout
from polyprompt.training.member import Member, label_tensor
from polyprompt.tuning.part import TrainablePart, WeightPart

CONTENT_FREE: dict[str, tuple[str, ...]] = {
    "none": (),
    "contextual": ("N/A", "[MASK]", ""),
    "pmi": ("",),
}
"""Texts that calibration reads (Zhao et al. 2021, section 5; Holtzman et al. 2021: none)."""


@dataclass(frozen=True)
class Group:
    """Runs that are ready to be trained together.

    Attributes:
        engine: Computes states.
        encoder: Of their common layout.
        descriptions: Vectors of the label descriptions by the frozen backbone, C D, for heads that
            compare with them.
        words: Pieces of the label words, for heads that score them.
        instruction: Encoders of the card's instruction, at the beginning of an input and behind
            demonstrations, for decoders that are asked without a prompt.
        members: The runs, in the order of the plan.
    """

    engine: Engine
    encoder: Encoder
    descriptions: Float[Tensor, "C D"] | None
    words: Words | None
    instruction: tuple[Encoder, Encoder] | None
    members: tuple[Member, ...]


def build_engine(
    kind: str,
    backbone: Backbone,
    settings: EngineSettings,
    branches: Sequence[Sequence[int]] = (),
) -> Engine:
    """Build the engine that was chosen."""
    if backbone.device.type == "cpu":
        torch.set_num_threads(settings.threads or best_threads())
    backbone.checkpointing = settings.checkpointing
    if settings.compile:
        compile_where_it_pays(backbone)
    allowance = remembered(backbone, settings.tokens_per_batch, settings.rows_per_pass)
    if kind == "direct":
        return DirectEngine(backbone, branches, allowance)
    budget = Budget(
        settings.cache_budget_bytes,
        settings.cache_host_bytes,
        settings.cache_disk_bytes,
        None if settings.cache_folder is None else Path(settings.cache_folder).expanduser(),
    )
    return CachedEngine(backbone, budget, branches, allowance)


def build_group(plan: GroupPlan, backbone: Backbone) -> Group:
    """Build a group of runs on a loaded backbone.

    Raises:
        ConfigError: A prompt and its texts need more positions than the model has, or a label word
            cannot be scored.
    """
    first = plan.runs[0].settings
    words = words_of(head_of(first), plan.card.labels, backbone)
    branches = () if words is None else words.branches
    engine = build_engine(plan.choice.kind, backbone, plan.engine, branches)
    continued = longest_branch(branches)
    encoder = build_encoder(plan.runs[0].layout, first, backbone, continued=continued)
    described = describe_labels(engine, plan.card, first) if words is None else None
    instruction = None
    if words is not None:
        layout = parse_layout(plan.card.instruction_layout(), plan.card.columns.fields)
        alone = build_encoder(layout, first, backbone, continued=continued)
        behind = build_encoder(layout, first, backbone, begins=False, continued=continued)
        instruction = alone, behind
    members = []
    for run in plan.runs:
        train = encoder.encode(run.draw.train)
        labels = label_tensor([example.label for example in run.draw.train], plan.card.labels)
        head = build_head(head_of(run.settings), engine, words, described, (train, labels))
        members.append(build_member(run, plan.card, encoder, backbone, head))
    return Group(engine, encoder, described, words, instruction, tuple(members))


def read_on(plan: GroupPlan, group: Group, reader: Backbone | None) -> Group:
    """Give a trained group on the copy of its backbone that reads texts.

    Args:
        plan: The group's.
        group: Trained.
        reader: The copy; None where weights were trained: it is loaded now, if it has another
            precision, and gets them.
    """
    trained = [p for m in group.members for p in m.parts.values() if isinstance(p, WeightPart)]
    for part in trained:
        part.finish()
    backbone = group.engine.backbone
    if reader is None:
        settings = plan.runs[0].settings.backbone
        reading = reading_settings(settings)
        reader = backbone if reading.dtype == settings.dtype else load_backbone(reading)
        for part in trained if reader is not backbone else []:
            part.copy_to(reader)
    if reader is backbone:
        return group
    branches = () if group.words is None else group.words.branches
    members = tuple(replace(m, head=m.head.on(reader)) for m in group.members)
    engine = build_engine(plan.choice.kind, reader, plan.engine, branches)
    return replace(group, engine=engine, members=members)


def longest_branch(branches: Sequence[Sequence[int]]) -> int:
    """Count the tokens of the longest continuation."""
    return max(map(len, branches), default=0)


def words_of(head: HeadSettings, labels: Sequence[str], backbone: Backbone) -> Words | None:
    """Tokenize the label words of a head that has them.

    Raises:
        ConfigError: A word cannot be scored; shows its pieces.
    """
    if not isinstance(head, VerbalizerSettings):
        return None
    assert head.words is not None
    return label_pieces(backbone, head.words, labels, head)


def build_encoder(
    layout: Layout,
    settings: RunSettings,
    backbone: Backbone,
    *,
    begins: bool = True,
    continued: int = 0,
) -> Encoder:
    """Build the encoder of a layout and check that its longest input fits.

    Args:
        layout: Where text, words and slots stand.
        settings: Of the backbone.
        backbone: For its tokenizer and positions.
        begins: Whether the tokenizer's beginning tokens open the input.
        continued: Tokens that are read behind the input, of label words of several pieces.
    """
    facts, chosen = backbone.facts, settings.backbone
    behind = layout.prompt_length + continued
    check_positions(settings, behind, facts.max_positions, facts.name)
    assert chosen.family is not None
    return Encoder(
        backbone.tokenizer,  # type: ignore[arg-type]  # transformers' class has more overloads
        layout,
        facts.text_prefix,
        chosen.max_tokens,
        begins=begins and chosen.special_tokens,
        ends=chosen.special_tokens and FAMILIES[chosen.family].adds_end_token,
    )


def describe_labels(engine: Engine, card: TaskCard, settings: RunSettings) -> Float[Tensor, "C D"]:
    """Read the label descriptions with the frozen backbone."""
    plain = Layout((Field("text"),))
    encoder = build_encoder(plain, settings, engine.backbone)
    examples = [Example(label, "", {"text": card.description(label)}) for label in card.labels]
    return engine.bare(encoder.encode(examples)).mean


def build_member(
    run: RunPlan, card: TaskCard, encoder: Encoder, backbone: Backbone, head: Head
) -> Member:
    """Build one run's parts and encode its examples."""
    settings = run.settings
    assert settings.train_seed is not None
    train = encoder.encode(run.draw.train)
    neutral = neutral_inputs(head_of(settings), encoder, card)
    parts: dict[str, TrainablePart] = {**build_prompts(run, card, backbone)}
    ids = np.concatenate([run for encoded in [*train, *neutral] for run in encoded.hard])
    parts |= build_weight_parts(run, backbone, head, ids.tolist())
    return Member(
        parts=parts,
        head=head,
        train=train,
        train_labels=label_tensor([example.label for example in run.draw.train], card.labels),
        dev=encoder.encode(run.draw.dev) if run.draw.dev else [],
        dev_labels=label_tensor([example.label for example in run.draw.dev], card.labels),
        settings=settings.training,
        seed=settings.train_seed,
        width=backbone.facts.width,
        neutral=neutral,
    )


def neutral_inputs(head: HeadSettings, encoder: Encoder, card: TaskCard) -> list[Encoded]:
    """Encode the inputs without content that a head's calibration reads."""
    if not isinstance(head, VerbalizerSettings):
        return []
    names = tuple(card.columns.fields)
    fields = [dict.fromkeys(names, text) for text in CONTENT_FREE[head.calibration]]
    return encoder.encode([Example(str(i), "", own) for i, own in enumerate(fields)])


def build_head(
    settings: HeadSettings,
    engine: Engine,
    words: Words | None,
    descriptions: Tensor | None,
    examples: tuple[Sequence[Encoded], Tensor],
) -> Head:
    """Build the head a run trains with.

    Without descriptions the class vectors of training are the class means of the unprompted
    training vectors.
    """
    if isinstance(settings, VerbalizerSettings):
        assert words is not None
        return VerbalizerHead(engine.backbone, words, settings)
    assert descriptions is not None
    weights = settings.prototypes
    if weights.descriptions == 0:
        train, labels = examples
        bare = engine.bare(train).mean
        descriptions = class_means(bare, labels.to(bare.device), descriptions)
    return SimilarityHead(
        descriptions, settings.temperature, weights.descriptions, weights.examples
    )


def saved_head(settings: HeadSettings, saved: dict[str, Tensor], backbone: Backbone) -> Head:
    """Build the head of a finished run from its tensors.

    Raises:
        KeyError: A tensor is missing.
    """
    device = backbone.device
    if isinstance(settings, VerbalizerSettings):
        pieces = tuple(tuple(i for i in row if i >= 0) for row in saved["pieces"].tolist())
        prior = saved["prior"].to(device) if "prior" in saved else None
        return VerbalizerHead(backbone, Words(pieces), settings, prior)
    assert isinstance(settings, SimilaritySettings)
    return SimilarityHead(
        saved["descriptions"].to(device),
        settings.temperature,
        settings.prototypes.descriptions,
        settings.prototypes.examples,
        saved["examples"].to(device) if "examples" in saved else None,
    )
