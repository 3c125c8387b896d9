"""One group of runs from examples to scores: the way through the whole package."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from polyprompt.data.encoding import Encoded
from polyprompt.experiments.assemble import Group, build_group
from polyprompt.experiments.comparison import baseline_scores
from polyprompt.experiments.events import Event
from polyprompt.experiments.plan import GroupPlan
from polyprompt.experiments.recording import run_record
from polyprompt.experiments.store import RunFolder
from polyprompt.models.backbone import Backbone
from polyprompt.prediction.predict import answer, collect
from polyprompt.prediction.record import prediction_table
from polyprompt.records import StepRecord
from polyprompt.scoring.score import score_predictions
from polyprompt.training.loop import fitted_head, train
from polyprompt.training.member import prompts_of


@dataclass
class Clock:
    """Seconds spent per stage of a group."""

    seconds: dict[str, float] = field(default_factory=dict)
    _stage: str = ""
    _since: float = 0.0

    def enter(self, stage: str) -> None:
        """Begin a stage and end the one before."""
        now = time.perf_counter()
        if self._stage:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage, now


def run_group(plan: GroupPlan, backbone: Backbone, folders: Sequence[RunFolder]) -> Iterator[Event]:
    """Train, test and write down a group of runs.

    Args:
        plan: The runs.
        backbone: Loaded as they ask for.
        folders: One per run.

    Yields:
        Progress.
    """
    clock = Clock()
    clock.enter("prepare")
    group = build_group(plan, backbone)
    for run, folder in zip(plan.runs, folders, strict=True):
        folder.begin(run.settings.model_dump(mode="json"), run_record(plan, run, group))
    clock.enter("train")
    steps = yield from train_group(group)
    heads = [fitted_head(group.engine, member) for member in group.members]
    clock.enter("read")
    examples = plan.data.splits["test"]
    inputs = group.encoder.encode(examples)
    scores, bare = yield from _read(plan, group, heads, inputs)
    for index, (run, folder) in enumerate(zip(plan.runs, folders, strict=True)):
        clock.enter("baselines")
        yield Event("baselines", index, len(folders))
        answers = {None: scores[index]}
        if bare is not None:
            answers |= baseline_scores(plan, run, group, examples, bare)
        table = prediction_table(
            folder.name, plan.card.name, plan.card.labels, examples, inputs, answers
        )
        clock.enter("write")
        write_parts(folder, group, index, heads[index].tensors())
        folder.write_steps(steps[index])
        folder.finish(table, score_predictions(table), run_record(plan, run, group, clock.seconds))
    yield Event("write", len(folders), len(folders))


def train_group(group: Group) -> Iterator[Event]:
    """Train the group; returns the step records of each run."""
    total = max((member.steps for member in group.members), default=0)
    steps: list[list[StepRecord]] = [[] for _ in group.members]
    done = -1
    for record in train(group.engine, group.members):
        steps[record.run].append(record)
        if record.step > done:
            done = record.step
            yield Event("train", done, total)
    return steps


def _read(
    plan: GroupPlan, group: Group, heads: Sequence, inputs: Sequence[Encoded]
) -> Iterator[Event]:
    """Answer all test inputs; returns scores R × N × C and unprompted vectors N × D."""
    wanted = any(run.settings.baselines for run in plan.runs)
    answers = answer(
        group.engine,
        prompts_of(group.members),
        heads,
        inputs,
        bare=wanted,
        tokens_per_batch=plan.engine.tokens_per_batch,
    )
    result = (np.zeros((len(heads), 0, len(plan.card.labels)), dtype=np.float32), None)
    for done, scores, bare in collect(answers, len(inputs)):
        yield Event("read", done, len(inputs))
        result = (scores, bare)
    return result


def write_parts(folder: RunFolder, group: Group, index: int, head: Mapping[str, object]) -> None:
    """Save a run's trained parts and what its head needs to answer."""
    for slot, part in group.members[index].parts.items():
        folder.write_tensors(slot, part.state_dict())
    folder.write_tensors("head", head)
