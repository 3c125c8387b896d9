"""Fits a classifier to somebody's own examples and estimates by cross-validation how good it is."""

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from polyprompt.analysis.confidence import from_predictions
from polyprompt.capabilities import EngineSettings, RunSettings
from polyprompt.data.readers import TaskData
from polyprompt.errors import DataError
from polyprompt.experiments.assemble import Group, build_group, read_on
from polyprompt.experiments.clock import Clock
from polyprompt.experiments.comparison import Baselines, Scores
from polyprompt.experiments.events import Event
from polyprompt.experiments.plan import GroupPlan, make_group, plan_with_data
from polyprompt.experiments.recording import run_record
from polyprompt.experiments.run import write_parts
from polyprompt.experiments.stages import read_all, train_group
from polyprompt.experiments.store import RunFolder
from polyprompt.experiments.temperature import write_calibration
from polyprompt.fingerprint import fingerprint
from polyprompt.heads.head import Head
from polyprompt.models.backbone import Backbone
from polyprompt.prediction.record import prediction_table
from polyprompt.records import Draw, Example
from polyprompt.scoring.score import score_predictions
from polyprompt.seeds import generator
from polyprompt.tables import check_writable
from polyprompt.tasks.card import TaskCard
from polyprompt.tasks.card_parts import Columns
from polyprompt.training.loop import fitted_head

FOLDS = 4
MOST_VALIDATED = 1000
"""Examples that cross-validation reads at the most."""


def own_card(name: str, labels: Sequence[str], descriptions: dict[str, str]) -> TaskCard:
    """Build the card of somebody's own labels.

    Raises:
        DataError: There are fewer than two labels, or a description of none.
    """
    if len(set(labels)) < 2:
        raise DataError(
            f"There is only the label '{labels[0] if labels else ''}'; a classifier needs two "
            "or more."
        )
    for label in descriptions:
        if label not in labels:
            raise DataError(f"A description is given for '{label}', which is no label of the data.")
    names = sorted(set(labels))
    return TaskCard(
        name=name,
        title=name,
        columns=Columns(fields={"text": "text"}, label="label"),
        labels=tuple(names),
        label_descriptions={n: descriptions.get(n, n.replace("_", " ")) for n in names},
    )


def fit_examples(
    settings: RunSettings,
    card: TaskCard,
    examples: Sequence[Example],
    backbone: Backbone,
    reader: Backbone,
    folder: Path,
) -> Iterator[Event]:
    """Train on all examples, and on all but a fold of them for each of some folds, together.

    The run's predictions and scores are those of the folds on what they have not seen; with one
    example of a class there are none.

    Args:
        settings: Of the run.
        card: Of the task.
        examples: All of them.
        backbone: To train with.
        reader: The copy that reads texts once training is over; may be the same.
        folder: Of the run.

    Yields:
        Progress.
    """
    check_writable(folder)
    for note in backbone.facts.notes:
        yield Event("load", 1, 1, note)
    plan, fold_of = _plan(settings, card, examples)
    run_folder = RunFolder(folder)
    clock = Clock(backbone, reader)
    clock.enter("prepare")
    group = build_group(plan, backbone)
    note = {
        "scores_from": f"{len(plan.runs) - 1}-fold cross-validation"
        if fold_of is not None
        else "none"
    }
    config = plan.runs[0].settings.model_dump(mode="json") | {"labels": card.label_descriptions}
    run_folder.begin(config, run_record(plan, plan.runs[0], group) | note)
    clock.enter("train")
    steps = yield from train_group(group, {})
    clock.enter("read")
    group = read_on(plan, group, reader)
    heads = [fitted_head(group.engine, member) for member in group.members]
    run_folder.write_steps(steps[0])
    write_parts(run_folder, group, 0, heads[0].tensors())
    table = yield from _validate(plan, group, heads, examples, fold_of)
    clock.enter("write")
    record = run_record(plan, plan.runs[0], group) | note
    write_calibration(run_folder, from_predictions(table, card.labels))
    run_folder.finish(table, score_predictions(table), record)
    run_folder.amend(clock.record())
    yield Event("done", 1, 1)


def _plan(
    settings: RunSettings, card: TaskCard, examples: Sequence[Example]
) -> tuple[GroupPlan, NDArray[np.int64] | None]:
    """Plan the final run and one per fold; returns which fold each example is left out of."""
    origin = fingerprint([[e.fields["text"], e.label] for e in examples])
    fold_of = folds_of(examples, settings.train_seed or 0)
    draws = [Draw(tuple(examples), (), f"all {len(examples)} examples given")]
    for fold in range(0 if fold_of is None else int(fold_of.max()) + 1):
        assert fold_of is not None
        kept = tuple(e for e, f in zip(examples, fold_of, strict=True) if f != fold)
        draws.append(Draw(kept, (), f"fold {fold}"))
    data = TaskData({"train": (), "dev": (), "test": ()}, "your own examples")
    runs = [
        plan_with_data(settings, card, draw, fingerprint([origin, draw.note])) for draw in draws
    ]
    return make_group(runs, card, data, EngineSettings()), fold_of


def folds_of(examples: Sequence[Example], seed: int) -> NDArray[np.int64] | None:
    """Deal each class's examples out to the folds; None if a class has only one."""
    counts = Counter(example.label for example in examples)
    folds = min(FOLDS, *counts.values())
    if folds < 2:
        return None
    fold_of = np.zeros(len(examples), dtype=np.int64)
    offset = 0
    for label in sorted(map(str, counts)):
        where = [i for i, e in enumerate(examples) if e.label == label]
        order = generator(seed, "folds", label).permutation(len(where))
        for turn, index in enumerate(order):
            fold_of[where[index]] = (turn + offset) % folds
        offset += len(where)
    return fold_of


def _validate(
    plan: GroupPlan,
    group: Group,
    heads: Sequence[Head],
    examples: Sequence[Example],
    fold_of: NDArray[np.int64] | None,
) -> Generator[Event, None, pl.DataFrame]:
    """Let every fold's run, and its baselines, answer what it has not seen; returns the table."""
    chosen = np.arange(len(examples))
    if len(chosen) > MOST_VALIDATED:
        rng = generator(plan.runs[0].settings.train_seed or 0, "validated")
        chosen = np.sort(rng.choice(len(examples), MOST_VALIDATED, replace=False))
    if fold_of is None:
        chosen = chosen[:0]
    unseen = [examples[i] for i in chosen.tolist()]
    inputs = group.encoder.encode(unseen)
    collected = yield from read_all(plan, group, heads, inputs)
    joined: Scores = {None: np.zeros_like(collected.scores[0])}
    for index, run in enumerate(plan.runs[1:], start=1):
        rows = np.flatnonzero(_at(fold_of, chosen) == index - 1)
        if not len(rows):
            continue
        of_fold: Scores = {None: collected.scores[index][rows]}
        held_out = [unseen[i] for i in rows.tolist()]
        of_fold |= yield from Baselines(plan, group, held_out, collected.bare[rows]).of(run)
        for baseline, values in of_fold.items():
            joined.setdefault(baseline, np.zeros_like(collected.scores[0]))[rows] = values
    return prediction_table(plan.runs[0].name, plan.card, unseen, inputs, joined)


def _at(fold_of: NDArray[np.int64] | None, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the folds of some rows; none where nothing is left out."""
    return np.zeros(0, dtype=np.int64) if fold_of is None else fold_of[rows]
