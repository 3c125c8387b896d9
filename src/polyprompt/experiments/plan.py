"""What can be known of a study before a model is loaded: data, draws, layouts, engines, groups."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from polyprompt.capabilities import EngineSettings, RunSettings, VerbalizerSettings
from polyprompt.data.fewshot import Sampling, draw_examples, positions
from polyprompt.data.readers import TaskData, local_files, read_task
from polyprompt.engine.engine import Choice, choose
from polyprompt.errors import ConfigError, PolypromptError, all_faults
from polyprompt.experiments.compatibility import (
    attention_of,
    check_gap,
    check_parts,
    check_record,
    head_of,
)
from polyprompt.experiments.completion import complete
from polyprompt.experiments.config import Study
from polyprompt.fingerprint import file_sha256, fingerprint
from polyprompt.models.hub import forget
from polyprompt.models.locate import locate
from polyprompt.part_settings import Reach
from polyprompt.records import Draw, Example
from polyprompt.tasks.card import TaskCard, load_card
from polyprompt.tasks.layout import Layout, parse_layout

RESULT_FORMAT = 2
"""Changes when the same settings would give other results."""

LIVE_TOKENS_PER_GROUP = 512
_OF_A_RUN = {
    "arm", "seed", "draw_seed", "train_seed", "shots", "article_gap", "training", "head", "source",
    "source_temperature", "source_shares",
}  # fmt: skip


@dataclass(frozen=True)
class RunPlan:
    """One run, checked.

    Attributes:
        settings: With every default.
        draw: Its training and dev examples.
        layout: Parsed, with its prompt's length.
        name: Fingerprint of everything that changes the result.
        data_identity: Names the contents of the task's card and files.
    """

    settings: RunSettings
    draw: Draw
    layout: Layout
    name: str
    data_identity: str


@dataclass(frozen=True)
class GroupPlan:
    """Runs that are computed together.

    Attributes:
        card: Their task.
        data: Its examples.
        runs: In the order of the study.
        choice: Their engine, and why.
        engine: How it is to compute.
        trackers: Names of those that are told of it.
    """

    card: TaskCard
    data: TaskData
    runs: tuple[RunPlan, ...]
    choice: Choice
    engine: EngineSettings
    trackers: tuple[str, ...] = ()

    @property
    def trains_weights(self) -> bool:
        """Whether its run changes the backbone, which serves no other run then."""
        return bool(self.runs[0].settings.weight_parts)


def plan_study(study: Study) -> list[GroupPlan]:
    """Check all runs of a study and sort them into groups.

    Raises:
        PolypromptError: Anything is wrong; faults of several runs are reported together.
    """
    plans: list[RunPlan] = []
    faults: list[PolypromptError] = _cache_faults(study.settings.engine)
    forget()
    for settings in study.runs:
        try:
            plans.append(_plan_run(settings))
        except PolypromptError as error:
            faults.append(error)
    faults += _repeated(plans)
    if faults:
        messages = list(dict.fromkeys(str(fault) for fault in faults))
        kind = type(faults[0]) if len({type(f) for f in faults}) == 1 else ConfigError
        raise kind(messages[0] if len(messages) == 1 else all_faults(study.settings.name, messages))
    return list(_groups(plans, study.settings.engine))


def run_names(study: Study) -> list[str]:
    """Name a study's runs as their folders are named, in its order."""
    return [_plan_run(settings).name for settings in study.runs]


def _cache_faults(engine: EngineSettings) -> list[PolypromptError]:
    """Find out whether the folder for what does not fit into memory is there."""
    if engine.cache_folder is None or Path(engine.cache_folder).expanduser().is_dir():
        return []
    return [
        ConfigError(
            f"engine.cache_folder: there is no folder {engine.cache_folder}. Make it, or leave it "
            "out for the system's temporary folder."
        )
    ]


def _repeated(plans: Sequence[RunPlan]) -> list[PolypromptError]:
    """Find points of the grid that give one and the same run."""
    names = [plan.name for plan in plans]
    return [
        ConfigError(
            f"grid: points {names.index(name) + 1} and {index + 1} are the same run. Take one out, "
            "or let them differ, e.g. in seed."
        )
        for index, name in enumerate(names)
        if name in names[:index]
    ]


def plan_with_data(settings: RunSettings, card: TaskCard, draw: Draw, origin: str) -> RunPlan:
    """Plan a run on examples that are already in memory."""
    settings = complete(settings, card)
    return RunPlan(settings, draw, _layout(settings, card), _run_name(settings, origin), origin)


def _layout(settings: RunSettings, card: TaskCard) -> Layout:
    """Parse a run's layout and check what stands in it."""
    layout = parse_layout(
        settings.layout or card.layout,
        card.columns.fields,
        {name: part.length for name, part in settings.soft_prompts.items()},
    )
    check_parts(settings, layout, card)
    return layout


def task_of(settings: RunSettings) -> tuple[TaskCard, TaskData]:
    """Read a run's task; once for all runs that share it, as long as its files do not change."""
    card = load_card(settings.task)
    identity = _data_identity(card, settings.data)
    targets = settings.targets, settings.evaluate
    key = (settings.task, settings.data, settings.source, *targets, identity)
    return card, _read_data(*key)


