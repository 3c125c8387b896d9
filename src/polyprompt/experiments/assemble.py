"""Builds what a planned group needs – encoder, engine, parts, heads – from settings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from polyprompt.capabilities import EngineSettings, RunSettings
from polyprompt.data.encoded import Encoded
from polyprompt.data.encoding import Encoder
from polyprompt.data.windows import with_answers
from polyprompt.engine.cached import CachedEngine
from polyprompt.engine.compiling import compile_where_it_pays
from polyprompt.engine.direct import DirectEngine
from polyprompt.engine.engine import Engine
from polyprompt.engine.memory import remembered
from polyprompt.engine.store import Budget
from polyprompt.engine.threads import best_threads
from polyprompt.experiments.compatibility import head_of
from polyprompt.experiments.encoders import (
    build_encoder,
    instruction_of,
    train_inputs,
    windowing_of,
)
from polyprompt.experiments.given import GivenParts
from polyprompt.experiments.heads import HEAD, HeadMaker, words_of
from polyprompt.experiments.parts import build_deep_prompts, build_prompts, build_weight_parts
from polyprompt.experiments.plan import GroupPlan, RunPlan
from polyprompt.head_settings import (
    GeneratorSettings,
    HeadSettings,
    SimilaritySettings,
    VerbalizerSettings,
)
from polyprompt.heads.head import Head
from polyprompt.heads.verbalizer import Words
from polyprompt.models.backbone import Backbone
from polyprompt.models.load import load_backbone, reading_settings
from polyprompt.records import Example
from polyprompt.tasks.card import TaskCard
from polyprompt.tasks.layout import Layout
from polyprompt.tasks.segments import Field
from polyprompt.training.member import Member, label_tensor
from polyprompt.tuning.linear_map import LinearMap
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
        given: Their frozen parts of earlier runs.
    """

    engine: Engine
    encoder: Encoder
    descriptions: Float[Tensor, "C D"] | None
    words: Words | None
    instruction: tuple[Encoder, Encoder] | None
    members: tuple[Member, ...]
    given: GivenParts

    def release(self) -> None:
        """Take away what stands behind the backbone's sub-layers."""
        self.given.take_away()
        for member in self.members:
            for part in member.parts.values():
                if isinstance(part, WeightPart):
                    part.take_away()


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
    try:
        return _build(plan, backbone)
    except Exception:
        backbone.attachments.clear()
        raise


def _build(plan: GroupPlan, backbone: Backbone) -> Group:
    """Build a group; what is put behind sub-layers stays there if that fails."""
    first = plan.runs[0].settings
    kind = head_of(first)
    words = words_of(kind, plan.card.labels, backbone)
    branches = () if words is None else words.branches
    engine = build_engine(plan.choice.kind, backbone, plan.engine, branches)
    continued = longest_branch(branches)
    given = GivenParts(first, plan.runs[0].sourced)
    sourced, layout = given.put(backbone), plan.runs[0].layout
    encoder = build_encoder(layout, first, backbone, continued=continued, sourced=sourced)
    compares = isinstance(kind, SimilaritySettings)
    described = describe_labels(engine, plan.card, first) if compares else None
    instruction = None
    if words is not None:
        asked = instruction_of(plan.card, backbone)
        alone = build_encoder(asked, first, backbone, continued=continued)
        behind = build_encoder(asked, first, backbone, begins=False, continued=continued)
        instruction = alone, behind
    learner = encoder
    if isinstance(kind, GeneratorSettings):
        learner = build_encoder(layout, first, backbone, sourced=sourced, learns=True)
    members = []
    for run in plan.runs:
        train = train_inputs(run, plan.card, learner, plan.engine.encode_ahead)
        labels = label_tensor(run.draw.train, train, learnt_labels(plan.card))
        maker = HeadMaker(engine, words, described, len(plan.card.labels))
        weights = maker.weights(head_of(run.settings), run.settings.train_seed or 0)
        head = maker.head(head_of(run.settings), weights, (train, labels))
        examples = train, labels
        members.append(build_member(run, plan.card, learner, engine, examples, (head, weights)))
    return Group(engine, encoder, described, words, instruction, tuple(members), given)


