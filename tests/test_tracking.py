"""TensorBoard is told of every step and score, also of what came before a study was broken off."""

import json

import pytest

from polyprompt.errors import ConfigError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.study import run_study, study_folders

tensorboard = pytest.importorskip("tensorboard")
pytestmark = pytest.mark.filterwarnings("ignore")  # tensorboard's own


def scalars(folder):
    """What TensorBoard itself reads from a run's folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder.path / "trackers" / "tensorboard"))
    reader.Reload()
    names = reader.Tags()["scalars"]
    return {name: [(one.step, one.value) for one in reader.Scalars(name)] for name in names}


@pytest.mark.parametrize("broken_off", [False, True])
def test_tensorboard_is_told_of_steps_and_scores(toy_study, broken_off):
    value = toy_study | {"trackers": ["tensorboard"], "engine": {"resume_seconds": 0}}
    study = build_study(value, "toy")
    if broken_off:
        for event in run_study(study):
            if event.stage == "read":
                break
    list(run_study(study))
    for folder in study_folders(study):
        lines = (folder.path / "steps.jsonl").read_text().splitlines()
        steps = [json.loads(line) for line in lines]
        found = scalars(folder)
        for key in ("loss", "dev_loss", "dev_accuracy", "learning_rate", "gradient_norm"):
            expected = [(one["step"], one[key]) for one in steps if one[key] is not None]
            assert [step for step, _ in found[key]] == [step for step, _ in expected]
            values = [value for _, value in expected]
            assert [value for _, value in found[key]] == pytest.approx(values, rel=1e-6)
        own = folder.scores()
        own = own.filter(own["baseline"].is_null(), metric="accuracy")
        for language, accuracy in own.select("language", "value").iter_rows():
            assert found[f"accuracy/{language}"][0][1] == pytest.approx(accuracy, rel=1e-6)
        assert found["accuracy/mean"][0][1] == pytest.approx(own["value"].mean(), rel=1e-6)


def test_trackers_are_off_by_default(toy_study):
    study = build_study(toy_study, "toy")
    list(run_study(study))
    assert not list(study.folder.glob("*/trackers"))


def test_what_is_unknown_or_not_installed_is_named_before_anything_is_computed(toy_study):
    with pytest.raises(ConfigError, match="trackers"):
        build_study(toy_study | {"trackers": ["tensorbord"]}, "toy")
    study = build_study(toy_study | {"trackers": ["swanlab"]}, "toy")
    with pytest.raises(ConfigError, match="swanlab is not installed. pip install swanlab"):
        list(run_study(study))
    assert not study.folder.exists()


def test_a_tracker_that_fails_stops_nothing(toy_study, monkeypatch):
    from accelerate.tracking import TensorBoardTracker

    def fails(*_, **__):
        raise OSError("no more room")

    monkeypatch.setattr(TensorBoardTracker, "log", fails)
    study = build_study(toy_study | {"trackers": ["tensorboard"]}, "toy")
    events = list(run_study(study))
    assert any("goes on without tensorboard: no more room" in event.note for event in events)
    assert all("accounting" in folder.record() for folder in study_folders(study))
