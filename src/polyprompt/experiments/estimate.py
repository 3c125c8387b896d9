"""What a study will compute, and about how long that takes, after a short probe."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from polyprompt.data.encoded import Encoded
from polyprompt.data.windows import asked
from polyprompt.engine.inside import look_inside
from polyprompt.engine.writing import Written, write
from polyprompt.experiments.assemble import Group, build_group, read_on
from polyprompt.experiments.compatibility import head_of
from polyprompt.experiments.config import Study
from polyprompt.experiments.counting import count_tokens, looks_inside, tokens_of
from polyprompt.experiments.encoders import windowing_of
from polyprompt.experiments.events import Event
from polyprompt.experiments.plan import GroupPlan
from polyprompt.experiments.study import groups_left
from polyprompt.models.backbone import Backbone
from polyprompt.report.score_tables import Table
from polyprompt.training.loop import add_gradients, fitted_head
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

    The last is infinite where neither states nor attention are recorded. Where answers are written,
    ``write`` is seconds per answer, its text read, and ``pieces`` how many pieces were written.
    """

    train: float
    dev: float
    read: float
    record: float
    write: float = 0
    pieces: float = 0


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
            kind = head_of(settings).kind
            key = f"{name} {plan.choice.kind} {kind} {sorted(settings.weight_parts)}"
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
    some = test[:: max(1, len(test) // _PROBED_INPUTS)][:_PROBED_INPUTS]
    head = head_of(plan.runs[0].settings)
    inputs = asked(group.encoder, some, windowing_of(head, plan.card.form)).inputs[:_PROBED_INPUTS]

    @torch.no_grad()
    def read() -> None:
        group.engine.every(inputs, prompts_of(members))

    dev = _rate(backbone, read)
    group = read_on(plan, group, reader)
    tested = dev if reader is backbone else _rate(reader, read)
    rates = _Rates(train, dev, tested, _record_rate(plan, group, inputs))
    return _with_writing(rates, group, inputs)


def _with_writing(rates: _Rates, group: Group, inputs: Sequence[Encoded]) -> _Rates:
    """Measure how long answers take to be written, if they are; the first of two passes warms up.

    A prompt that has learnt nothing yet may write longer answers than one that has.
    """
    writing = fitted_head(group.engine, group.members[0]).writing
    if writing is None:
        return rates
    prompts = prompts_of(group.members).only(0)
    found: list[Written] = []
    seconds = _seconds(lambda: found.extend(write(group.engine, inputs, prompts, writing)))
    pieces = writing.beams * sum(min(len(one.pieces) + 1, writing.most) for one in found)
    return replace(rates, write=seconds / len(inputs), pieces=pieces / len(found))


def _record_rate(plan: GroupPlan, group: Group, inputs: Sequence[Encoded]) -> float:
    """Measure tokens per second of a look inside, if some run of the group asks for one."""
    if not any(looks_inside(run) for run in plan.runs):
        return float("inf")
    prompts = prompts_of(group.members)
    tokens = tokens_of(inputs) + len(inputs) * plan.runs[0].layout.prompt_length
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
    """Count the tokens of a group, and say how long they take."""
    counted, first = count_tokens(plan, backbone), plan.runs[0].settings
    read, answering = counted.read, counted.read / rates.read
    if rates.write:
        ways = len(plan.runs) + (first.baselines and plan.asks_as_it_is)
        answering = counted.inputs * ways * rates.write
        read += counted.inputs * ways * rates.pieces
    seconds = counted.train / rates.train + counted.dev / rates.dev + answering
    seconds += counted.recorded / rates.record
    whole = round(counted.dev + read + counted.recorded)
    kind, train = plan.choice.kind, round(counted.train)
    return Estimate(len(plan.runs), kind, counted.steps, train, whole, seconds)
