"""Fits a run's temperature on folds of its train and dev examples that were not learnt from.

The folds are trained as the run itself was, those of a frozen backbone together in one pass.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from polyprompt.capabilities import EngineSettings, RunSettings
from polyprompt.data.readers import TaskData
from polyprompt.errors import StoreError
from polyprompt.experiments.assemble import build_group
from polyprompt.experiments.events import Event
from polyprompt.experiments.fitting import folds_of
from polyprompt.experiments.naming import data_identity
from polyprompt.experiments.plan import RunPlan, make_group, plan_with_data
from polyprompt.experiments.reopen import load_trained_on, settings_of
from polyprompt.experiments.sourced import find_parts
from polyprompt.experiments.stages import train_group
from polyprompt.experiments.store import RunFolder
from polyprompt.experiments.task_data import card_of, task_of
from polyprompt.experiments.temperature import write_calibration
from polyprompt.prediction.predict import Collected, answer
from polyprompt.records import Draw, Example
from polyprompt.scoring import calibration
from polyprompt.tasks.card import TaskCard
from polyprompt.training.loop import fitted_head
from polyprompt.training.member import prompts_of


def calibrate(run: RunFolder) -> Generator[Event, None, calibration.Calibration]:
    """Fit the temperature of a study's run by cross-validation, and write it into its folder.

    Args:
        run: Complete.

    Yields:
        Progress.

    Raises:
        StoreError: Its answers are no labels of whole texts, its data are gone or changed, or it is
            a fit, which has been calibrated with its own folds.
    """
    record, settings = run.record(), settings_of(run)
    if record.get("shared"):
        raise StoreError(
            f"{run.path} was taken from the Hub, without the examples that a temperature is fitted "
            "on. Its owner can calibrate it and share it again."
        )
    if "scores_from" in record:
        raise StoreError(
            f"{run.path} is a fit: it was calibrated when it was made, by its own folds, if it had "
            "50 examples or more."
        )
    card = card_of(settings)
    if card.kind != "classification" or card.form is not None:
        raise StoreError(
            f"{run.path} gives no label to whole texts; probabilities of labels are calibrated."
        )
    if data_identity(card, settings.data) != record["data_identity"]:
        raise StoreError(
            f"The data of {run.path} are not what they were when it was made. Bring the old files "
            "back, or run again."
        )
    draw = _draw_of(run, settings)
    n = len(draw.train) + len(draw.dev)
    if n < calibration.LEAST:
        found = calibration.untouched(n)
    else:
        found = calibration.fit_temperature(*(yield from _held_out(run, settings, card, draw)))
    write_calibration(run, found)
    return found


def _held_out(
    run: RunFolder, settings: RunSettings, card: TaskCard, draw: Draw
) -> Generator[Event, None, tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Train on all but a fold of a run's examples, fold after fold; returns scores and labels."""
    examples = (*draw.train, *draw.dev)
    folds = folds_of(examples, settings.train_seed or 0)
    if folds is None:
        return np.zeros((0, len(card.labels))), np.zeros(0, dtype=np.int64)
    plans = [
        _planned(run, card, _without(draw, examples, folds == fold), f"{run.name}, {fold}")
        for fold in range(int(folds.max()) + 1)
    ]
    alone = bool(settings.weight_parts)
    together = [[plan] for plan in plans] if alone else [plans]
    scores = np.zeros((len(examples), len(card.labels)))
    for group in together:
        numbers = [plans.index(plan) for plan in group]
        answers = yield from _answered(run, group, card, examples)
        for number, own in zip(numbers, answers, strict=True):
            scores[folds == number] = own[folds == number]
    labels = np.array([card.labels.index(str(example.label)) for example in examples])
    return scores, labels


def _draw_of(run: RunFolder, settings: RunSettings) -> Draw:
    """Find the examples of a run again.

    Raises:
        StoreError: The run did not list them, because they were too many.
    """
    _, data = task_of(settings)
    known = {
        split: {f"{one.language}/{one.id}": one for one in data.splits[split]}
        for split in ("train", "dev")
    }
    record = run.record()
    listed = (record["train_ids"], record["dev_ids"])
    if (len(listed[0]), len(listed[1])) != (record["train_examples"], record["dev_examples"]):
        raise StoreError(
            f"{run.path} learnt from {record['train_examples']} examples, too many to be listed in "
            "its record, so they cannot be divided into folds. Calibrate a run of fewer shots."
        )
    dev = known["dev"] or known["train"]  # where there is no such split, dev comes from train
    return Draw(
        tuple(known["train"][name] for name in listed[0]), tuple(dev[name] for name in listed[1])
    )


def _without(draw: Draw, examples: Sequence[Example], left_out: NDArray[np.bool_]) -> Draw:
    """Leave a fold out of both splits."""
    gone = {id(example) for example, out in zip(examples, left_out, strict=True) if out}
    train, dev = ([e for e in split if id(e) not in gone] for split in (draw.train, draw.dev))
    return Draw(tuple(train), tuple(dev), "without a fold")


def _planned(run: RunFolder, card: TaskCard, draw: Draw, origin: str) -> RunPlan:
    """Plan one fold, with the frozen parts of earlier runs that the run itself had."""
    settings = settings_of(run)
    plan = plan_with_data(settings, card, draw, origin)
    if not settings.sourced:
        return plan
    parts = find_parts(settings, settings.source, run.record()["backbone_identity"])
    return replace(plan, sourced=parts)


def _answered(
    run: RunFolder, plans: Sequence[RunPlan], card: TaskCard, examples: Sequence[Example]
) -> Generator[Event, None, NDArray[np.float32]]:
    """Train some folds together and let each answer all examples; returns folds × N × C."""
    nothing = TaskData({"train": (), "dev": (), "test": ()}, "folds")
    plan = make_group(plans, card, nothing, EngineSettings())
    backbone = load_trained_on(run, plans[0].settings.backbone)
    group = build_group(plan, backbone)
    try:
        yield from train_group(group, {})
        heads = [fitted_head(group.engine, member) for member in group.members]
        inputs = group.encoder.encode(examples)
        collected = Collected(len(plans), inputs, len(card.labels), 0)
        for batch in answer(group.engine, prompts_of(group.members), heads, inputs, bare=False):
            collected.add(batch)
            yield Event("read", collected.done, len(inputs))
        return collected.scores
    finally:
        group.release()
