"""Keeps a group of runs while it is computed, so that the same command goes on from there."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polyprompt.capabilities import EngineSettings
from polyprompt.engine.engine import Engine
from polyprompt.errors import StoreError
from polyprompt.experiments import kept
from polyprompt.experiments.accounting import peak_memory_bytes
from polyprompt.experiments.clock import Clock
from polyprompt.experiments.watching import Watched
from polyprompt.models.backbone import Backbone
from polyprompt.prediction.predict import Answers
from polyprompt.records import StepRecord
from polyprompt.tables import write_text
from polyprompt.training.checkpoints import resume, state_of
from polyprompt.training.loop import Training

_SHARE = 20
"""Writing takes about one part in so many of the time at most, but for the end of training."""


class Checkpoint:
    """What is kept of a group that has not ended.

    What cannot be kept or taken up stops nothing: it is told, and the group goes on, or begins.

    Attributes:
        path: Its folder; made when something is first written.
        resumed: How often the group was taken up again.
        circumstances: What was other than before when it was taken up; rounding may differ.
    """

    def __init__(
        self, study: Path, runs: Sequence[str], engine: EngineSettings, clock: Clock
    ) -> None:
        """Name a group's folder.

        Args:
            study: The study's folder.
            runs: Names of the group's runs, in its order.
            engine: How it is computed, and how much work may be lost.
            clock: Counts what the group costs.
        """
        self.path = kept.group_folder(study, runs)
        self.resumed = 0
        self.circumstances: list[str] = []
        self._runs, self._engine, self._clock = list(runs), engine, clock
        self._seconds = engine.resume_seconds
        self._peak: dict[str, int] = {}
        self._since, self._cost = time.monotonic(), 0.0
        self._waiting: list[Answers] = []
        self._blocks = 0
        self._notes: list[str] = []

    def told(self) -> list[str]:
        """Give the sentences that nobody has been told yet."""
        notes, self._notes = self._notes, []
        return notes

    def is_due(self, step: int | None = None) -> bool:
        """Say whether as much would be lost as may be lost, or as writing is worth.

        Args:
            step: Of training, where it is training that may be lost.
        """
        every = self._engine.resume_steps
        if every is not None and step and step % every == 0:
            return True
        if self._seconds is None:
            return False
        return time.monotonic() - self._since >= max(self._seconds, _SHARE * self._cost)

    def keep_training(
        self,
        training: Training,
        steps: Sequence[Sequence[StepRecord]],
        watching: Mapping[int, Watched],
    ) -> None:
        """Write where training stands.

        Args:
            training: Between two steps, or ended.
            steps: All records so far, by run.
            watching: What is noted of runs, by run.
        """
        if self._seconds is None and self._engine.resume_steps is None:
            return
        tensors, values = state_of(training)
        for run, path in watching.items():
            tensors |= {f"path{run}.{k}": torch.from_numpy(v) for k, v in path.arrays().items()}
        values["circumstances"] = _circumstances(training.engine)
        lines = [json.dumps(asdict(step)) for of_run in steps for step in of_run]
        began = time.monotonic()
        try:
            kept.begin(self.path, self._runs)
            write_text(self.path / kept.STEPS, "".join(line + "\n" for line in lines))
            values |= self._costs(training.engine.backbone)
            kept.write_tensors(self.path / kept.TRAINING, tensors, values)
        except StoreError as error:
            self._tell_unkept(error)
        self._since = time.monotonic()
        self._cost = self._since - began

    def take_up_training(
        self, training: Training, watching: Mapping[int, Watched]
    ) -> list[StepRecord]:
        """Go on from where training stood, if that is known; else begin, and forget all answers.

        Args:
            training: Just built.
            watching: What is noted of runs, by run.

        Returns:
            The records so far; nothing if it begins.
        """
        try:
            if not (self.path / kept.TRAINING).is_file():
                kept.clear(self.path)
                return []
            tensors, values = kept.read_tensors(self.path / kept.TRAINING)
            arrays = {run: _of_path(tensors, run) for run in watching}
            _check_noted(training, watching, arrays)
            records = self._records(values["step"])
            costs = self._latest_costs(values)
            resume(training, _without_paths(tensors), values)
        except (StoreError, OSError, KeyError, ValueError, TypeError) as error:
            self._notes.append(f"this group begins anew, cannot go on from {self.path}: {error}")
            kept.clear(self.path)
            return []
        if not training.ended:  # its end could not be kept: answers behind it may be of another
            kept.drop_blocks(self.path)
        for run, path in watching.items():
            path.take_up(arrays[run])
        self._go_on(training.engine, values.get("circumstances", {}), costs)
        return records

    def _records(self, step: int) -> list[StepRecord]:
        """Read the records up to a step."""
        lines = (self.path / kept.STEPS).read_text(encoding="utf-8").splitlines()
        records = [StepRecord(**json.loads(line)) for line in lines]
        return [record for record in records if record.step <= step]

    def _go_on(self, engine: Engine, before: Mapping[str, Any], costs: Mapping[str, Any]) -> None:
        """Take over what the group had cost, and how it was computed as far as that was free."""
        kept.clear(self.path, ".*")
        self._clock.take_up(costs["costs"])
        self.resumed, self._peak = costs["resumed"] + 1, costs["peak"]
        threads = before.get("threads")
        if threads and self._engine.threads is None and engine.backbone.device.type == "cpu":
            torch.set_num_threads(threads)
        now = _circumstances(engine)
        self.circumstances = costs.get("resumed_under", []) + [
            f"{name} {before[name]}, then {now[name]}"
            for name in now
            if name in before and before[name] != now[name]
        ]
        if self.circumstances:
            changed = "; ".join(self.circumstances)
            self._notes.append(
                f"goes on under other circumstances, may differ by rounding: {changed}"
            )

    def _costs(self, backbone: Backbone) -> dict[str, Any]:
        """Give what the group has cost so far."""
        return {
            "costs": self._clock.so_far(),
            "resumed": self.resumed,
            "resumed_under": self.circumstances,
            "peak": self.peak(backbone),
        }

    def _latest_costs(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Give what the last block of answers says of costs, or what training says."""
        number = 0
        while (self.path / kept.block(number + 1)).is_file():
            number += 1
        try:
            found = kept.read_values(self.path / kept.block(number))
        except StoreError:
            found = {}
        return found if "costs" in found else values

    def peak(self, backbone: Backbone) -> dict[str, int]:
        """Give the most memory that the group has used, before it was broken off included."""
        now = peak_memory_bytes(backbone)
        return {place: max(value, self._peak.get(place, 0)) for place, value in now.items()}

    def keep_answers(self, answers: Answers, engine: Engine) -> None:
        """Take a batch's answers, and write them with others as one block once that is due."""
        if self._seconds is None:
            return
        self._waiting.append(answers)
        if not self.is_due():
            return
        began = time.monotonic()
        tensors = {
            "rows": torch.tensor([row for some in self._waiting for row in some.rows]),
            "scores": torch.from_numpy(np.concatenate([a.scores for a in self._waiting], axis=1)),
        }
        bare = [some.bare for some in self._waiting if some.bare is not None]
        if bare:
            tensors["bare"] = torch.from_numpy(np.concatenate(bare))
        values = {"allowance": engine.allowance.tokens} | self._costs(engine.backbone)
        try:
            kept.write_tensors(self.path / kept.block(self._blocks), tensors, values)
            self._waiting = []
            self._blocks += 1
        except StoreError as error:
            self._tell_unkept(error)
        self._since = time.monotonic()
        self._cost = self._since - began

    def answers(self) -> Iterator[tuple[Answers, int]]:
        """Read the answers that were written, up to the first block that cannot be read.

        Yields:
            A block, and the tokens that were read at once behind it.
        """
        self._blocks = 0
        while (path := self.path / kept.block(self._blocks)).is_file():
            try:
                tensors, values = kept.read_tensors(path)
                arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
                found = Answers(arrays["rows"].tolist(), arrays["scores"], arrays.get("bare"))
            except (StoreError, KeyError) as error:
                self._notes.append(f"sentences from here on are read again: {error}")
                kept.drop_blocks(self.path, self._blocks)
                return
            self._blocks += 1
            yield found, values["allowance"]

    def remove(self) -> None:
        """Take the folder away; the group has ended."""
        kept.take_away(self.path)

    def _tell_unkept(self, error: StoreError) -> None:
        """Tell that something could not be kept."""
        self._notes.append(
            f"goes on, but if it is broken off now, it goes on from an earlier point: {error} "
            "engine.resume_seconds=null keeps nothing."
        )


def _check_noted(
    training: Training,
    watching: Mapping[int, Watched],
    arrays: Mapping[int, Mapping[str, np.ndarray]],
) -> None:
    """Find out whether what is asked for was noted from the beginning.

    Raises:
        StoreError: Something was not.
    """
    for run, found in arrays.items():
        missing = watching[run].lacks(found, training.members[run])
        if missing:
            raise StoreError(f"{missing[0]}, which is to be recorded now, was not noted")


def _without_paths(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Leave out the paths of prompts."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("path")}


def _of_path(tensors: Mapping[str, torch.Tensor], run: int) -> dict[str, np.ndarray]:
    """Pick out the arrays of one run's path."""
    front = f"path{run}."
    return {n.removeprefix(front): t.numpy() for n, t in tensors.items() if n.startswith(front)}


def _circumstances(engine: Engine) -> dict[str, Any]:
    """Name what decides how results are rounded, besides the settings that name a run."""
    backbone = engine.backbone
    return {
        "engine": type(engine).__name__,
        "device": str(backbone.device),
        "dtype": str(backbone.table.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
