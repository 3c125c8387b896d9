"""What a study will compute, and about how long that takes, after a short probe."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from polyprompt.data.encoded import Encoded
from polyprompt.data.encoding import Encoder
from polyprompt.engine.inside import look_inside
from polyprompt.experiments.assemble import Group, build_group, read_on
from polyprompt.experiments.compatibility import head_of
from polyprompt.experiments.config import Study
from polyprompt.experiments.encoders import build_encoder
from polyprompt.experiments.events import Event
from polyprompt.experiments.heads import words_of
from polyprompt.experiments.plan import GroupPlan, RunPlan
from polyprompt.experiments.recorded import chosen_items
from polyprompt.experiments.study import groups_left
from polyprompt.head_settings import SimilaritySettings
from polyprompt.models.backbone import Backbone
from polyprompt.report.score_tables import Table
from polyprompt.training.loop import add_gradients
from polyprompt.training.member import prompts_of

_PROBED_INPUTS = 16


@dataclass(frozen=True)
class Estimate:
    """What one group will compute.

    Attributes:
        runs: In the group.
        engine: Its kind.
        steps: Optimiser steps of its longest run.
        train_tokens: Through the model with gradient, each run's own counted.
        read_tokens: Without gradient: dev sets, texts encoded once, prompts behind them, baselines,
            and what states and attention are recorded of.
        seconds: By the rates that the probe measured.
    """

    runs: int
    engine: str
    steps: int
    train_tokens: int
    read_tokens: int
    seconds: float


@dataclass(frozen=True)
class _Rates:
    """Tokens per second: with gradient, of dev examples in training, of what is tested, recorded.

    The last is infinite where neither states nor attention are recorded.
    """

    train: float
    dev: float
    read: float
    record: float


def estimate_study(study: Study) -> Iterator[Event | Estimate]:
    """Estimate what is not complete of a study, search included.

    Every kind of group is probed once: two training steps and a few test sentences. Rates of other
    groups of the kind are taken to be the same.

    Args:
        study: Its search's choice, as far as it is not made, is taken to cost what any would.

    Yields:
        Progress, and an estimate per group.
    """
    from polyprompt.models.load import load_pair

    rates: dict[str, _Rates] = {}
    loaded: dict[str, Backbone] = {}
    for groups in groups_left(study):
        for plan in groups:
            settings = plan.runs[0].settings
            name = repr(settings.backbone)
            key = f"{name} {plan.choice.kind} {sorted(settings.weight_parts)}"
            if key not in rates:
                asked = f"{settings.backbone.name}, {plan.choice.kind} engine"
                yield Event("load", 0, 1, f"probing {asked}")
                loaded.pop(name, None)  # what an earlier probe has unfrozen
                loaded[name], reader = load_pair(settings.backbone)
                rates[key] = _probe(plan, loaded[name], reader)
                del reader
            yield _estimate(plan, loaded[name], rates[key])


def estimate_table(found: Sequence[Estimate]) -> Table:
    """Tabulate estimates, their sum last."""
    rows = [
        (
            str(index),
            str(one.runs),
            one.engine,
            str(one.steps),
            f"{one.train_tokens / 1e6:.2f}",
            f"{one.read_tokens / 1e6:.2f}",
            duration(one.seconds),
        )
        for index, one in enumerate(found, start=1)
    ]
    rows.append(
        (
            "all",
            str(sum(one.runs for one in found)),
            "",
            "",
            f"{sum(one.train_tokens for one in found) / 1e6:.2f}",
            f"{sum(one.read_tokens for one in found) / 1e6:.2f}",
            duration(sum(one.seconds for one in found)),
        )
    )
    columns = (
        "group", "runs", "engine", "steps", "million tokens to train", "to read", "about",
    )  # fmt: skip
    return Table("What is left to compute", columns, tuple(rows), "rrlrrrr")


def duration(seconds: float) -> str:
    """Write seconds for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _probe(plan: GroupPlan, backbone: Backbone, reader: Backbone) -> _Rates:
    """Measure the rates of a group; the first of two passes warms up.

    Args:
        plan: The group's.
        backbone: Trains, and reads dev examples.
        reader: Reads what is tested; may be the same.
    """
    group = build_group(plan, backbone)
    try:
        return _rates_of(plan, group, reader)
    finally:
        group.release()


