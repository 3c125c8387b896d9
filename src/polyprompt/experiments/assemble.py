"""Builds what a planned group needs – encoder, engine, parts, heads – from settings."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polyprompt.capabilities import EngineSettings, RunSettings, SimilaritySettings
from polyprompt.data.encoding import Encoder
from polyprompt.engine.cached import CachedEngine
from polyprompt.engine.direct import DirectEngine
from polyprompt.engine.engine import Engine
from polyprompt.experiments.compatibility import check_positions
from polyprompt.experiments.plan import GroupPlan, RunPlan
from polyprompt.heads.head import Head
from polyprompt.heads.similarity import SimilarityHead, class_means
from polyprompt.models.backbone import Backbone
from polyprompt.records import Example
from polyprompt.seeds import generator
from polyprompt.tasks.card import TaskCard
from polyprompt.tasks.layout import Field, Layout
from polyprompt.training.member import Member, label_tensor
from polyprompt.tuning.initialisers import INITIALISERS, InitialRequest
from polyprompt.tuning.soft_prompt import SoftPrompt


@dataclass(frozen=True)
class Group:
    """Runs that are ready to be trained together.

    Attributes:
        engine: Computes states.
        encoder: Of their common layout.
        descriptions: Vectors of the label descriptions by the frozen backbone, C D.
        members: The runs, in the order of the plan.
    """

    engine: Engine
    encoder: Encoder
    descriptions: Float[Tensor, "C D"]
    members: tuple[Member, ...]


def build_engine(kind: str, backbone: Backbone, settings: EngineSettings) -> Engine:
    """Build the engine that was chosen."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    if kind == "direct":
        return DirectEngine(backbone)
    return CachedEngine(backbone, settings.cache_budget_bytes, settings.tokens_per_batch)


def build_group(plan: GroupPlan, backbone: Backbone) -> Group:
    """Build a group of runs on a loaded backbone.

    Raises:
        ConfigError: A prompt and its texts need more positions than the model has.
    """
    engine = build_engine(plan.choice.kind, backbone, plan.engine)
    encoder = build_encoder(plan.runs[0].layout, plan.runs[0].settings, backbone)
    described = describe_labels(engine, plan.card, plan.runs[0].settings)
    members = [build_member(run, plan.card, engine, encoder, described) for run in plan.runs]
    return Group(engine, encoder, described, tuple(members))


def build_encoder(layout: Layout, settings: RunSettings, backbone: Backbone) -> Encoder:
    """Build the encoder of a layout and check that its longest input fits."""
    facts, limit = backbone.facts, settings.backbone.max_tokens
    check_positions(settings, layout.prompt_length, facts.max_positions, facts.name)
    return Encoder(backbone.tokenizer, layout, facts.text_prefix, limit)  # type: ignore[arg-type]


def describe_labels(engine: Engine, card: TaskCard, settings: RunSettings) -> Float[Tensor, "C D"]:
    """Read the label descriptions with the frozen backbone."""
    plain = Layout((Field("text"),))
    encoder = build_encoder(plain, settings, engine.backbone)
    examples = [Example(label, "", {"text": card.description(label)}) for label in card.labels]
    return engine.bare(encoder.encode(examples)).mean


def build_member(
    run: RunPlan, card: TaskCard, engine: Engine, encoder: Encoder, descriptions: Tensor
) -> Member:
    """Build one run's parts, head and encoded examples."""
    settings = run.settings
    assert settings.train_seed is not None
    train = encoder.encode(run.draw.train)
    labels = label_tensor([example.label for example in run.draw.train], card.labels)
    return Member(
        parts=build_parts(run, card, engine.backbone),
        head=build_head(settings.head, descriptions, engine, train, labels),
        train=train,
        train_labels=labels,
        dev=encoder.encode(run.draw.dev) if run.draw.dev else [],
        dev_labels=label_tensor([example.label for example in run.draw.dev], card.labels),
        settings=settings.training,
        seed=settings.train_seed,
    )


def build_parts(run: RunPlan, card: TaskCard, backbone: Backbone) -> dict[str, SoftPrompt]:
    """Build a run's soft prompts, in the layout's order, each from its own stream."""
    parts = {}
    for slot in run.layout.slots:
        settings = run.settings.parts[slot.name]
        initial = settings.initial
        request = InitialRequest(
            length=slot.length,
            rng=generator(run.settings.train_seed or 0, "initial", slot.name),
            bound=initial.bound,
            text=initial.text,
            descriptions=[card.description(label) for label in card.labels],
            path=initial.path,
        )
        weight = INITIALISERS[initial.kind](backbone, request)
        parts[slot.name] = SoftPrompt(weight.to(backbone.device), trained=settings.trained)
    return parts


def build_head(
    settings: SimilaritySettings,
    descriptions: Tensor,
    engine: Engine,
    train: Sequence,
    labels: Tensor,
) -> Head:
    """Build the head a run trains with.

    Without descriptions the class vectors of training are the class means of the unprompted
    training vectors.
    """
    weights = settings.prototypes
    if weights.descriptions == 0:
        bare = engine.bare(train).mean
        descriptions = class_means(bare, labels.to(bare.device), descriptions)
    return SimilarityHead(
        descriptions, settings.temperature, weights.descriptions, weights.examples
    )
