"""One group of runs from examples to scores: the way through the whole package."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import polars as pl
from torch import Tensor

from polyprompt.data.encoded import Encoded
from polyprompt.data.windows import Asked, asked
from polyprompt.experiments.accounting import account, forget_peak_memory
from polyprompt.experiments.assemble import Group, build_group, read_on
from polyprompt.experiments.checkpoint import Checkpoint
from polyprompt.experiments.clock import Clock
from polyprompt.experiments.comparison import Baselines, Scores
from polyprompt.experiments.compatibility import head_of
from polyprompt.experiments.encoders import windowing_of
from polyprompt.experiments.events import Event
from polyprompt.experiments.heads import reader_of
from polyprompt.experiments.plan import GroupPlan
from polyprompt.experiments.recorded import record_inside
from polyprompt.experiments.recording import run_record
from polyprompt.experiments.stages import read_all, train_group
from polyprompt.experiments.store import RunFolder, is_done
from polyprompt.experiments.tracking import Tracking
from polyprompt.experiments.watching import Watched, watched
from polyprompt.heads.head import Head
from polyprompt.models.backbone import Backbone
from polyprompt.prediction.predict import Collected, answer_starts
from polyprompt.prediction.record import prediction_table
from polyprompt.prediction.written import AnswerReader
from polyprompt.records import Example, StepRecord
from polyprompt.scoring.score import score_predictions
from polyprompt.tasks.card import TaskCard
from polyprompt.training.loop import fitted_head
from polyprompt.training.peers import ALONE, Peers


def run_group(
    plan: GroupPlan,
    backbone: Backbone,
    reader: Backbone | None,
    folders: Sequence[RunFolder],
    peers: Peers = ALONE,
) -> Iterator[Event]:
    """Train, test and write down a group of runs.

    Args:
        plan: The runs.
        backbone: Loaded as they ask for, to train with.
        reader: The copy that reads texts once training is over; may be the same. None where
            weights are trained.
        folders: One per run.
        peers: Processes that compute the same group; the first of them writes the answers.

    Yields:
        Progress.
    """
    with ThreadPoolExecutor(1, "beside") as beside, ExitStack() as ending:
        yield from _run_group(plan, (backbone, reader), folders, (beside, peers), ending)


def _run_group(
    plan: GroupPlan,
    pair: tuple[Backbone, Backbone | None],
    folders: Sequence[RunFolder],
    others: tuple[Executor, Peers],
    ending: ExitStack,
) -> Iterator[Event]:
    """Run a group; texts are tokenized while it trains, results written while others are made."""
    (backbone, reader), (beside, peers) = pair, others
    clock = Clock(backbone, *filter(None, [reader]))
    clock.enter("prepare")
    forget_peak_memory(backbone)
    group = build_group(plan, backbone)
    ending.callback(group.release)
    examples = [*plan.data.splits["test"], *plan.data.splits.get("dev_targets", ())]
    encoding = beside.submit(_asked, plan, group, examples)
    left = _begin(plan, group, folders)
    names = [run.name for run in plan.runs]
    checkpoint = Checkpoint(folders[0].path.parent, names, plan.engine, clock)
    clock.enter("train")
    watching = watched(plan, group)
    tracking = Tracking(plan, {} if peers.index else left)
    steps = yield from train_group(group, watching, checkpoint, peers, tracking)
    clock.enter("read")
    group = read_on(plan, group, reader)
    clock.watch(group.engine.backbone)
    heads = [fitted_head(group.engine, member) for member in group.members]
    _write_trained(group, left, (steps, heads), watching)
    read: Asked = encoding.result()
    collected = yield from read_all(plan, group, heads, read.inputs, checkpoint, peers)
    if peers.index:
        return
    collected.scores = read.answers(collected.scores)
    items = _items(plan, group, examples, read)
    clock.enter("baselines")
    written = yield from _write_all(plan, group, left, (items, collected), beside)
    clock.enter("write")
    for done in written:
        done.result()
    _write_costs(folders, clock, checkpoint, backbone)
    tracking.finish(left)
    yield from (Event("write", 0, len(folders), note) for note in tracking.notes)
    clock.enter("record")  # behind the answers, which are not lost if it fails
    yield from record_inside(plan, group, left, items.examples[: items.tested], items.inputs)
    _write_costs(folders, clock, checkpoint, backbone)
    checkpoint.remove()
    yield Event("write", len(folders), len(folders))


def _asked(plan: GroupPlan, group: Group, examples: Sequence[Example]) -> Asked:
    """Encode what is to be answered, long texts in windows where answers are written."""
    windowing = windowing_of(head_of(plan.runs[0].settings), plan.card.form)
    return asked(group.encoder, examples, windowing)


def _items(plan: GroupPlan, group: Group, examples: Sequence[Example], read: Asked) -> "Items":
    """Say what was answered."""
    tested = len(plan.data.splits["test"])
    return Items(plan.card, examples, read.items, tested, readers_of(plan, group))


def _write_trained(
    group: Group,
    left: Mapping[int, RunFolder],
    trained: tuple[Sequence[Sequence[StepRecord]], Sequence[Head]],
    watching: Mapping[int, Watched],
) -> None:
    """Write down what training has left: steps, parts, heads and what was noted on the way."""
    steps, heads = trained
    for index, folder in left.items():
        folder.write_steps(steps[index])
        write_parts(folder, group, index, heads[index].tensors())
        if index in watching:
            watching[index].write(folder, group.members[index])


def _begin(plan: GroupPlan, group: Group, folders: Sequence[RunFolder]) -> dict[int, RunFolder]:
    """Begin the folders of the runs that are not done; returns them by the runs' numbers."""
    left = {}
    for index, (run, folder) in enumerate(zip(plan.runs, folders, strict=True)):
        if is_done(folder, run.settings):
            continue
        left[index] = folder
        config = run.settings.model_dump(mode="json")
        if folder.is_complete():  # its answers stay; what it is to record is missing
            folder.write_config(config)
        else:
            folder.begin(config, run_record(plan, run, group))
    return left


