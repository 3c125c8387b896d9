"""What is kept of a group of runs that has not ended, so that the same command goes on from there.

``STUDY/groups/NAME/`` holds ``group.json`` (its runs), ``training.safetensors`` (where training
stands), ``steps.jsonl`` (its records) and ``answers-N.safetensors`` (blocks of answers). Every file
is whole or absent; the folder is taken away when the group has ended.
"""

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polyprompt.errors import StoreError
from polyprompt.experiments.accounting import peak_memory_bytes
from polyprompt.experiments.clock import Clock
from polyprompt.experiments.recorded import PromptPath
from polyprompt.fingerprint import fingerprint
from polyprompt.models.backbone import Backbone
from polyprompt.prediction.predict import Answers
from polyprompt.records import StepRecord
from polyprompt.tables import read_json, replacing, write_json, write_text
from polyprompt.training.checkpoints import resume, state_of
from polyprompt.training.loop import Training

GROUPS = "groups"
_SHARE = 20
"""Writing takes no more than one part in so many of the time."""
_TRAINING, _STEPS, _GROUP = "training.safetensors", "steps.jsonl", "group.json"


class Checkpoint:
    """The folder of a group that has not ended.

    Attributes:
        path: The folder; made when something is first written.
        resumed: How often the group was taken up again.
    """

    def __init__(
        self, study: Path, runs: Sequence[str], seconds: float | None, clock: Clock
    ) -> None:
        """Name a group's folder.

        Args:
            study: The study's folder.
            runs: Names of the group's runs, in its order.
            seconds: Of work that may be lost; None keeps nothing.
            clock: Counts what the group costs.
        """
        self.path = study / GROUPS / fingerprint(list(runs))
        self.resumed = 0
        self._runs, self._seconds, self._clock = list(runs), seconds, clock
        self._peak: dict[str, int] = {}
        self._since, self._cost = time.monotonic(), 0.0
        self._waiting: list[Answers] = []
        self._blocks = 0

    def is_due(self) -> bool:
        """Say whether as much would be lost as may be lost, or as writing is worth."""
        if self._seconds is None:
            return False
        return time.monotonic() - self._since >= max(self._seconds, _SHARE * self._cost)

    def keep_training(
        self,
        training: Training,
        steps: Sequence[Sequence[StepRecord]],
        paths: Mapping[int, PromptPath],
    ) -> None:
        """Write where training stands.

        Args:
            training: Between two steps, or ended.
            steps: All records so far, by run.
            paths: Of the prompts that are recorded, by run.

        Raises:
            StoreError: The disk is full, or the folder cannot be written.
        """
        if self._seconds is None:
            return
        began = time.monotonic()
        write_json(self.path / _GROUP, {"runs": self._runs})
        lines = [json.dumps(asdict(step)) for of_run in steps for step in of_run]
        write_text(self.path / _STEPS, "".join(line + "\n" for line in lines))
        tensors, values = state_of(training)
        for run, path in paths.items():
            tensors |= {f"path{run}.{k}": torch.from_numpy(v) for k, v in path.arrays().items()}
        values |= {"costs": self._clock.so_far(), "resumed": self.resumed}
        values |= {"peak": self.peak(training.engine.backbone)}
        self._write(_TRAINING, tensors, values)
        self._since = time.monotonic()
        self._cost = self._since - began

    def take_up_training(
        self, training: Training, paths: Mapping[int, PromptPath]
    ) -> list[StepRecord]:
        """Go on from where training stood, if that is known.

        Args:
            training: Just built.
            paths: Of the prompts that are recorded, by run.

        Returns:
            The records so far; nothing if it begins.

        Raises:
            StoreError: What was kept cannot be read.
        """
        if not (self.path / _TRAINING).is_file():
            return []
        try:
            tensors, values = self._read(_TRAINING)
            own = {name: tensors.pop(name) for name in list(tensors) if name.startswith("path")}
            resume(training, tensors, values)
            for run, path in paths.items():
                front = f"path{run}."
                arrays = {
                    n.removeprefix(front): t.numpy() for n, t in own.items() if n.startswith(front)
                }
                path.take_up(arrays)
            lines = (self.path / _STEPS).read_text(encoding="utf-8").splitlines()
            records = [StepRecord(**json.loads(line)) for line in lines]
        except (StoreError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise StoreError(
                f"Cannot go on from {self.path}: {error}. Delete that folder to begin this group "
                "anew; runs that are complete stay."
            ) from error
        self._clock.take_up(values["costs"])
        self.resumed, self._peak = values["resumed"] + 1, values["peak"]
        return [record for record in records if record.step <= training.step]

    def peak(self, backbone: Backbone) -> dict[str, int]:
        """Give the most memory that the group has used, before it was broken off included."""
        now = peak_memory_bytes(backbone)
        return {place: max(value, self._peak.get(place, 0)) for place, value in now.items()}

    def keep_answers(self, answers: Answers, allowance: int) -> None:
        """Take a batch's answers, and write them with others as one block once that is due.

        Args:
            answers: The batch's.
            allowance: Tokens that are read at once from here on.
        """
        if self._seconds is None:
            return
        self._waiting.append(answers)
        if not self.is_due():
            return
        waiting, self._waiting = self._waiting, []
        began = time.monotonic()
        tensors = {
            "rows": torch.tensor([row for some in waiting for row in some.rows]),
            "scores": torch.from_numpy(np.concatenate([some.scores for some in waiting], axis=1)),
        }
        bare = [some.bare for some in waiting if some.bare is not None]
        if bare:
            tensors["bare"] = torch.from_numpy(np.concatenate(bare))
        self._write(_block(self._blocks), tensors, {"allowance": allowance})
        self._blocks += 1
        self._since = time.monotonic()
        self._cost = self._since - began

    def answers(self) -> Iterator[tuple[Answers, int]]:
        """Read the answers that were written.

        Yields:
            A block, and the tokens that were read at once behind it.

        Raises:
            StoreError: A block cannot be read.
        """
        self._blocks = 0
        while (self.path / _block(self._blocks)).is_file():
            tensors, values = self._read(_block(self._blocks))
            self._blocks += 1
            arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
            rows = arrays["rows"].tolist()
            yield Answers(rows, arrays["scores"], arrays.get("bare")), values["allowance"]

    def remove(self) -> None:
        """Take the folder away; the group has ended."""
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):  # other groups have not ended
            self.path.parent.rmdir()

    def _write(self, name: str, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Write tensors with plain values beside them."""
        from safetensors.torch import save_file

        whole = {key: tensor.detach().contiguous() for key, tensor in tensors.items()}
        with replacing(self.path / name) as temporary:
            save_file(whole, temporary, metadata={"values": json.dumps(values)})

    def _read(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read what ``_write`` wrote.

        Raises:
            StoreError: It is broken.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path / name, "pt") as stored:
                values = json.loads(stored.metadata()["values"])
                return {key: stored.get_tensor(key) for key in stored.keys()}, values  # noqa: SIM118
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"Cannot read {self.path / name}: {error}. Delete {self.path} to begin this group "
                "anew; runs that are complete stay."
            ) from error


def broken_off(study: Path) -> list[list[str]]:
    """Name the runs of each group that was broken off, group by group."""
    files = sorted(study.glob(f"{GROUPS}/*/{_GROUP}"))
    return [read_json(path)["runs"] for path in files]


def _block(number: int) -> str:
    """Name the file of a block of answers."""
    return f"answers-{number:05d}.safetensors"
