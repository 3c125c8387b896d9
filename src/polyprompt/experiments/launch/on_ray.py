"""Workers as actors of a Ray cluster, whose machines see the study's folder."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from polyprompt.errors import ConfigError
from polyprompt.experiments.claims import Claims
from polyprompt.experiments.events import Event
from polyprompt.experiments.launch.jobs import Ending, Job, Outcome
from polyprompt.experiments.launch.pools import Message, Pool
from polyprompt.experiments.launch.processes import Place, told_seldom, within
from polyprompt.experiments.launch.worker import Worker
from polyprompt.experiments.remote import Store, is_url, local_folder
from polyprompt.study_settings import LaunchSettings


class Errand:
    """What an actor does: it computes jobs, and its models stay loaded between them."""

    def __init__(self, study: Path, output: str, threads: int) -> None:
        """Begin without a model.

        Args:
            study: The study's folder, as this machine sees it if ``output`` is no store.
            output: The study's.
            threads: Of the processor, for groups whose settings leave them open.
        """
        self._store = Store(output) if is_url(output) else None
        self._output = output
        self._worker = Worker(None if self._store else Claims(study))
        self._place = Place(threads)

    def pid(self) -> int:
        """Name the process, so that a test can end it."""
        return os.getpid()

    def compute(self, job: Job, place: str) -> Iterator[Event | Outcome]:
        """Compute a job; yields progress, seldom, and the outcome last.

        Args:
            job: The runs.
            place: Their study's folder below the output.
        """
        job = replace(job, study=local_folder(self._output) / place)
        for message in told_seldom(self._worker, within(job, self._place)):
            if isinstance(message, Outcome) and message.ending is Ending.DONE and self._store:
                for name in job.names:
                    self._store.put(job.study / name)
            yield message


class RayPool(Pool):
    """Actors, each with its part of a processor and perhaps a GPU."""

    def __init__(self, settings: LaunchSettings, study: Path, output: str) -> None:
        """Join a cluster, or start one on this machine.

        Args:
            settings: Address, and what each actor takes.
            study: The study's folder, which all machines of the cluster see.
            output: The study's; if it is a store, machines need not see the folder, and nothing is
                claimed: this process alone says who computes what.

        Raises:
            ConfigError: Ray is not installed, or the cluster cannot be reached.
        """
        self._ray = _ray()
        self._study = study.absolute()
        self._output = output if is_url(output) else str(Path(output).absolute())
        self._store = Store(output) if is_url(output) else None
        self._jobs: dict[int, Job] = {}
        self._cpus = settings.cpus
        self._began = not self._ray.is_initialized()
        self._actors: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}
        try:
            if self._began:
                self._ray.init(
                    address=settings.address,
                    log_to_driver=False,
                    include_dashboard=False if settings.address is None else None,
                    logging_level="error",
                )
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            raise ConfigError(
                f"launch.address: cannot join the Ray cluster {settings.address}: {error}. Start "
                "it with 'ray start --head', or leave launch.address out to start one here."
            ) from error
        self._gpus = self._gpus_each(settings)
        self.count = self._count(settings.count)

    def _gpus_each(self, settings: LaunchSettings) -> float:
        """Give the GPUs of an actor: one where the cluster has any, unless settings say."""
        if settings.gpus is not None:
            return settings.gpus
        return 1 if self._ray.cluster_resources().get("GPU", 0) else 0

    def _count(self, asked: int | None) -> int:
        """Count the actors: as many as are asked for, and no more than have room at once.

        Raises:
            ConfigError: There is room for none.
        """
        found = self._ray.cluster_resources()
        rooms = [found.get("CPU", 0) / self._cpus]
        rooms += [found.get("GPU", 0) / self._gpus] if self._gpus else []
        room = int(min(rooms))
        if not room:
            self.close()
            raise ConfigError(
                f"launch: an actor with {self._cpus:g} cpus and {self._gpus:g} gpus has no room in "
                f"the Ray cluster, which has {found.get('CPU', 0):g} and {found.get('GPU', 0):g}. "
                "Set launch.cpus and launch.gpus to less."
            )
        return min(asked or room, room)

    def start(self, worker: int) -> None:
        """Start an actor."""
        made = self._ray.remote(Errand).options(num_cpus=self._cpus, num_gpus=self._gpus)
        self._actors[worker] = made.remote(self._study, self._output, max(int(self._cpus), 1))

    def send(self, worker: int, job: Job) -> None:
        """Give an actor a job."""
        actor = self._actors[worker]
        place = job.study.absolute().relative_to(local_folder(self._output)).as_posix()
        compute = actor.compute.options(num_returns="streaming")
        self._streams[worker], self._jobs[worker] = compute.remote(job, place), job

    def messages(self, timeout_seconds: float) -> Sequence[Message]:
        """Read what actors have told."""
        of_stream = {stream: worker for worker, stream in self._streams.items()}
        if not of_stream:
            return []
        streams = list(of_stream)
        ready, _ = self._ray.wait(streams, num_returns=1, timeout=timeout_seconds)
        return [self._read(of_stream[stream], stream) for stream in ready]

    def _read(self, worker: int, stream: Any) -> Message:
        """Read one message, or find that an actor has gone."""
        try:
            message = self._ray.get(next(stream))
        except (self._ray.exceptions.RayError, StopIteration) as error:
            self._actors.pop(worker)
            del self._streams[worker]
            told = (str(error).strip() or "it ended without a word").splitlines()[0]
            return worker, Outcome(Ending.LOST, {"error": told})
        if isinstance(message, Outcome):
            del self._streams[worker]
            if self._store and message.ending is Ending.DONE:
                job = self._jobs[worker]
                self._store.fetch_runs(job.study, job.names)
        return worker, message

    def close(self) -> None:
        """End the actors and leave the cluster, which is never stopped if it was there before."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors, self._streams = {}, {}
        if self._began:
            self._ray.shutdown()


def _ray() -> Any:
    """Import Ray.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "launch.kind: ray needs Ray. Install it with: pip install 'polyprompt[ray]'"
        ) from error
    return ray