def _rates_of(plan: GroupPlan, group: Group, reader: Backbone) -> _Rates:
    """Measure the rates of a group that has been built."""
    members, backbone = group.members, group.engine.backbone
    rows = {run: next(member.batches(), []) for run, member in enumerate(members)}
    rows = {run: batch for run, batch in rows.items() if batch}  # some take no step
    for run, batch in rows.items():
        some = [members[run].train[row] for row in batch]
        group.engine.keep(some, prompts_of([members[run]]).shapes[0])
    train = float("inf")
    if rows:
        train = _rate(backbone, lambda: add_gradients(group.engine, members, rows))
    test = plan.data.splits["test"]
    inputs = group.encoder.encode(test[:: max(1, len(test) // _PROBED_INPUTS)][:_PROBED_INPUTS])

    @torch.no_grad()
    def read() -> None:
        group.engine.every(inputs, prompts_of(members))

    dev = _rate(backbone, read)
    group = read_on(plan, group, reader)
    tested = dev if reader is backbone else _rate(reader, read)
    return _Rates(train, dev, tested, _record_rate(plan, group, inputs))


def _record_rate(plan: GroupPlan, group: Group, inputs: Sequence[Encoded]) -> float:
    """Measure tokens per second of a look inside, if some run of the group asks for one."""
    if not any(_looks_inside(run) for run in plan.runs):
        return float("inf")
    prompts = prompts_of(group.members)
    tokens = _tokens(inputs) + len(inputs) * plan.runs[0].layout.prompt_length
    return tokens / _seconds(
        lambda: look_inside(group.engine, inputs, prompts.vectors[0], prompts.lengths[0])
    )


def _rate(backbone: Backbone, compute: Callable[[], object]) -> float:
    """Measure tokens per second."""
    before = backbone.work.tokens
    seconds = _seconds(compute)
    return max((backbone.work.tokens - before) / 2, 1) / seconds


def _seconds(compute: Callable[[], object]) -> float:
    """Measure the second of two passes."""
    compute()
    start = time.perf_counter()
    compute()
    return max(time.perf_counter() - start, 1e-9)


def _estimate(plan: GroupPlan, backbone: Backbone, rates: _Rates) -> Estimate:
    """Count the tokens of a group."""
    cached, first = plan.choice.kind == "cached", plan.runs[0].settings
    words = words_of(head_of(first), plan.card.labels, backbone)
    behind = 0 if words is None else sum(map(len, words.branches))
    encoder = build_encoder(plan.runs[0].layout, first, backbone)
    tested = [*plan.data.splits["test"], *plan.data.splits.get("dev_targets", ())]
    inputs, given = len(tested), plan.runs[0].layout.given_length
    texts = _tokens(encoder.encode(tested)) + inputs * given
    train, dev, read, longest = 0.0, 0.0, float(texts if cached else 0), 0
    for run in plan.runs:
        live = run.layout.prompt_length + run.settings.deep_places + behind
        drawn, chosen_by = (encoder.encode(some) for some in (run.draw.train, run.draw.dev))
        steps, epochs = _steps(run)
        longest = max(longest, steps)
        own = 0 if cached else _tokens(drawn) / len(drawn) + given
        train += steps * run.settings.training.batch_size * (live + own)
        again = [*chosen_by, *drawn] if _reads_examples(run) else chosen_by
        dev += (epochs + 1) * (len(again) * live + (0 if cached else _tokens(again)))
        dev += _tokens(drawn) + _tokens(chosen_by) if cached else 0
        read += inputs * live + (0 if cached else texts)
    if words is not None and first.baselines and not plan.trains_weights:
        asked = 1 + bool(first.in_context_tokens)
        read += asked * texts * len({run.settings.draw_seed for run in plan.runs})
    recorded = _recorded_tokens(plan, encoder)
    seconds = train / rates.train + dev / rates.dev + read / rates.read + recorded / rates.record
    whole = round(dev + read + recorded)
    return Estimate(len(plan.runs), plan.choice.kind, longest, round(train), whole, seconds)


def _looks_inside(run: RunPlan) -> bool:
    """Say whether a run records states or attention."""
    return bool({"states", "attention"}.intersection(run.settings.record))


def _recorded_tokens(plan: GroupPlan, encoder: Encoder) -> int:
    """Count the tokens of the sentences that a group's runs look into."""
    test, total = plan.data.splits["test"], 0
    for run in filter(_looks_inside, plan.runs):
        rows = chosen_items(test, run.settings.record_items, parallel=plan.card.parallel)
        chosen = encoder.encode([test[row] for row in rows])
        total += _tokens(chosen) + len(chosen) * run.layout.prompt_length
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


def _tokens(inputs: Sequence[Encoded]) -> int:
    """Count the tokens of inputs."""
    return sum(encoded.tokens for encoded in inputs)