def _write_all(
    plan: GroupPlan,
    group: Group,
    left: Mapping[int, RunFolder],
    answered: tuple["Items", Collected],
    beside: Executor,
) -> Generator[Event, None, list[Future[None]]]:
    """Let the baselines answer, and have every run's answers written as soon as they are there."""
    items, collected = answered
    tested = slice(items.tested)
    baselines = Baselines(plan, group, items.examples[tested], collected.bare[tested])
    written: list[Future[None]] = []
    for index, folder in left.items():
        run = plan.runs[index]
        yield Event("baselines", index, len(plan.runs))
        answers: Scores = {None: collected.scores[index]}
        if run.settings.baselines:
            answers |= yield from baselines.of(run)
        record = run_record(plan, run, group) | baselines.note_of(run)
        written.append(beside.submit(_write, items, folder, answers, record))
    return written


def _write_costs(
    folders: Sequence[RunFolder], clock: Clock, checkpoint: Checkpoint, backbone: Backbone
) -> None:
    """Add what the group cost, and each run's share of it, to the runs' records."""
    costs = clock.record()
    if checkpoint.resumed:
        costs |= {"resumed": checkpoint.resumed, "resumed_under": checkpoint.circumstances}
    peak = checkpoint.peak(backbone)
    for folder in folders:
        record = folder.record()
        if record["group"] == folders[0].name:  # else it was computed in other company
            own = account(record, costs, folder.path / "parts", peak)
            folder.amend(costs | {"accounting": own})


def readers_of(plan: GroupPlan, group: Group) -> dict[str, AnswerReader]:
    """Build the readers of answers that are written, by the runs' names; none for other heads."""
    found = {run.name: reader_of(head_of(run.settings), group.engine.backbone) for run in plan.runs}
    return {name: reader for name, reader in found.items() if reader is not None}


@dataclass(frozen=True)
class Items:
    """What was answered.

    Attributes:
        card: The task.
        examples: Test items, then dev items where these are answered too.
        inputs: The same, encoded.
        tested: How many are test items.
        readers: Of answers that are written, by the run's name.
    """

    card: TaskCard
    examples: Sequence[Example]
    inputs: Sequence[Encoded]
    tested: int
    readers: Mapping[str, AnswerReader]

    def table(self, run: str, answers: Scores, rows: slice) -> pl.DataFrame:
        """Tabulate the answers to some of them."""
        card, reader = self.card, self.readers.get(run)
        examples, inputs = self.examples[rows], self.inputs[rows]
        return prediction_table(run, card, examples, inputs, answers, reader)


def _write(items: Items, folder: RunFolder, answers: Scores, record: Mapping[str, Any]) -> None:
    """Score a run's answers and finish its folder."""
    own, test, dev = answers[None], slice(items.tested), slice(items.tested, None)
    starts = answer_starts(items.inputs)
    tested = int(starts[items.tested])
    if len(items.examples) > items.tested:
        folder.write_dev_predictions(items.table(folder.name, {None: own[tested:]}, dev))
    table = items.table(folder.name, answers | {None: own[:tested]}, test)
    folder.finish(table, score_predictions(table), record)


def write_parts(folder: RunFolder, group: Group, index: int, head: Mapping[str, Tensor]) -> None:
    """Save a run's trained parts and what its head needs to answer."""
    for name, part in group.members[index].parts.items():
        if part.is_kept:
            folder.write_tensors(name, part.tensors(), part.facts())
    folder.write_tensors("head", head)
