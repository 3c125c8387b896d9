"""Workers in processes of this machine."""

import multiprocessing as mp
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from polyprompt.experiments.claims import Claims
from polyprompt.experiments.events import Event
from polyprompt.experiments.launch.jobs import Ending, Job, Outcome
from polyprompt.experiments.launch.pools import Message, Pool
from polyprompt.experiments.launch.worker import Worker

_TELL_SECONDS = 0.1
_END_SECONDS = 5.0


@dataclass(frozen=True)
class Place:
    """What a worker may use of its machine.

    Attributes:
        threads: Of the processor, for groups whose settings leave them open.
        device: Which of the visible GPUs; None where there is none.
    """

    threads: int
    device: str | None = None


class Processes(Pool):
    """Processes that are started with nothing of this one's state."""

    def __init__(self, study: Path, places: Sequence[Place]) -> None:
        """Start nothing yet.

        Args:
            study: The study's folder.
            places: One per worker.
        """
        self._study, self._places = study, places
        self._context = mp.get_context("spawn")
        self._workers: dict[int, tuple[BaseProcess, Connection]] = {}

    def start(self, worker: int) -> None:
        """Start a worker's process."""
        own, other = self._context.Pipe()
        process = self._context.Process(
            target=serve,
            args=(other, self._study, self._places[worker]),
            name=f"polyprompt worker {worker}",
            daemon=True,
        )
        process.start()
        other.close()
        assert isinstance(own, Connection)
        self._workers[worker] = process, own

    def send(self, worker: int, job: Job) -> None:
        """Give a worker a job; if it is gone, that is told later."""
        try:
            self._workers[worker][1].send(job)
        except OSError:
            return  # its end of the pipe tells so, too

    def messages(self, timeout_seconds: float) -> Sequence[Message]:
        """Read what workers have told."""
        of_pipe = {pipe: worker for worker, (_, pipe) in self._workers.items()}
        if not of_pipe:
            time.sleep(timeout_seconds)
            return []
        found: list[Message] = []
        for pipe in wait(list(of_pipe), timeout_seconds):
            assert isinstance(pipe, Connection)
            found += self._read(of_pipe[pipe], pipe)
        return found

    def _read(self, worker: int, pipe: Connection) -> Iterator[Message]:
        """Read what one worker has told, and whether it has gone."""
        try:
            while pipe.poll():
                yield worker, pipe.recv()
        except (EOFError, OSError):
            process, _ = self._workers.pop(worker)
            process.join(_END_SECONDS)
            pipe.close()
            yield worker, Outcome(Ending.LOST, {"error": _end_of(process.exitcode)})

    def close(self) -> None:
        """Close the pipes, at which workers give their claims back and end."""
        for _, pipe in self._workers.values():
            pipe.close()
        deadline = time.monotonic() + _END_SECONDS
        for process, _ in self._workers.values():
            process.join(max(deadline - time.monotonic(), 0.1))
            if process.is_alive():
                process.terminate()
                process.join(_END_SECONDS)
        self._workers = {}


def _end_of(code: int | None) -> str:
    """Say in words how a process ended."""
    if code is None:
        return "its pipe was closed"
    if code >= 0:
        return f"it ended with code {code}"
    name = signal.Signals(-code).name
    memory = ", as the system does when memory is full" if name == "SIGKILL" else ""
    return f"it was ended by {name}{memory}"


def serve(pipe: Connection, study: Path, place: Place) -> None:
    """Compute jobs until nobody gives any more; what a worker's process does.

    Args:
        pipe: Jobs come in, events and outcomes go out.
        study: The study's folder.
        place: What may be used.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's; it closes the pipe
    if place.device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = place.device
    worker = Worker(Claims(study))
    try:
        while True:
            for message in told_seldom(worker, within(pipe.recv(), place)):
                pipe.send(message)
    except (EOFError, OSError):
        return  # the driver has gone, or wants no more


def within(job: Job, place: Place) -> Job:
    """Give a job the threads of its place, where its settings leave them open."""
    group = job.group
    if group.engine.threads is not None:
        return job
    engine = group.engine.model_copy(update={"threads": place.threads})
    return replace(job, group=replace(group, engine=engine))


def told_seldom(worker: Worker, job: Job) -> Iterator[Event | Outcome]:
    """Compute a job; gives notes and stages' ends, what lies between seldom, and the outcome."""
    events, last = worker.compute(job), 0.0
    try:
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                yield end.value
                return
            now = time.monotonic()
            if event.note or event.done in {0, event.total} or now - last > _TELL_SECONDS:
                last = now
                yield event
    finally:
        events.close()  # claims are given back


def places(count: int) -> list[Place]:
    """Share this machine between workers: cores evenly, GPUs in turn."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = max((cores or 1) // count, 1)
    devices = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = named if len(named) == devices and named[0] else list(map(str, range(devices)))
    return [Place(threads, names[i % devices] if devices else None) for i in range(count)]
