"""What is noted of runs while they train: the path of the prompt, scores at the ends of epochs."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from polyprompt.experiments.assemble import Group
from polyprompt.experiments.epochs import EpochScores
from polyprompt.experiments.plan import GroupPlan
from polyprompt.experiments.recorded import PromptPath
from polyprompt.experiments.store import RunFolder
from polyprompt.records import StepRecord
from polyprompt.training.member import Member


class Noted(Protocol):
    """Something that is noted of a run step by step."""

    name: str

    def expects(self, member: Member) -> bool:
        """Say whether something is noted of a run's start."""
        ...

    def note(self, record: StepRecord, member: Member) -> None:
        """Note what a step has made."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """Give what was noted so far, for ``take_up``."""
        ...

    def take_up(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what ``arrays`` gave."""
        ...

    def write(self, folder: RunFolder, member: Member) -> None:
        """Write what was noted; the run has ended."""
        ...


class Watched:
    """All that is noted of one run."""

    def __init__(self, noted: Sequence[Noted]) -> None:
        """Watch a run."""
        self._noted = noted

    def note(self, record: StepRecord, member: Member) -> None:
        """Note what a step has made."""
        for one in self._noted:
            one.note(record, member)

    def arrays(self) -> dict[str, np.ndarray]:
        """Give what was noted so far, for ``take_up``."""
        return {f"{one.name}.{key}": v for one in self._noted for key, v in one.arrays().items()}

    def lacks(self, arrays: Mapping[str, np.ndarray], member: Member) -> list[str]:
        """Name what ``arrays`` has nothing of though it was to be noted from the start."""
        return [
            one.name for one in self._noted if one.expects(member) and not _of(arrays, one.name)
        ]

    def take_up(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what ``arrays`` gave."""
        for one in self._noted:
            one.take_up(_of(arrays, one.name))

    def write(self, folder: RunFolder, member: Member) -> None:
        """Write what was noted; the run has ended."""
        for one in self._noted:
            one.write(folder, member)


def watched(plan: GroupPlan, group: Group) -> dict[int, Watched]:
    """Begin to watch the runs that ask for it, by the run's number in its group."""
    found: dict[int, Watched] = {}
    for index, run in enumerate(plan.runs):
        noted: list[Noted] = []
        if "prompt_path" in run.settings.record:
            noted.append(PromptPath(group.engine.backbone))
        if "epochs" in run.settings.record:
            noted.append(EpochScores(plan, group, run.settings.record_items))
        if noted:
            found[index] = Watched(noted)
    return found


def _of(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Pick out the arrays of one thing that is noted."""
    front = f"{name}."
    return {key.removeprefix(front): v for key, v in arrays.items() if key.startswith(front)}
