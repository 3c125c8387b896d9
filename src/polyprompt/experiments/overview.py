"""What a study consists of and how far each run has come, from its folder alone.

``plan.json`` names the runs, what sets them apart, and which are computed together. Needs neither
torch nor tables, so that it answers at once for thousands of runs.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyprompt.errors import StoreError
from polyprompt.experiments.claims import claimed_runs, owner_of
from polyprompt.experiments.failures import failure_of
from polyprompt.experiments.nested import flatten, varying
from polyprompt.tables import read_json, write_json

if TYPE_CHECKING:
    from polyprompt.experiments.plan import GroupPlan

PLAN = "plan.json"
_PLACES = {"data", "record", "record_items"}
_SEEDS = ("draw_seed", "train_seed")


class State(StrEnum):
    """How far a run has come."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    MISSING = "missing"


@dataclass(frozen=True)
class RunState:
    """One run of a study.

    Attributes:
        name: Its folder's name.
        settings: What sets it apart from the study's others, under dotted names.
        state: How far it has come.
        note: Who computes it, or the first line of its error.
    """

    name: str
    settings: Mapping[str, Any]
    state: State
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """A study's runs.

    Attributes:
        runs: What sets each apart, by name, in the study's order.
        groups: Names of runs that are computed together.
    """

    runs: Mapping[str, Mapping[str, Any]]
    groups: tuple[tuple[str, ...], ...]


def write_plan(study: Path, groups: "Sequence[GroupPlan]") -> None:
    """Write down what a study consists of.

    Args:
        study: Its folder.
        groups: All of them, complete or not.
    """
    runs = {run.name: run.settings for group in groups for run in group.runs}
    flat = {
        name: flatten(settings.model_dump(mode="json", exclude=_PLACES))
        for name, settings in runs.items()
    }
    apart = _apart(list(flat.values()))
    value = {
        "groups": [
            {
                "runs": [run.name for run in group.runs],
                "engine": group.choice.kind,
                "reason": group.choice.reason,
            }
            for group in groups
        ],
        "runs": {name: {key: config.get(key) for key in apart} for name, config in flat.items()},
    }
    write_json(study / PLAN, value)


def _apart(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name what sets flat configurations apart; seeds that are the run's one seed are not named."""
    same = {key for key in _SEEDS if all(one.get(key) == one.get("seed") for one in configs)}
    return [key for key in varying(configs) if key not in same]


def read_plan(study: Path) -> Plan:
    """Read what a study consists of.

    Raises:
        StoreError: It is no study's folder, or was begun by an earlier version.
    """
    if not study.is_dir():
        raise StoreError(f"There is no study at {study}. Give the folder that 'run' named.")
    if not (study / PLAN).is_file():
        raise StoreError(
            f"{study} has no {PLAN}: it is no study's folder, or was made by an earlier version. "
            "Give the folder that 'run' named, or run the study again: what is complete stays."
        )
    value = read_json(study / PLAN)
    try:
        groups = tuple(tuple(map(str, group["runs"])) for group in value["groups"])
        return Plan(dict(value["runs"]), groups)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{study / PLAN} is damaged ({error!r}). Run the study again: it is written anew."
        ) from error


def run_states(study: Path, plan: Plan) -> list[RunState]:
    """Find out how far every run of a plan has come."""
    claimed = claimed_runs(study)
    return [
        RunState(name, settings, *_state(study, name, claimed))
        for name, settings in plan.runs.items()
    ]


def _state(study: Path, name: str, claimed: set[str]) -> tuple[State, str]:
    """Find out how far one run has come."""
    folder = study / name
    if (folder / "scores.parquet").is_file():
        return State.DONE, ""
    owner = owner_of(study, name) if name in claimed else None
    if owner is not None and owner.is_alive:
        return State.RUNNING, f"{owner}, last sign {owner.quiet_seconds:.0f} s ago"
    failure = failure_of(folder)
    if failure is not None:
        return State.FAILED, failure.first_line
    begun = (folder / "run.json").is_file() or owner is not None
    return State.MISSING, "begun, broken off" if begun else ""


def strangers(study: Path, planned: Container[str]) -> list[str]:
    """Name complete runs in a study's folder that its plan does not have."""
    complete = sorted(path.parent for path in study.glob("*/scores.parquet"))
    runs = [folder.name for folder in complete if (folder / "config.yaml").is_file()]
    return [name for name in runs if name not in planned]


def what_differs(one: Mapping[str, Any], planned: Sequence[Mapping[str, Any]]) -> str:
    """Say in what a run's configuration differs from the most similar one of a plan.

    Args:
        one: Of the run.
        planned: All of the plan.

    Returns:
        Dotted settings with both values; empty where they are all the same.
    """
    own = flatten(one)
    others = [flatten(other) for other in planned]
    apart = [[k for k in varying([own, o]) if k.split(".")[0] not in _PLACES] for o in others]
    least = min(range(len(others)), key=lambda index: len(apart[index]))
    return ", ".join(f"{k}: {own.get(k)}, now {others[least].get(k)}" for k in apart[least])
