"""The training loop: one batch carries the rows of all runs, each with its own prompts.

The group's loss is the sum of its runs' mean losses, so every run gets the gradient it would get
alone; clipping, learning rate and choice of checkpoint are each run's own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from polyprompt.data.corruption import CorruptedInputs
from polyprompt.data.encoded import Encoded
from polyprompt.data.lazy import LazyInputs
from polyprompt.engine.engine import Engine
from polyprompt.engine.memory import is_out_of_memory, release
from polyprompt.heads.head import Head, States
from polyprompt.records import StepRecord
from polyprompt.training.member import Member, in_training, prompts_of
from polyprompt.training.optimisers import make_optimiser
from polyprompt.training.peers import ALONE, Peers
from polyprompt.training.schedules import rate_factor
from polyprompt.training.stopping import BestState


class Training:
    """A group of runs that train together, a step at a time; can be left and taken up again.

    Attributes:
        engine: Computes states.
        members: The runs; their parts are moved in place and end in the state that is kept.
        optimiser: Moves them.
        best: The state of each that is kept.
        step: Steps taken; -1 before the dev loss was measured for the first time.
        ended: Whether the parts are in the state that is kept.
    """

    def __init__(self, engine: Engine, members: Sequence[Member], peers: Peers = ALONE) -> None:
        """Begin a group.

        Args:
            engine: Computes states.
            members: The runs.
            peers: Processes that train the same group, and take the same steps.
        """
        self.engine, self.members, self.peers = engine, tuple(members), peers
        self.optimiser = make_optimiser(members)
        self.best = [BestState(member) for member in members]
        self.step = -1
        self.ended = False
        self._is_kept = False

    @property
    def steps(self) -> int:
        """Steps of the run that takes the most."""
        return max((member.steps for member in self.members), default=0)

    def run(self) -> Iterator[list[StepRecord]]:
        """Train to the end from wherever it stands.

        Yields:
            A step's records, one per run that takes it, after those of step 0 (no step taken); at
            the end of an epoch they carry the dev loss. Between two yields the state is whole.
        """
        self.keep_examples()
        if self.ended:
            return
        if self.step < 0:
            self.step = 0
            yield [self._with_dev(StepRecord(run, 0, 0.0)) for run in range(len(self.members))]
        streams = [islice(member.batches(), self.step, None) for member in self.members]
        while self.step < self.steps:
            rows = {run: next(streams[run]) for run in _active(self.members, self.step)}
            taken = self.take_step(rows)
            yield [self._with_dev(r) if self._ends_epoch(r) else r for r in taken]
        for state in self.best:
            state.restore()
        self.ended = True

    def keep_examples(self) -> None:
        """Let the engine keep what is read again and again; if training has ended, heads do."""
        if not self._is_kept:
            for member in self.members:
                shape = prompts_of([member]).shapes[0]
                if isinstance(member.train, CorruptedInputs):  # never read twice as it is
                    self.engine.keep(member.dev, shape)
                elif isinstance(member.train, LazyInputs):
                    self.engine.keep(member.train, shape)
                    self.engine.keep(member.dev, shape)
                else:
                    self.engine.keep([*member.train, *member.dev], shape)
        self._is_kept = True

    def _ends_epoch(self, record: StepRecord) -> bool:
        """Say whether a step ends an epoch of its run, or the run."""
        return record.epoch == int(record.epoch) or record.step == self.members[record.run].steps

    @torch.no_grad()
    def _with_dev(self, record: StepRecord) -> StepRecord:
        """Measure the dev loss, remember the state if it is the best, complete the record."""
        member = self.members[record.run]
        if not member.dev:
            return record
        states = read(self.engine, member, member.dev)
        labels = member.dev_labels.to(states.mean.device)
        head = fitted_head(self.engine, member)
        loss = self.peers.same(float(head.loss(states, labels)))  # all choose the same state
        accuracy = head.accuracy(states, labels)
        self.best[record.run].offer(loss)
        return replace(record, dev_loss=loss, dev_accuracy=accuracy)

    def take_step(self, rows: dict[int, list[int]]) -> list[StepRecord]:
        """Move runs by one step.

        Args:
            rows: Of each run that takes it, the training rows.

        Returns:
            Their records.
        """
        members = self.members
        for member in members:
            member.step = self.step
        self.optimiser.zero_grad(set_to_none=True)
        with in_training(members, self.step):
            losses = add_gradients(self.engine, members, rows, self.peers.share)
        moved = [p for run in rows for p in members[run].trained_parameters()]
        self.peers.add_gradients(moved)
        losses = dict(zip(losses, self.peers.added(list(losses.values())), strict=True))
        for run in range(len(members)):
            if run not in rows:  # one that has ended takes no more steps, not even by momentum
                for parameter in members[run].trained_parameters():
                    parameter.grad = None
        norms = {run: clip(members[run]) for run in rows}
        rates = set_rates(self.optimiser, members, self.step)
        self.optimiser.step()
        self.step += 1
        return [
            StepRecord(
                run=run,
                step=self.step,
                epoch=self.step / members[run].steps_per_epoch,
                loss=loss,
                learning_rate=rates[run],
                gradient_norm=norms[run],
            )
            for run, loss in losses.items()
        ]


def train(engine: Engine, members: Sequence[Member]) -> Iterator[StepRecord]:
    """Train a group of runs from the beginning to the end.

    Yields:
        The records of ``Training.run``, one by one.
    """
    for records in Training(engine, members).run():
        yield from records


def _active(members: Sequence[Member], step: int) -> list[int]:
    """Name the runs that have steps left."""
    return [run for run, member in enumerate(members) if step < member.steps]


def add_gradients(
    engine: Engine,
    members: Sequence[Member],
    rows: dict[int, list[int]],
    share: slice = slice(None),
) -> dict[int, float]:
    """Add the gradients of a step to the parameters, in passes of bounded size.

    Args:
        engine: Computes states.
        members: All runs of the group.
        rows: The training rows of each active run.
        share: Which of all rows are computed here; others compute the rest.

    Returns:
        Every active run's mean loss over its own rows, or what the share adds to it.
    """
    while True:
        try:
            return _add_gradients(engine, members, rows, share)
        except (RuntimeError, MemoryError) as error:
            whole = sum(map(len, rows.values()))
            count = min(engine.allowance.rows or whole, whole)
            if count == 1 or not is_out_of_memory(error):
                raise
            engine.allowance.rows = count // 2
        for member in members:
            for parameter in member.trained_parameters():
                parameter.grad = None
        release()


def _add_gradients(
    engine: Engine, members: Sequence[Member], rows: dict[int, list[int]], share: slice
) -> dict[int, float]:
    """Add the gradients of a step, as many rows at once as the engine allows."""
    flat = [(run, row) for run, batch in rows.items() for row in batch][share]
    size = engine.allowance.rows or max(len(flat), 1)
    losses = dict.fromkeys(rows, 0.0)
    whole = {run: answered(members[run], batch) for run, batch in rows.items()}
    for start in range(0, len(flat), size):
        part: dict[int, list[int]] = {}
        for run, row in flat[start : start + size]:
            part.setdefault(run, []).append(row)
        means = group_losses(engine, members, part)
        shares = {
            run: loss * (answered(members[run], part[run]) / max(whole[run], 1))
            for run, loss in means.items()
        }
        torch.stack(list(shares.values())).sum().backward()
        for run, loss in shares.items():
            losses[run] += loss.item()
    return losses


def answered(member: Member, rows: Sequence[int]) -> int:
    """Count the answers that some of a step's rows have."""
    inputs = member.examples(rows) if isinstance(member.train, CorruptedInputs) else ()
    return member.head.answered(member.labels(rows, inputs))