def learnt_labels(card: TaskCard) -> tuple[str, ...]:
    """Give the labels that are learnt; none where pieces of answers are."""
    return () if card.kind == "text" else card.labels


def read_on(plan: GroupPlan, group: Group, reader: Backbone | None) -> Group:
    """Give a trained group on the copy of its backbone that reads texts.

    Args:
        plan: The group's.
        group: Trained.
        reader: The copy; None where the weights themselves were trained: it is loaded now, if it
            has another precision, and gets them.
    """
    trained = [p for m in group.members for p in m.parts.values() if isinstance(p, WeightPart)]
    for part in trained:
        part.finish()
    backbone = group.engine.backbone
    if reader is None:
        settings = plan.runs[0].settings.backbone
        reading = reading_settings(settings)
        reader = backbone if reading.dtype == settings.dtype else load_backbone(reading)
    if reader is backbone:
        return group
    group.given.put_beside(reader, backbone)
    for part in trained:
        part.copy_to(reader)
    branches = () if group.words is None else group.words.branches
    members = tuple(replace(m, head=m.head.on(reader)) for m in group.members)
    engine = build_engine(plan.choice.kind, reader, plan.engine, branches)
    return replace(group, engine=engine, members=members)


def longest_branch(branches: Sequence[Sequence[int]]) -> int:
    """Count the tokens of the longest continuation."""
    return max(map(len, branches), default=0)


def describe_labels(engine: Engine, card: TaskCard, settings: RunSettings) -> Float[Tensor, "C D"]:
    """Read the label descriptions with the frozen backbone."""
    plain = Layout((Field("text"),))
    encoder = build_encoder(plain, settings, engine.backbone)
    examples = [Example(label, "", {"text": card.description(label)}) for label in card.labels]
    return engine.bare(encoder.encode(examples)).mean


def build_member(
    run: RunPlan,
    card: TaskCard,
    encoder: Encoder,
    engine: Engine,
    examples: tuple[Sequence[Encoded], Tensor],
    answering: tuple[Head, LinearMap | None],
) -> Member:
    """Build one run's parts and encode its dev examples.

    Args:
        run: The run.
        card: Its task.
        encoder: Of its layout.
        engine: Its backbone's weights may be trained from here on.
        examples: Its training examples, encoded, and their labels.
        answering: Its head, and the head's weights.
    """
    settings, backbone = run.settings, engine.backbone
    head, weights = answering
    assert settings.train_seed is not None
    dev = encoder.encode(
        with_answers(encoder, run.draw.dev, windowing_of(head_of(settings), card.form))
    )
    neutral = neutral_inputs(head_of(settings), encoder, card)
    parts: dict[str, TrainablePart] = {**build_prompts(run, card, backbone)}
    parts |= build_deep_prompts(run, backbone)
    parts |= build_weight_parts(run, backbone, head, chain(examples[0], neutral))
    if weights is not None:
        parts[HEAD] = weights
    return Member(
        parts=parts,
        head=head,
        train=examples[0],
        train_labels=examples[1],
        dev=dev,
        dev_labels=label_tensor(run.draw.dev, dev, learnt_labels(card)),
        settings=settings.training,
        seed=settings.train_seed,
        width=backbone.facts.width,
        neutral=neutral,
        text_end=text_end(settings, backbone),
    )


def text_end(settings: RunSettings, backbone: Backbone) -> int | None:
    """Say at which position texts end in front of a deep prompt behind them.

    Where positions count relative to one another, its keys stand at a fixed place, so that they are
    as far from what reads them behind a short text as behind a long one.
    """
    suffix = any(part.position == "suffix" for part in settings.deep_prompts.values())
    return (
        settings.backbone.max_tokens if suffix and backbone.layer_facts.is_shift_invariant else None
    )


def neutral_inputs(head: HeadSettings, encoder: Encoder, card: TaskCard) -> list[Encoded]:
    """Encode the inputs without content that a head's calibration reads."""
    if not isinstance(head, VerbalizerSettings):
        return []
    names = tuple(card.columns.fields)
    fields = [dict.fromkeys(names, text) for text in CONTENT_FREE[head.calibration]]
    return encoder.encode([Example(str(i), "", own) for i, own in enumerate(fields)])
