"""Counts the tokens that a group of runs will compute."""

from collections.abc import Sequence
from dataclasses import dataclass

from polyprompt.data.encoded import Encoded
from polyprompt.data.encoding import Encoder
from polyprompt.data.windows import asked, with_answers
from polyprompt.experiments.compatibility import head_of
from polyprompt.experiments.encoders import build_encoder, windowing_of
from polyprompt.experiments.heads import words_of
from polyprompt.experiments.plan import GroupPlan, RunPlan
from polyprompt.experiments.recorded import chosen_items
from polyprompt.head_settings import GeneratorSettings, SimilaritySettings
from polyprompt.models.backbone import Backbone


@dataclass(frozen=True)
class Counted:
    """What a group will compute, in tokens through the model.

    Attributes:
        steps: Optimiser steps of its longest run.
        train: With gradient, each run's own counted.
        dev: Of dev sets in training, and of examples encoded once.
        read: Of what is tested, baselines counted; of answers that are written only the texts.
        recorded: Of the sentences that runs look into.
        inputs: Texts that are tested, or windows of them.
    """

    steps: int
    train: float
    dev: float
    read: float
    recorded: float
    inputs: int


def count_tokens(plan: GroupPlan, backbone: Backbone) -> Counted:
    """Count what a group will compute.

    Args:
        plan: The group's.
        backbone: For its tokenizer.
    """
    cached, first = plan.choice.kind == "cached", plan.runs[0].settings
    words = words_of(head_of(first), plan.card.labels, backbone)
    behind = 0 if words is None else sum(map(len, words.branches))
    layout, windowing = plan.runs[0].layout, windowing_of(head_of(first), plan.card.form)
    tested = [*plan.data.splits["test"], *plan.data.splits.get("dev_targets", ())]
    encoder = build_encoder(layout, first, backbone)
    inputs = asked(encoder, tested, windowing).inputs
    texts = tokens_of(inputs) + len(inputs) * layout.given_length
    learner = build_encoder(layout, first, backbone, learns=True)
    train, dev, read, longest = 0.0, 0.0, float(texts if cached else 0), 0
    for run in plan.runs:
        live = run.layout.prompt_length + run.settings.deep_places + behind
        drawn, chosen_by = (
            learner.encode(with_answers(learner, some, windowing))
            for some in (run.draw.train, run.draw.dev)
        )
        steps, epochs = _steps(run)
        longest = max(longest, steps)
        own = 0 if cached else tokens_of(drawn) / len(drawn) + layout.given_length
        own += _continued(drawn) / len(drawn)
        train += steps * min(run.settings.training.batch_size, len(drawn)) * (live + own)
        again = [*chosen_by, *drawn] if _reads_examples(run) else chosen_by
        each = len(again) * live + _continued(again) + (0 if cached else tokens_of(again))
        dev += (epochs + 1) * each
        dev += tokens_of(drawn) + tokens_of(chosen_by) if cached else 0
        read += len(inputs) * live + _continued(inputs) + (0 if cached else texts)
    read += _of_baselines(plan, texts)
    recorded = _recorded_tokens(plan, encoder)
    return Counted(longest, train, dev, read, recorded, len(inputs))


def _of_baselines(plan: GroupPlan, texts: int) -> int:
    """Count the tokens of a decoder that is asked without training."""
    first = plan.runs[0].settings
    if not first.baselines:
        return 0
    head = head_of(first)
    if isinstance(head, GeneratorSettings):
        return texts * plan.asks_as_it_is
    if plan.trains_weights or not getattr(head, "words", None):
        return 0
    times = 1 + bool(first.in_context_tokens)
    return times * texts * len({run.settings.draw_seed for run in plan.runs})


def looks_inside(run: RunPlan) -> bool:
    """Say whether a run records states or attention."""
    return bool({"states", "attention"}.intersection(run.settings.record))


def _recorded_tokens(plan: GroupPlan, encoder: Encoder) -> int:
    """Count the tokens of the sentences that a group's runs look into."""
    test, total = plan.data.splits["test"], 0
    for run in filter(looks_inside, plan.runs):
        rows = chosen_items(test, run.settings.record_items, parallel=plan.card.parallel)
        chosen = encoder.encode([test[row] for row in rows])
        total += tokens_of(chosen) + len(chosen) * run.layout.prompt_length
    return total


def _reads_examples(run: RunPlan) -> bool:
    """Say whether a head takes class means from the training examples whenever dev is read."""
    head = head_of(run.settings)
    return isinstance(head, SimilaritySettings) and head.prototypes.examples > 0


def _steps(run: RunPlan) -> tuple[int, int]:
    """Count a run's steps and epochs."""
    training = run.settings.training
    of_epoch = -(-len(run.draw.train) // training.batch_size)
    steps = of_epoch * training.epochs
    steps = min(steps, training.max_steps or steps)
    return steps, -(-steps // of_epoch)


def tokens_of(inputs: Sequence[Encoded]) -> int:
    """Count the tokens of inputs."""
    return sum(encoded.tokens for encoded in inputs)


def _continued(inputs: Sequence[Encoded]) -> int:
    """Count the tokens that are read behind inputs: of answers that are learnt or scored."""
    return sum(len(pieces) for one in inputs for pieces in one.continuations)