def group_losses(
    engine: Engine, members: Sequence[Member], rows: dict[int, list[int]]
) -> dict[int, Tensor]:
    """Compute every active run's mean loss over its own rows in one pass.

    Args:
        engine: Computes states.
        members: All runs of the group.
        rows: The training rows of each active run.
    """
    of_runs = {run: members[run].examples(batch) for run, batch in rows.items()}
    inputs = [encoded for own in of_runs.values() for encoded in own]
    owners = [run for run, batch in rows.items() for _ in batch]
    with engine.backbone.mixed():
        states = engine.each(inputs, owners, prompts_of(members))
    losses: dict[int, Tensor] = {}
    start = 0
    for run, batch in rows.items():
        part = states.rows(slice(start, start + len(batch)))
        labels = members[run].labels(batch, of_runs[run]).to(part.mean.device)
        members[run].head.learns_from(batch, part)
        losses[run] = members[run].head.loss(part, labels)
        start += len(batch)
    return losses


def clip(member: Member) -> float:
    """Clip one run's gradient by its own norm; returns the norm before."""
    limit = member.settings.clip_norm
    norm = torch.nn.utils.clip_grad_norm_(
        member.trained_parameters(), float("inf") if limit is None else limit
    )
    return float(norm)


def set_rates(
    optimiser: torch.optim.Optimizer, members: Sequence[Member], step: int
) -> list[float]:
    """Set the learning rates of a step; returns every run's own."""
    factors = [
        rate_factor(own.settings.schedule, step, own.steps, own.settings.warmup_share)
        for own in members
    ]
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * factors[group["run"]]
    return [own.peak_rate * factor for own, factor in zip(members, factors, strict=True)]


@torch.no_grad()
def read(engine: Engine, member: Member, inputs: Sequence[Encoded]) -> States:
    """Read inputs with one run's prompts, without gradient."""
    prompts = prompts_of([member])
    return engine.read(
        inputs, prompts.live, lambda some: engine.each(some, [0] * len(some), prompts)
    )


def fitted_head(engine: Engine, member: Member) -> Head:
    """Give a run's head with what it takes from examples and neutral inputs under its prompt."""
    head = member.head
    if head.uses_examples:
        states = read(engine, member, member.train)
        head = head.fitted(states, member.train_labels.to(states.mean.device))
    return head.calibrated(read(engine, member, member.neutral)) if member.neutral else head
