"""One group of runs from examples to scores: the way through the whole package."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import polars as pl
from torch import Tensor

from polyprompt.data.encoding import Encoded
from polyprompt.experiments.accounting import account, forget_peak_memory, peak_memory_bytes
from polyprompt.experiments.assemble import Group, build_group, read_on
from polyprompt.experiments.clock import Clock
from polyprompt.experiments.comparison import Baselines, Scores
from polyprompt.experiments.events import Event
from polyprompt.experiments.plan import GroupPlan
from polyprompt.experiments.recorded import PromptPath, asked_paths, record_inside
from polyprompt.experiments.recording import run_record
from polyprompt.experiments.store import RunFolder
from polyprompt.heads.head import Head
from polyprompt.models.backbone import Backbone
from polyprompt.prediction.predict import Collected, answer
from polyprompt.prediction.record import prediction_table
from polyprompt.records import Example, StepRecord
from polyprompt.scoring.score import score_predictions
from polyprompt.tasks.card import TaskCard
from polyprompt.training.loop import fitted_head, train
from polyprompt.training.member import prompts_of


def run_group(
    plan: GroupPlan, backbone: Backbone, reader: Backbone | None, folders: Sequence[RunFolder]
) -> Iterator[Event]:
    """Train, test and write down a group of runs.

    Args:
        plan: The runs.
        backbone: Loaded as they ask for, to train with.
        reader: The copy that reads texts once training is over; may be the same. None where
            weights are trained.
        folders: One per run.

    Yields:
        Progress.
    """
    with ThreadPoolExecutor(1, "beside") as beside:
        yield from _run_group(plan, (backbone, reader), folders, beside)


def _run_group(
    plan: GroupPlan,
    pair: tuple[Backbone, Backbone | None],
    folders: Sequence[RunFolder],
    beside: Executor,
) -> Iterator[Event]:
    """Run a group; texts are tokenized while it trains, results written while others are made."""
    backbone, reader = pair
    clock = Clock(backbone, *filter(None, [reader]))
    clock.enter("prepare")
    forget_peak_memory(backbone)
    group = build_group(plan, backbone)
    tested = len(plan.data.splits["test"])
    examples = [*plan.data.splits["test"], *plan.data.splits.get("dev_targets", ())]
    encoding = beside.submit(group.encoder.encode, examples)
    for run, folder in zip(plan.runs, folders, strict=True):
        folder.begin(run.settings.model_dump(mode="json"), run_record(plan, run, group))
    clock.enter("train")
    paths = asked_paths(plan)
    steps = yield from train_group(group, paths)
    clock.enter("read")
    group = read_on(plan, group, reader)
    clock.watch(group.engine.backbone)
    heads = [fitted_head(group.engine, member) for member in group.members]
    for index, folder in enumerate(folders):
        folder.write_steps(steps[index])
        write_parts(folder, group, index, heads[index].tensors())
        if index in paths:
            paths[index].write(folder, group.engine.backbone, group.members[index])
    inputs = encoding.result()
    collected = yield from read_all(plan, group, heads, inputs)
    baselines = Baselines(plan, group, examples[:tested], collected.bare[:tested])
    written: list[Future[None]] = []
    for index, (run, folder) in enumerate(zip(plan.runs, folders, strict=True)):
        clock.enter("baselines")
        yield Event("baselines", index, len(folders))
        answers: Scores = {None: collected.scores[index]}
        if run.settings.baselines:
            answers |= yield from baselines.of(run)
        record = run_record(plan, run, group) | baselines.note_of(run)
        items = Items(plan.card, examples, inputs, tested)
        written.append(beside.submit(_write, items, folder, answers, record))
    clock.enter("write")
    for done in written:
        done.result()
    clock.enter("record")  # behind the answers, which are not lost if it fails
    yield from record_inside(plan, group, folders, examples[:tested], inputs)
    _write_costs(folders, clock, backbone)
    yield Event("write", len(folders), len(folders))


def _write_costs(folders: Sequence[RunFolder], clock: Clock, backbone: Backbone) -> None:
    """Add what the group cost, and each run's share of it, to the runs' records."""
    costs, peak = clock.record(), peak_memory_bytes(backbone)
    for folder in folders:
        own = account(folder.record(), costs, folder.path / "parts", peak)
        folder.amend(costs | {"accounting": own})


@dataclass(frozen=True)
class Items:
    """What was answered.

    Attributes:
        card: The task.
        examples: Test items, then dev items where these are answered too.
        inputs: The same, encoded.
        tested: How many are test items.
    """

    card: TaskCard
    examples: Sequence[Example]
    inputs: Sequence[Encoded]
    tested: int

    def table(self, run: str, answers: Scores, rows: slice) -> pl.DataFrame:
        """Tabulate the answers to some of them."""
        card = self.card
        examples, inputs = self.examples[rows], self.inputs[rows]
        return prediction_table(run, card.name, card.labels, examples, inputs, answers)


def _write(items: Items, folder: RunFolder, answers: Scores, record: Mapping[str, Any]) -> None:
    """Score a run's answers and finish its folder."""
    own, test, dev = answers[None], slice(items.tested), slice(items.tested, None)
    if len(items.examples) > items.tested:
        folder.write_dev_predictions(items.table(folder.name, {None: own[dev]}, dev))
    table = items.table(folder.name, answers | {None: own[test]}, test)
    folder.finish(table, score_predictions(table), record)


def train_group(
    group: Group, paths: Mapping[int, PromptPath]
) -> Generator[Event, None, list[list[StepRecord]]]:
    """Train the group and note its prompts' paths; returns the step records of each run."""
    total = max((member.steps for member in group.members), default=0)
    steps: list[list[StepRecord]] = [[] for _ in group.members]
    done = -1
    for record in train(group.engine, group.members):
        steps[record.run].append(record)
        if record.run in paths:
            paths[record.run].note(record, group.members[record.run])
        if record.step > done:
            done = record.step
            yield Event("train", done, total)
    return steps


def read_all(
    plan: GroupPlan, group: Group, heads: Sequence[Head], inputs: Sequence[Encoded]
) -> Generator[Event, None, Collected]:
    """Answer all inputs with every run; returns them collected."""
    wanted = not plan.trains_weights and any(run.settings.baselines for run in plan.runs)
    width = group.engine.backbone.facts.width if wanted else 0
    collected = Collected(len(heads), len(inputs), len(plan.card.labels), width)
    for batch in answer(group.engine, prompts_of(group.members), heads, inputs, bare=wanted):
        collected.add(batch)
        yield Event("read", collected.done, len(inputs))
    return collected


def write_parts(folder: RunFolder, group: Group, index: int, head: Mapping[str, Tensor]) -> None:
    """Save a run's trained parts and what its head needs to answer."""
    for name, part in group.members[index].parts.items():
        if part.is_kept:
            folder.write_tensors(name, part.tensors())
    folder.write_tensors("head", head)
