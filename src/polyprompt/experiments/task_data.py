"""The tasks of runs and their examples, read once for all that share them."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from polyprompt.capabilities import RunSettings
from polyprompt.data.readers import TaskData, read_task
from polyprompt.experiments.naming import data_identity
from polyprompt.head_settings import GeneratorSettings
from polyprompt.records import Example
from polyprompt.tasks.card import TaskCard, load_card


def card_of(settings: RunSettings) -> TaskCard:
    """Load a run's task, as it is for a model that writes where its answers are written."""
    card = load_card(settings.task)
    writes = isinstance(settings.head, GeneratorSettings) or card.kind == "question_answering"
    return card.as_written() if writes else card


def task_of(settings: RunSettings) -> tuple[TaskCard, TaskData]:
    """Read a run's task; once for all runs that share it, as long as its files do not change."""
    card = card_of(settings)
    identity = data_identity(card, settings.data)
    tested = settings.targets, settings.evaluate, settings.test_items
    shots = settings.shots if card.kind == "language" and settings.shots != "all" else None
    key = (settings.task, settings.data, settings.source, *tested, shots, identity)
    return card, _read_data(*key, is_written=card.kind == "text")


@lru_cache(maxsize=16)
def _read_data(
    task: str,
    folder: str | None,
    source: tuple[str, ...],
    targets: tuple[str, ...] | None,
    evaluate: Literal["test", "dev", "both"],
    test_items: int | None,
    shots: int | None,
    _identity: str,
    *,
    is_written: bool,
) -> TaskData:
    """Read a task's examples; ``_identity`` names the contents of its card and files."""
    card = load_card(task).as_written() if is_written else load_card(task)
    return read_task(card, folder, source, targets, evaluate, test_items, shots)


def joined(read: Sequence[TaskData]) -> TaskData:
    """Join the data of runs that differ in their source languages."""
    splits = dict(read[0].splits)
    for split in ("train", "dev"):
        of_language: dict[str, tuple[Example, ...]] = {}
        for data in dict.fromkeys(map(id, read)):
            own = next(one for one in read if id(one) == data)
            of_language |= {name: own.of(split, [name]) for name in own.languages(split)}
        splits[split] = tuple(e for examples in of_language.values() for e in examples)
    return TaskData(splits, read[0].origin)
