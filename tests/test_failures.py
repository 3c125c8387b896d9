"""A run that fails is written down and does not stop the others."""

import json

import polars as pl
import pytest
from typer.testing import CliRunner

from polyprompt.cli.main import app
from polyprompt.errors import ConfigError, StoreError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.events import Event
from polyprompt.experiments.failures import FailedRunsError, failure_of
from polyprompt.experiments.launch import worker as module
from polyprompt.experiments.study import run_study, study_folders
from studies import left


def finish(value, **how):
    study = build_study(value, "toy")
    events = []
    try:
        events.extend(run_study(study, **how))
    except FailedRunsError as error:
        return study, events, str(error)
    return study, events, ""


@pytest.fixture
def breaks(monkeypatch):
    """Let the runs of some seeds break what they are computed in."""
    seeds, compute = set(), module.run_group

    def breaking(plan, *given):
        for number, event in enumerate(compute(plan, *given)):
            if number == 3 and seeds & {run.settings.seed for run in plan.runs}:
                raise ValueError("a number is not a number")
            yield event

    monkeypatch.setattr(module, "run_group", breaking)
    return seeds


def test_of_runs_that_fail_together_the_one_at_fault_is_found(toy_study, breaks):
    breaks.add(2)
    value = toy_study | {"grid": {"seed": [0, 1, 2, 3]}}
    study, events, error = finish(value)
    complete = [folder.is_complete() for folder in study_folders(study)]
    assert complete == [True, True, False, True]
    assert "1 of 4 runs failed" in error
    assert "ValueError: a number is not a number" in error
    failed = study_folders(study)[2]
    assert failure_of(failed.path).error == "ValueError: a number is not a number"
    assert "in breaking" in json.loads((failed.path / "failure.json").read_text())["traceback"]
    assert any("tried in halves" in event.note for event in events)
    assert not (study.folder / "claims").exists()


def test_failed_runs_are_tried_again_only_where_that_is_asked_for(toy_study, breaks):
    breaks.add(1)
    study, *_ = finish(toy_study)
    breaks.clear()
    _, events, error = finish(toy_study)
    assert "1 of 2 runs failed earlier" in error
    assert not any(event.stage == "train" for event in events)
    _, _, error = finish(toy_study, retry_failed=True)
    assert error == ""
    assert all(folder.is_complete() for folder in study_folders(study))
    assert failure_of(study_folders(study)[1].path) is None


def test_a_run_that_succeeds_behind_another_s_failure_is_as_it_would_be_alone(toy_study, breaks):
    breaks.add(1)
    study, *_ = finish(toy_study)
    alone = build_study(toy_study | {"name": "alone", "grid": {"seed": [0]}}, "toy")
    list(run_study(alone))
    assert left(study_folders(study)[:1]) == left(study_folders(alone))


def test_an_error_that_a_person_can_cause_and_that_all_have_is_raised_as_it_is(
    toy_study, monkeypatch
):
    def refuses(*given):
        raise ConfigError("A label word cannot be scored.")
        yield

    monkeypatch.setattr(module, "run_group", refuses)
    with pytest.raises(ConfigError, match="label word cannot be scored"):
        finish(toy_study)
    study = build_study(toy_study, "toy")
    assert not list(study.folder.glob("*/failure.json"))


def test_settings_that_do_not_fit_the_model_are_not_tried_in_halves(toy_study, monkeypatch):
    asked = []

    def refuses(plan, *given):
        asked.append(len(plan.runs))
        yield Event("plan", 0, len(plan.runs))
        raise ConfigError("A label word cannot be scored.")

    monkeypatch.setattr(module, "run_group", refuses)
    with pytest.raises(ConfigError, match="label word cannot be scored"):
        finish(toy_study | {"grid": {"seed": [0, 1, 2, 3]}})
    assert asked == [4]


def test_an_error_in_the_middle_is_looked_for_in_halves_whatever_it_is(toy_study, monkeypatch):
    compute = module.run_group

    def breaking(plan, *given):
        for event in compute(plan, *given):
            yield event
            if event.stage == "read" and 2 in {run.settings.seed for run in plan.runs}:
                raise ConfigError("Its memory is full.")

    monkeypatch.setattr(module, "run_group", breaking)
    study, _, error = finish(toy_study | {"grid": {"seed": [0, 1, 2, 3]}})
    assert "1 of 4 runs failed" in error
    assert [f.is_complete() for f in study_folders(study)] == [True, True, False, True]


def test_a_model_that_cannot_be_loaded_is_no_failed_run(toy_study, monkeypatch):
    load = module._load

    def fails(group):
        raise ConfigError("The model is not there.")

    monkeypatch.setattr(module, "_load", fails)
    with pytest.raises(ConfigError, match="model is not there"):
        finish(toy_study)
    monkeypatch.setattr(module, "_load", load)
    study, _, error = finish(toy_study)  # without --retry-failed
    assert error == ""
    assert all(folder.is_complete() for folder in study_folders(study))


def test_what_cannot_be_written_stops_all(toy_study, monkeypatch):
    def full(*given):
        raise StoreError("Cannot write: the disk is full.")
        yield

    monkeypatch.setattr(module, "run_group", full)
    value = toy_study | {"arms": {"one": {}, "two": {"layout": "{task:2}{text}"}}}
    with pytest.raises(StoreError, match="disk is full"):
        finish(value)
    study = build_study(value, "toy")
    assert not any(failure_of(folder.path) for folder in study_folders(study))


def test_the_command_shows_what_did_not_fail_and_ends_with_the_failure(toy_study, breaks, tmp_path):
    breaks.add(1)
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(toy_study))
    done = CliRunner().invoke(app, ["run", str(file)])
    assert isinstance(done.exception, FailedRunsError)
    assert "Accuracy per language" in done.stdout
    assert "1 seed" in done.stdout or "seeds" in done.stdout


def test_tables_of_a_study_with_failed_runs_have_no_strangers(toy_study, breaks, tmp_path):
    stranger = build_study(toy_study | {"grid": {"seed": [7]}}, "toy")
    list(run_study(stranger))
    breaks.add(1)
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(toy_study))
    told = CliRunner().invoke(app, ["run", str(file)])
    assert isinstance(told.exception, FailedRunsError)
    study = build_study(toy_study, "toy")
    joined = pl.read_parquet(study.folder / "scores.parquet")
    assert set(joined["run"]) == {study_folders(study)[0].name}


def test_a_failure_is_told_also_where_tables_cannot_be_made(toy_study, breaks, tmp_path):
    breaks.add(1)
    study, *_ = finish(toy_study)
    record = study_folders(study)[0].path / "run.json"
    record.write_text(record.read_text().replace("data_identity", "no_identity"))
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(toy_study))
    done = CliRunner().invoke(app, ["run", str(file), "--retry-failed"])
    assert isinstance(done.exception, FailedRunsError)
    assert "no tables: " in done.stdout


def test_memory_that_is_too_small_for_a_model_is_no_failed_run(toy_study, monkeypatch):
    def fails(group):
        raise RuntimeError("CUDA out of memory")

    load = module._load
    monkeypatch.setattr(module, "_load", fails)
    _, _, error = finish(toy_study)
    assert "CUDA out of memory" in error
    assert "in fails" in error  # its traceback is told, being written nowhere
    monkeypatch.setattr(module, "_load", load)
    assert finish(toy_study)[2] == ""
