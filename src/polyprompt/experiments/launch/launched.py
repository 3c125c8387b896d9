"""Chooses who computes a study's groups, as its settings say."""

from collections.abc import Iterator
from pathlib import Path

from polyprompt.experiments.claims import Claims
from polyprompt.experiments.events import Event
from polyprompt.experiments.launch.driver import drive
from polyprompt.experiments.launch.here import compute_here
from polyprompt.experiments.launch.schedule import Schedule
from polyprompt.experiments.launch.together import lead
from polyprompt.experiments.launch.worker import Worker
from polyprompt.study_settings import LaunchSettings


def launched(
    settings: LaunchSettings, schedule: Schedule, study: Path, output: str
) -> Iterator[Event]:
    """Compute what is scheduled, here or elsewhere.

    Args:
        settings: Of the study.
        schedule: Its jobs.
        study: Its folder.
        output: As its settings have it, a folder or a store.

    Yields:
        Progress.

    Raises:
        StoreError: Results cannot be written.
        ConfigError: What is asked for is not there.
    """
    if settings.kind == "processes":
        from polyprompt.experiments.launch.processes import Processes, places

        count = settings.count or _devices()
        yield from drive(schedule, Processes(study, places(count)), count)
        return
    if settings.kind == "ray":
        from polyprompt.experiments.launch.on_ray import RayPool

        pool = RayPool(settings, study, output)
        yield from drive(schedule, pool, pool.count)
        return
    if settings.kind == "together":
        yield from lead(settings, schedule, study)
        return
    yield from compute_here(schedule, Worker(Claims(study)))


def _devices() -> int:
    """Count this machine's GPUs, or take two processes where there is none."""
    import torch

    return torch.cuda.device_count() or 2
