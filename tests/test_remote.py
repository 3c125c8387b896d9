"""A study whose output is a store that may neither rename nor lock."""

import os
from pathlib import Path

import fsspec
import pytest

from polyprompt.errors import ConfigError, StoreError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.failures import FailedRunsError
from polyprompt.experiments.launch import worker as module
from polyprompt.experiments.remote import Store, is_url, local_folder
from polyprompt.experiments.study import run_study, study_folders
from studies import left


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYPROMPT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def memory():
    """A store in memory, empty before and after."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    yield store
    store.store.clear()


def finish(value, **how):
    study = build_study(value, "toy")
    return study, list(run_study(study, **how))


def test_folders_stay_folders():
    assert local_folder("runs") == Path("runs")
    assert not is_url("runs/some")
    assert is_url("s3://bucket/studies")
    assert local_folder("s3://bucket/studies") == local_folder("s3://bucket/studies/")


def test_a_study_in_a_store_is_put_there_scores_last_and_fetched_elsewhere(
    toy_study, memory, tmp_path, monkeypatch
):
    here, _ = finish(toy_study)
    expected = left(study_folders(here))
    order, put = [], type(memory).put_file

    def noting(self, source, target, *rest, **named):
        order.append(str(target))
        return put(self, source, target, *rest, **named)

    monkeypatch.setattr(type(memory), "put_file", noting)
    value = toy_study | {"output": "memory://studies"}
    study, _ = finish(value)
    assert left(study_folders(study)) == expected
    for folder in study_folders(study):
        own = [name for name in order if f"/{folder.name}/" in name]
        assert own[-1].endswith("scores.parquet")
        assert sum(name.endswith("scores.parquet") for name in own) == 1
    assert memory.exists("/studies/toy/plan.json")
    assert not [name for name in order if "/claims/" in name or "/groups/" in name]

    monkeypatch.setenv("POLYPROMPT_CACHE", str(tmp_path / "another machine"))
    study, events = finish(value)
    assert not [event for event in events if event.stage == "train"]
    assert any("2 runs fetched from memory://studies" in event.note for event in events)
    assert left(study_folders(study)) == expected


def test_only_what_is_new_is_put_there_again(toy_study, memory, monkeypatch):
    value = toy_study | {"output": "memory://studies"}
    study, _ = finish(value)
    store, put = Store("memory://studies"), []
    monkeypatch.setattr(store, "_put_file", put.append)
    store.put(study.folder)
    assert put
    assert {path.parent for path in put} == {study.folder}  # runs are there as they were
    put.clear()
    store.put(study.folder)
    assert put == []
    plan = study.folder / "plan.json"
    os.utime(plan, ns=(1, 1))
    store.put(study.folder)
    assert put == [plan]


def test_a_run_that_is_not_complete_is_not_put_there(toy_study, memory):
    study = build_study(toy_study | {"output": "memory://studies"}, "toy")
    for event in run_study(study):
        if event.stage == "read":
            break
    Store("memory://studies").put(study.folder)
    names = {name.rsplit("/", 1)[-1] for name in memory.find("/studies")}
    assert names == {"study.yaml", "plan.json"}


def test_what_did_not_fail_is_put_there(toy_study, memory, monkeypatch):
    compute = module.run_group

    def breaking(plan, *given):
        if any(run.settings.seed == 1 for run in plan.runs):
            raise ValueError("broken")
        yield from compute(plan, *given)

    monkeypatch.setattr(module, "run_group", breaking)
    study = build_study(toy_study | {"output": "memory://studies"}, "toy")
    with pytest.raises(FailedRunsError):
        list(run_study(study))
    assert len(memory.glob("/studies/toy/*/scores.parquet")) == 1


def test_a_store_that_cannot_be_reached_is_named(toy_study, memory, monkeypatch):
    with pytest.raises(ConfigError, match="output: cannot reach nothing://x.*fsspec"):
        Store("nothing://x")
    with pytest.raises(ConfigError, match="output: cannot reach ftp://127.0.0.1:1/x"):
        Store("ftp://127.0.0.1:1/x")
    study = build_study(toy_study | {"output": "memory://studies"}, "toy")

    def broken(*_, **__):
        raise PermissionError("no rights there")

    monkeypatch.setattr(type(memory), "put_file", broken)
    with pytest.raises(StoreError, match="Cannot write memory://studies: no rights.*same command"):
        list(run_study(study))
    monkeypatch.undo()


def test_reports_are_put_there_by_the_call_that_writes_them(toy_study, memory, tmp_path):
    import json

    from typer.testing import CliRunner

    from polyprompt.cli.main import app

    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(toy_study | {"output": "memory://studies"}))
    assert CliRunner().invoke(app, ["run", str(file)]).exit_code == 0
    names = {name.rsplit("/", 1)[-1] for name in memory.glob("/studies/toy/*")}
    assert {"report.html", "table.md", "scores.parquet"} <= names
    assert Store("memory://studies").fetch("toy") == 0
