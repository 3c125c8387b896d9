"""Several finished runs on one backbone: rows of different runs stand in one batch."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from polyprompt import Predictor, Predictors
from polyprompt.errors import DataError, StoreError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.study import run_study, study_folders

TEXTS = ("wave a", "rock b c d e f g h", "bus", "wave rock", "abc", "rock", "bus bus bus", "x")


def finished(settings, **changes):
    """Run a study; its first run's folder."""
    study = build_study(settings | {"grid": {}, "seed": 0} | changes, "toy")
    for _ in run_study(study):
        pass
    return study_folders(study)[0].path


@pytest.fixture
def folders(toy_study, tmp_path):
    """Runs that differ in what a run can differ in while the backbone stays as it is."""
    card = yaml.safe_load(Path(toy_study["task"]).read_text())
    card["columns"]["fields"] = {"words": "text"}
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(card))
    parts = {"deep": {"kind": "deep_prompt", "length": 2, "position": "suffix"}, "one": {}}
    return {
        "behind": finished(toy_study, name="a"),
        "long": finished(toy_study, name="b", layout="{text} about: {task:6}", seed=3),
        "two slots": finished(toy_study, name="c", layout="{one:2}{text}{two:1}",
                              parts={"one": {}, "two": {}}),
        "deep": finished(toy_study, name="d", layout="{text}{one:1}", parts=parts),
        "other field": finished(toy_study, name="e", task=str(other), layout="{words}{task:3}"),
        "classifier": finished(toy_study, name="f", head={"kind": "classifier"}),
    }  # fmt: skip


def test_rows_of_several_runs_are_answered_as_each_run_alone_does(folders):
    together = Predictors.load(folders)
    names, rows = [], []
    for number in range(30):
        name = list(folders)[number * 7 % len(folders)]
        field = "words" if name == "other field" else "text"
        names.append(name)
        rows.append({field: TEXTS[number % len(TEXTS)]})
    found = together.answer(rows, names)
    for name, folder in folders.items():
        own = [place for place, other in enumerate(names) if other == name]
        assert own
        alone = Predictor.load(folder).answer([rows[place] for place in own])
        for place, wanted in zip(own, alone, strict=True):
            assert found[place].prediction == wanted.prediction
            assert found[place].probabilities == pytest.approx(wanted.probabilities, abs=1e-5)


def test_rows_of_several_runs_are_read_in_one_pass(folders, monkeypatch):
    together = Predictors.load({name: folders[name] for name in ("behind", "long", "classifier")})
    engine = together.runs["behind"].reading.engine
    passes = []
    each = engine.each
    monkeypatch.setattr(engine, "each", lambda *args: passes.append(args[1]) or each(*args))
    together.answer([{"text": text} for text in TEXTS[:6]], ["behind", "long", "classifier"] * 2)
    assert len(passes) == 1
    assert set(passes[0]) == {0, 1, 2}


def test_what_is_wrong_with_a_row_is_said(folders):
    together = Predictors.load({"topic": folders["behind"]})
    with pytest.raises(DataError, match=r"Row 2: there is no run 'topics'. Did you mean 'topic'"):
        together.answer([{"text": "a"}, {"text": "b"}], ["topic", "topics"])
    with pytest.raises(DataError, match="Row 1: the text is empty"):
        together.answer([{"text": " "}], ["topic"])
    with pytest.raises(DataError, match="1 rows, 2 names of runs and 1 languages"):
        together.answer([{"text": "a"}], ["topic", "topic"])
    assert together.answer([], []) == []


def test_runs_that_cannot_share_a_backbone_say_why(folders, toy_study):
    adapter = finished(
        toy_study, name="g", layout="{text}", parts={"task": {"kind": "bottleneck_adapter"}}
    )
    with pytest.raises(StoreError, match="its part 'task' changes what the backbone computes"):
        Predictors.load({"topic": folders["behind"], "adapter": adapter})
    short = finished(toy_study, name="h", backbone=toy_study["backbone"] | {"max_tokens": 32})
    with pytest.raises(StoreError, match=r"backbone.max_tokens differs \(32 there, 64 here\)"):
        Predictors.load({"topic": folders["behind"], "short": short})
    with pytest.raises(StoreError, match="There are no runs"):
        Predictors.load({})


def test_many_rows_fit_into_passes_of_bounded_size(folders):
    together = Predictors.load({name: folders[name] for name in ("behind", "long")})
    together.runs["behind"].reading.engine.allowance.tokens = 40
    rows = [{"text": TEXTS[number % len(TEXTS)]} for number in range(40)]
    names = ["behind", "long"] * 20
    small = together.answer(rows, names)
    together.runs["behind"].reading.engine.allowance.tokens = 4096
    large = together.answer(rows, names)
    for one, other in zip(small, large, strict=True):
        assert np.allclose(one.probabilities, other.probabilities, atol=1e-5)
