"""Scores at the ends of epochs: recorded beside the run, changing nothing, and what they tell."""

import numpy as np
import polars as pl
import pytest

from polyprompt.analysis.epochs import Curve
from polyprompt.experiments.config import build_study
from polyprompt.experiments.recorded_account import recorded_tables
from polyprompt.experiments.results import gather
from polyprompt.experiments.study import run_study, study_folders


def finish(value, **changes):
    study = build_study(value | changes, "toy.yaml")
    list(run_study(study))
    return study_folders(study)


def test_scores_of_every_epoch_lie_beside_the_run_and_change_nothing_else(toy_study, tmp_path):
    last = {"epochs": 3, "learning_rate": 0.05, "batch_size": 4, "select": "last"}
    plain = finish(toy_study, training=last)
    asked = finish(
        toy_study, training=last, record="epochs", record_items=50, output=str(tmp_path / "asked")
    )
    for one, other in zip(plain, asked, strict=True):
        assert one.predictions().equals(other.predictions())
        assert one.epochs() is None
        scores = other.epochs()
        assert scores["epoch"].unique().to_list() == [0, 1, 2, 3]
        assert scores["step"].unique().to_list() == [0, 3, 6, 9]
        end = dict(scores.filter(epoch=3).select("language", "value").iter_rows())
        final = other.scores().filter(pl.col("baseline").is_null(), metric="accuracy")
        assert end == dict(final.select("language", "value").iter_rows())
        assert set(scores["n"]) == set(final["n"])


def test_what_was_noted_before_a_study_was_broken_off_is_kept(toy_study, tmp_path):
    engine = {"resume_seconds": 0}
    expected = finish(toy_study, record="epochs", engine=engine, output=str(tmp_path / "whole"))
    value = toy_study | {"record": "epochs", "engine": engine}
    study = build_study(value, "toy.yaml")
    for event in run_study(study):
        if event.stage == "train" and event.done >= 4:
            break
    for one, other in zip(finish(value), expected, strict=True):
        assert one.epochs().equals(other.epochs())
        assert one.record()["resumed"] == 1


def test_scores_that_are_asked_for_later_are_made_without_losing_answers(toy_study):
    before = finish(toy_study)
    answers = [folder.predictions() for folder in before]
    after = finish(toy_study, record=["epochs"])
    assert all(folder.epochs() is not None for folder in after)
    assert [folder.predictions().equals(one) for folder, one in zip(after, answers, strict=True)]


@pytest.fixture
def curve():
    values = np.array([[0.2, 0.1], [0.5, 0.3], [0.78, 0.5], [0.8, 0.5], [0.8, 0.5]])
    rows = [
        {"epoch": float(e), "step": 10 * e, "language": code, "value": values[e, i]}
        for e in range(5)
        for i, code in enumerate(("eng_Latn", "deu_Latn"))
    ]
    return Curve.of(pl.DataFrame(rows))


def test_curves_tell_how_soon_and_how_steadily(curve):
    assert curve.steps_to() == 20  # 0.64 of 0.65, from 0.15
    assert curve.only(["eng_Latn"]).steps_to(0.99) == 30
    assert curve.only(["deu_Latn"]).steps_to(0.5) == 10
    assert curve.final == pytest.approx(0.65)
    assert curve.wobble == pytest.approx(0.02 / 4)
    assert curve.spread == pytest.approx(np.std([0.8, 0.5], ddof=1))
    falling = Curve(curve.steps, curve.epochs, curve.languages, curve.values[::-1])
    assert falling.steps_to() == 40


def test_the_account_tabulates_epochs(toy_study):
    tables, _ = recorded_tables(gather(finish(toy_study, record=["epochs"])))
    (table,) = (one for one in tables if "ends of epochs" in one.title)
    assert table.rows[0][-1] == "2"
    assert int(table.rows[0][1]) <= int(table.rows[0][3])
