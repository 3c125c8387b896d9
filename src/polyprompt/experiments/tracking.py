"""Tells trackers that accelerate knows – TensorBoard and others – of a run's steps and scores."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import polars as pl

from polyprompt.errors import ConfigError
from polyprompt.experiments.nested import flatten
from polyprompt.experiments.plan import GroupPlan
from polyprompt.experiments.store import RunFolder
from polyprompt.records import StepRecord

_VALUES = ("loss", "learning_rate", "gradient_norm", "dev_loss", "dev_accuracy")


def check_trackers(names: Sequence[str]) -> None:
    """Find out before anything is computed that trackers are installed.

    Raises:
        ConfigError: One is not.
    """
    if not names:
        return
    from accelerate.tracking import get_available_trackers

    known = {tracker.value for tracker in get_available_trackers()}
    for name in names:
        if name not in known:
            install = "'polyprompt[trackers]'" if name == "tensorboard" else name
            raise ConfigError(f"trackers: {name} is not installed. pip install {install}")


class Tracking:
    """The trackers of a group's runs; everything is told anew when a group is taken up again."""

    def __init__(self, plan: GroupPlan, folders: Mapping[int, RunFolder]) -> None:
        """Begin a run with every tracker that is asked for.

        Args:
            plan: The group's, which names the trackers.
            folders: Of the runs that are not done, by their numbers.
        """
        self._of_run: dict[int, list[Any]] = {}
        self.notes: list[str] = []
        for index, folder in folders.items() if plan.trackers else ():
            config = plan.runs[index].settings.model_dump(mode="json")
            values = {key: _plain(value) for key, value in flatten(config).items()}
            self._of_run[index] = [_begin(name, folder, values) for name in plan.trackers]

    def note(self, records: Iterable[StepRecord]) -> None:
        """Tell of steps."""
        for record in records:
            values = {k: v for k, v in asdict(record).items() if k in _VALUES and v is not None}
            if values:
                self._tell(record.run, lambda one, v=values, r=record: one.log(v, step=r.step))

    def finish(self, folders: Mapping[int, RunFolder]) -> None:
        """Tell of the runs' own scores, and end."""
        for index in self._of_run:
            own = folders[index].scores().filter(pl.col("baseline").is_null())
            rows = own.select("metric", "language", "value").iter_rows()
            values = {f"{metric}/{language}": value for metric, language, value in rows}
            means = own.group_by("metric").agg(pl.col("value").mean()).iter_rows()
            values |= {f"{metric}/mean": mean for metric, mean in means}
            self._tell(index, lambda one, v=values: one.log(v))
            self._tell(index, lambda one: one.finish())

    def _tell(self, run: int, call: Callable[[Any], object]) -> None:
        """Tell a run's trackers something; one that fails is told nothing more."""
        for tracker in list(self._of_run.get(run, ())):
            try:
                call(tracker)
            except Exception as error:  # noqa: BLE001 (no result depends on a tracker)
                self._of_run[run].remove(tracker)
                self.notes.append(f"goes on without {tracker.name}: {error}")


def _begin(name: str, folder: RunFolder, config: Mapping[str, Any]) -> Any:
    """Begin a run with a tracker; files it may write are in the run's folder."""
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # accelerate's own logging asks for it
    kind = LOGGER_TYPE_TO_CLASS[name]
    if kind.requires_logging_directory:
        shutil.rmtree(folder.path / "trackers" / name, ignore_errors=True)
        tracker = kind(name, logging_dir=str(folder.path / "trackers"))
    else:
        tracker = kind(folder.name)
    tracker.start()
    tracker.store_init_configuration(dict(config))
    return tracker


def _plain(value: Any) -> Any:
    """Give a setting as trackers take it: a number, a truth value or text."""
    return value if isinstance(value, bool | int | float | str) else str(value)
