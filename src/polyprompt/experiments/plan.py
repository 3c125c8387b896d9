"""What can be known of a study before a model is loaded: data, draws, layouts, engines, groups."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyprompt.capabilities import EngineSettings, RunSettings
from polyprompt.data.fewshot import Sampling, draw_examples, positions
from polyprompt.data.readers import TaskData
from polyprompt.engine.engine import Choice, choose
from polyprompt.errors import ConfigError, PolypromptError, all_faults
from polyprompt.experiments.compatibility import (
    attention_of,
    check_gap,
    check_parts,
    check_record,
    check_slots,
    head_of,
)
from polyprompt.experiments.completion import complete
from polyprompt.experiments.config import Study
from polyprompt.experiments.instruction_checks import check_instructions, check_languages_instructed
from polyprompt.experiments.naming import data_identity, group_key, run_name
from polyprompt.experiments.sourced import NO_SOURCED_PARTS, SourcedParts, find_parts
from polyprompt.experiments.task_data import card_of, joined, task_of
from polyprompt.models.hub import forget
from polyprompt.models.locate import locate
from polyprompt.part_settings import BottleneckAdapterSettings, Reach
from polyprompt.records import Draw
from polyprompt.tasks.card import TaskCard, load_card
from polyprompt.tasks.layout import Layout, parse_layout, without_slots

LIVE_TOKENS_PER_GROUP = 512


@dataclass(frozen=True)
class RunPlan:
    """One run, checked.

    Attributes:
        settings: With every default.
        draw: Its training and dev examples.
        layout: Parsed, with its prompt's length.
        name: Fingerprint of everything that changes the result.
        data_identity: Names the contents of the task's card and files.
        sourced: Files of its frozen parts.
    """

    settings: RunSettings
    draw: Draw
    layout: Layout
    name: str
    data_identity: str
    sourced: SourcedParts = NO_SOURCED_PARTS


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
        """Whether its run trains what the backbone computes of every token."""
        parts = self.runs[0].settings.weight_parts.values()
        return any(part.is_trained for part in parts)

    @property
    def asks_as_it_is(self) -> bool:
        """Whether a backbone that writes can be asked without its runs' parts."""
        return not (self.uses_up_backbone and self.trains_weights)

    @property
    def uses_up_backbone(self) -> bool:
        """Whether its run changes the backbone, which serves no other run then."""
        parts = self.runs[0].settings.weight_parts.values()
        return any(not isinstance(part, BottleneckAdapterSettings) for part in parts)


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
    if study.settings.search is not None and any(
        load_card(p.settings.task).kind == "language" for p in plans
    ):
        faults.append(
            ConfigError(
                "search: settings of language parts are not searched. Let a grid try them, and "
                "compare the losses of its table."
            )
        )
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
    return RunPlan(settings, draw, _layout(settings, card), run_name(settings, origin), origin)


def _layout(settings: RunSettings, card: TaskCard) -> Layout:
    """Parse a run's layout and check what stands in it."""
    check_slots(settings)
    layout = parse_layout(
        layout_text(settings, card),
        card.columns.fields,
        {name: part.length for name, part in settings.soft_prompts.items()},
    )
    check_parts(settings, layout, card)
    check_instructions(settings, layout)
    return layout.with_given(settings.sourced).with_instructions(settings.instructions)


def layout_text(settings: RunSettings, card: TaskCard) -> str:
    """Give a run's layout: its own, or the card's without slots that nothing stands in.

    Soft prompts that the card has no slot for stand in front, as paper C's language prompts do.
    """
    if settings.layout is not None:
        return settings.layout
    usual = without_slots(card.layout, card.columns.fields, settings.soft_prompts)
    named = set(re.findall(r"\{([A-Za-z_][A-Za-z0-9_-]*)", usual))
    usual = "".join(f"{{{name}}}" for name in settings.soft_prompts if name not in named) + usual
    if settings.backbone.family != "masked" or head_of(settings).kind != "verbalizer":
        return usual
    slots = "".join(f"{{{name}}}" for name in settings.soft_prompts)
    return f"{card.instruction_layout()} {{mask}}{slots}"


def _plan_run(settings: RunSettings) -> RunPlan:
    """Read the data, draw the examples and check that everything fits together."""
    card = card_of(settings)
    settings = complete(settings, card)
    layout = _layout(settings, card)
    _, data = task_of(settings)
    check_gap(settings, card)
    check_record(settings, data.languages("test"))
    check_languages_instructed(settings, data.languages("test"))
    sampling = Sampling(
        settings.shots,
        _known(settings.draw_seed),
        settings.source_temperature,
        settings.article_gap,
        positions(data.splits["test"]) if settings.article_gap else frozenset(),
        settings.source_shares,
    )
    draw = draw_examples(data.splits["train"], data.splits["dev"], card.labels, sampling)
    identity = data_identity(card, settings.data)
    languages = tuple(dict.fromkeys([*settings.source, *data.languages("test")]))
    languages += tuple(set(data.languages("dev_targets")).difference(languages))
    backbone = locate(settings.backbone).identity
    sourced = find_parts(settings, languages, backbone) if settings.sourced else NO_SOURCED_PARTS
    name = run_name(settings, identity, sourced)
    return RunPlan(settings, draw, layout, name, identity, sourced)


def _known(seed: int | None) -> int:
    """Take a seed that configuration has filled in."""
    assert seed is not None
    return seed


def _groups(plans: Sequence[RunPlan], engine: EngineSettings) -> Iterator[GroupPlan]:
    """Put runs together that share backbone, task and the places of their prompts."""
    shared: dict[str, list[RunPlan]] = {}
    for plan in plans:
        key = group_key(plan.settings, plan.layout, plan.name, plan.sourced)
        shared.setdefault(key, []).append(plan)
    for members in shared.values():
        start = 0
        while start < len(members):
            end, live = start, 0
            while end < len(members) and (
                end == start or live + _live(members[end]) <= LIVE_TOKENS_PER_GROUP
            ):
                live += _live(members[end])
                end += 1
            card, _ = task_of(members[start].settings)
            data = joined([task_of(m.settings)[1] for m in members[start:end]])
            yield make_group(members[start:end], card, data, engine)
            start = end


def _live(plan: RunPlan) -> int:
    """Count the places that a run adds to an input."""
    return plan.layout.prompt_length + plan.settings.deep_places


def make_group(
    runs: Sequence[RunPlan], card: TaskCard, data: TaskData, engine: EngineSettings
) -> GroupPlan:
    """Build a group and choose its engine."""
    first = runs[0]
    attention = attention_of(first.settings)
    reaches = reaches_of(first.settings, first.layout)
    return GroupPlan(card, data, tuple(runs), choose(engine.kind, attention, reaches), engine)


def reaches_of(settings: RunSettings, layout: Layout) -> list[Reach]:
    """Say how far each of a run's parts reaches."""
    attention = attention_of(settings)
    reaches = [layout.reach(slot.name, attention) for slot in layout.slots]
    reaches += [part.reach for part in settings.deep_prompts.values()]
    trained = [part for part in settings.weight_parts.values() if part.is_trained]
    return reaches + [Reach.WEIGHTS] * len(trained)
