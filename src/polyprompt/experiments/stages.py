"""The two long stages of a group of runs: it is trained, and then it answers."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

from polyprompt.data.encoded import Encoded
from polyprompt.experiments.assemble import Group
from polyprompt.experiments.checkpoint import Checkpoint
from polyprompt.experiments.events import Event
from polyprompt.experiments.plan import GroupPlan
from polyprompt.experiments.tracking import Tracking
from polyprompt.experiments.watching import Watched
from polyprompt.heads.head import Head
from polyprompt.prediction.predict import Answers, Collected
from polyprompt.prediction.written import answer_columns, answers_to
from polyprompt.records import StepRecord
from polyprompt.training.checkpoints import allow_less
from polyprompt.training.loop import Training
from polyprompt.training.member import prompts_of
from polyprompt.training.peers import ALONE, Peers


def train_group(
    group: Group,
    watching: Mapping[int, Watched],
    checkpoint: Checkpoint | None = None,
    peers: Peers = ALONE,
    tracking: Tracking | None = None,
) -> Generator[Event, None, list[list[StepRecord]]]:
    """Train the group and note its prompts' paths; returns the step records of each run.

    Args:
        group: Just built.
        watching: What is noted of the runs that ask for it.
        checkpoint: Where training goes on from, and what it is kept in.
        peers: Processes that train the same group.
        tracking: Is told of all steps.
    """
    training = Training(group.engine, group.members, peers)
    steps: list[list[StepRecord]] = [[] for _ in group.members]

    def note(records: Iterable[StepRecord]) -> None:
        for record in records:
            steps[record.run].append(record)
        if tracking:
            tracking.note(records)

    note(checkpoint.take_up_training(training, watching) if checkpoint else [])
    yield from _told(checkpoint, "train", training.step, training.steps)
    yield from _goes_on(training)
    ended = training.ended
    for records in training.run():
        note(records)
        for record in filter(lambda record: record.run in watching, records):
            watching[record.run].note(record, group.members[record.run])
        if checkpoint and checkpoint.is_due(training.step):
            checkpoint.keep_training(training, steps, watching)
            yield from _told(checkpoint, "train", training.step, training.steps)
        yield Event("train", training.step, training.steps)
    if checkpoint and not ended:
        checkpoint.keep_training(training, steps, watching)
        yield from _told(checkpoint, "train", training.step, training.steps)
    return steps


def _goes_on(training: Training) -> Iterator[Event]:
    """Tell where training goes on, if it does not begin."""
    if training.step >= 0:
        note = f"training goes on behind step {training.step} of {training.steps}"
        yield Event("train", training.step, training.steps, note)


def _told(checkpoint: Checkpoint | None, stage: str, done: int, total: int) -> Iterator[Event]:
    """Pass on what the checkpoint has to tell."""
    for note in checkpoint.told() if checkpoint else ():
        yield Event(stage, max(done, 0), total, note)


def read_all(
    plan: GroupPlan,
    group: Group,
    heads: Sequence[Head],
    inputs: Sequence[Encoded],
    checkpoint: Checkpoint | None = None,
    peers: Peers = ALONE,
) -> Generator[Event, None, Collected]:
    """Answer all inputs with every run; returns them collected.

    Args:
        plan: The group's.
        group: Trained, on the copy of its backbone that reads.
        heads: Of its runs.
        inputs: To be answered.
        checkpoint: Where reading goes on from, and what answers are kept in.
        peers: Processes that answer the others; in the end all have all answers.
    """
    described = plan.card.kind == "classification"  # by their vectors
    wanted = (
        described and not plan.trains_weights and any(run.settings.baselines for run in plan.runs)
    )
    width = group.engine.backbone.facts.width if wanted else 0
    collected = Collected(len(heads), inputs, answer_columns(heads, plan.card), width)
    known: list[int] = []
    for block, tokens in checkpoint.answers() if checkpoint else ():
        collected.add(block)
        known += block.rows
        allow_less(group.engine.allowance, tokens)
    yield from _told(checkpoint, "read", len(known), len(inputs))
    if known:
        note = f"reading goes on behind {len(known)} of {len(inputs)} sentences"
        yield Event("read", len(known), len(inputs), note)
    prompts = prompts_of(group.members)
    left = sorted(set(range(len(inputs))) - set(known), key=lambda row: inputs[row].tokens)
    of_others = set(left) - set(left[peers.share])
    own: list[Answers] = []
    skipped = [*known, *of_others]
    for batch in answers_to(group.engine, prompts, heads, inputs, bare=wanted, known=skipped):
        collected.add(batch)
        if peers.count > 1:
            own.append(batch)
        if checkpoint:
            checkpoint.keep_answers(batch, group.engine)
            yield from _told(checkpoint, "read", collected.done, len(inputs))
        yield Event("read", collected.done, len(inputs))
    for index, answers in enumerate(peers.gathered(own)):
        for batch in answers if index != peers.index else ():
            collected.add(batch)
    return collected