@lru_cache(maxsize=16)
def _read_data(
    task: str,
    folder: str | None,
    source: tuple[str, ...],
    targets: tuple[str, ...] | None,
    evaluate: Literal["test", "dev", "both"],
    _identity: str,
) -> TaskData:
    """Read a task's examples; ``_identity`` names the contents of its card and files."""
    return read_task(load_card(task), folder, source, targets, evaluate)


def _plan_run(settings: RunSettings) -> RunPlan:
    """Read the data, draw the examples and check that everything fits together."""
    card = load_card(settings.task)
    settings = complete(settings, card)
    layout = _layout(settings, card)
    _, data = task_of(settings)
    check_gap(settings, card)
    check_record(settings, data.languages("test"))
    sampling = Sampling(
        settings.shots,
        _known(settings.draw_seed),
        settings.source_temperature,
        settings.article_gap,
        positions(data.splits["test"]) if settings.article_gap else frozenset(),
        settings.source_shares,
    )
    draw = draw_examples(data.splits["train"], data.splits["dev"], card.labels, sampling)
    identity = _data_identity(card, settings.data)
    return RunPlan(settings, draw, layout, _run_name(settings, identity), identity)


def _known(seed: int | None) -> int:
    """Take a seed that configuration has filled in."""
    assert seed is not None
    return seed


def _run_name(settings: RunSettings, data_identity: str) -> str:
    """Fingerprint everything that changes a run's result."""
    value = settings.model_dump(mode="json")
    for key in ("data", "seed", "record", "record_items"):
        del value[key]
    for place in ("device", "device_map"):
        del value["backbone"][place]
    if value["backbone"]["quantization"] is None:
        del value["backbone"]["quantization"]
    del value["arm"]
    for holder, key, default in (
        (value, "evaluate", "test"),
        (value, "source_shares", None),
        *((part, "reparameteriser", None) for part in value["parts"].values()),
    ):
        if key in holder and holder[key] == default:
            del holder[key]  # newer than results on disk, which keep their names
    paths = [p.initial.path for p in settings.soft_prompts.values() if p.initial.path]
    sums = [file_sha256(Path(path)) for path in paths]
    place = locate(settings.backbone)
    return fingerprint([value, data_identity, place.identity, sums, RESULT_FORMAT])


def _data_identity(card: TaskCard, folder: str | None) -> str:
    """Name the contents of a task's card and files."""
    files = local_files(card, folder)
    sums = {split: file_sha256(path) for split, path in files.items()}
    return fingerprint([card.model_dump(mode="json"), sums])


def _groups(plans: Sequence[RunPlan], engine: EngineSettings) -> Iterator[GroupPlan]:
    """Put runs together that share backbone, task and the places of their prompts."""
    shared: dict[str, list[RunPlan]] = {}
    for plan in plans:
        shared.setdefault(_group_key(plan), []).append(plan)
    for members in shared.values():
        start = 0
        while start < len(members):
            end, live = start, 0
            while end < len(members) and (
                end == start or live + members[end].layout.prompt_length <= LIVE_TOKENS_PER_GROUP
            ):
                live += members[end].layout.prompt_length
                end += 1
            card, _ = task_of(members[start].settings)
            data = _joined([task_of(m.settings)[1] for m in members[start:end]])
            yield make_group(members[start:end], card, data, engine)
            start = end


def _joined(read: Sequence[TaskData]) -> TaskData:
    """Join the data of runs that differ in their source languages."""
    splits = dict(read[0].splits)
    for split in ("train", "dev"):
        of_language: dict[str, tuple[Example, ...]] = {}
        for data in dict.fromkeys(map(id, read)):
            own = next(one for one in read if id(one) == data)
            of_language |= {name: own.of(split, [name]) for name in own.languages(split)}
        splits[split] = tuple(e for examples in of_language.values() for e in examples)
    return TaskData(splits, read[0].origin)


def make_group(
    runs: Sequence[RunPlan], card: TaskCard, data: TaskData, engine: EngineSettings
) -> GroupPlan:
    """Build a group and choose its engine."""
    first = runs[0]
    attention = attention_of(first.settings)
    reaches = [first.layout.reach(slot.name, attention) for slot in first.layout.slots]
    reaches += [Reach.WEIGHTS] * len(first.settings.weight_parts)
    return GroupPlan(card, data, tuple(runs), choose(engine.kind, attention, reaches), engine)


def _group_key(plan: RunPlan) -> str:
    """Name what all runs of a group have in common."""
    value: dict[str, Any] = plan.settings.model_dump(mode="json")
    for name in _OF_A_RUN:
        del value[name]
    value["parts"] = sorted(value["parts"])
    head = head_of(plan.settings)
    if isinstance(head, VerbalizerSettings):
        value["words"] = [head.words, head.leading_space, head.several_pieces]
    value["layout"] = [repr(run) for run in plan.layout.hard_runs()]
    if plan.settings.weight_parts:
        value["alone"] = plan.name
    return fingerprint(value)
