"""A study that is broken off, at any moment and in any way, ends as one that is left alone."""

import random
import signal
import subprocess
import sys
from itertools import islice

import pytest
import yaml

from polyprompt.errors import StoreError
from polyprompt.experiments import checkpoint as kept
from polyprompt.experiments.config import build_study
from polyprompt.experiments.study import run_study, study_folders

FILES = ("predictions.parquet", "scores.parquet", "steps.jsonl")


def study_of(toy_study, tmp_path, name, **changes):
    """Two groups – prompts, and all weights – whose every step and batch is kept at once."""
    value = toy_study | {
        "name": name,
        "output": str(tmp_path / "runs"),
        "record": ["prompt_path"],
        "engine": {"threads": 1, "resume_seconds": 0, "tokens_per_batch": 256},
        "arms": {
            "frozen": {},
            "network": {"parts.task.reparameteriser": {"kind": "mlp", "width": 8}},
            "full": {"parts.model": {"kind": "full", "save": False}, "baselines": False},
        },
    }
    return value | changes


def finish(value):
    study = build_study(value, "toy")
    events = list(run_study(study))
    return study_folders(study), events


def left(folders):
    """The bytes of everything that a run leaves."""
    found = {}
    for folder in folders:
        files = [folder.path / name for name in FILES]
        files += sorted((folder.path / "parts").iterdir()) + sorted(
            (folder.path / "recorded").iterdir()
        )
        found |= {f"{folder.name}/{path.name}": path.read_bytes() for path in files}
    return found


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    """Keep as often as asked for, whatever writing costs."""
    monkeypatch.setattr(kept, "_SHARE", 0)


@pytest.fixture
def whole(toy_study, tmp_path):
    folders, events = finish(study_of(toy_study, tmp_path, "whole"))
    return left(folders), len(events)


@pytest.mark.parametrize("seed", range(4))
def test_broken_off_anywhere_it_ends_as_one_that_is_left_alone(toy_study, tmp_path, whole, seed):
    value = study_of(toy_study, tmp_path, "broken")
    rng = random.Random(seed)
    expected, events = whole
    times, notes = 0, []
    while True:
        study = build_study(value, "toy")
        some = list(islice(run_study(study), rng.randrange(6, max(events // 2, 7))))
        notes += [event.note for event in some if event.note]
        if some[-1].stage == "done":
            break
        times += 1
        assert times < 60
    assert times > 2
    assert any("goes on behind" in note for note in notes)
    assert left(study_folders(study)) == expected
    assert not (study.folder / "groups").exists()


def test_what_was_done_is_not_done_again(toy_study, tmp_path):
    value = study_of(toy_study, tmp_path, "broken", arms={})
    study = build_study(value, "toy")
    for event in run_study(study):
        if event.stage == "read" and event.done > 20:
            break
    _, events = finish(value)
    assert not [event for event in events if event.stage == "train" and event.done < event.total]
    read = [event.done for event in events if event.stage == "read"]
    assert min(read) > 20
    record = study_folders(study)[0].record()
    assert record["resumed"] == 1
    cost = record["group_work"]["train"]["tokens"]
    at_one_go = finish(value | {"name": "whole"})[0][0].record()["group_work"]["train"]["tokens"]
    assert at_one_go < cost < 2 * at_one_go  # what came before counts; texts are encoded again


def test_runs_that_were_written_before_it_broke_off_stay(toy_study, tmp_path, whole, monkeypatch):
    value = study_of(toy_study, tmp_path, "broken")
    from polyprompt.experiments import run as module

    write, calls = module._write, []

    def fails(*given):
        calls.append(given)
        if len(calls) == 3:
            raise StoreError("Cannot write: the disk is full.")
        write(*given)

    monkeypatch.setattr(module, "_write", fails)
    with pytest.raises(StoreError, match="disk is full"):
        finish(value)
    folders = study_folders(build_study(value, "toy"))
    complete = {
        f.path: (f.path / "scores.parquet").stat().st_mtime_ns for f in folders if f.is_complete()
    }
    assert complete
    monkeypatch.setattr(module, "_write", write)
    folders, _ = finish(value)
    assert left(folders) == whole[0]
    assert all((p / "scores.parquet").stat().st_mtime_ns == t for p, t in complete.items())


def test_nothing_is_kept_where_that_is_asked_for(toy_study, tmp_path):
    engine = {"threads": 1, "resume_seconds": None}
    study = build_study(study_of(toy_study, tmp_path, "none", engine=engine), "toy")
    for event in run_study(study):
        assert not (study.folder / "groups").exists()
        if event.stage == "read":
            break


def test_a_spoilt_file_is_named(toy_study, tmp_path):
    value = study_of(toy_study, tmp_path, "spoilt")
    study = build_study(value, "toy")
    for event in run_study(study):
        if event.stage == "read":
            break
    path = next(study.folder.glob("groups/*/training.safetensors"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match=r"training\.safetensors.*Delete .* begin this group anew"):
        finish(value)


KILLED_SOON = """
import os, signal, sys, threading
from polyprompt.experiments import checkpoint
from polyprompt.experiments.config import load_study
from polyprompt.experiments.study import run_study

checkpoint._SHARE = 0
if float(sys.argv[2]):
    threading.Timer(float(sys.argv[2]), os.kill, (os.getpid(), signal.SIGKILL)).start()
for _ in run_study(load_study(sys.argv[1])):
    pass
"""


def test_killed_at_random_moments_it_ends_as_one_that_is_left_alone(toy_study, tmp_path, whole):
    """SIGKILL, which no program can answer."""
    value = study_of(toy_study, tmp_path, "killed")
    config = tmp_path / "killed.yaml"
    config.write_text(yaml.safe_dump(value))
    rng = random.Random(0)
    moments = [*(rng.uniform(0.1, 2.5) for _ in range(3)), 0]
    ends = []
    for moment in moments:
        command = [sys.executable, "-c", KILLED_SOON, str(config), str(moment)]
        ends.append(subprocess.run(command, capture_output=True, check=False).returncode)
    assert ends[0] == -signal.SIGKILL
    assert ends[-1] == 0
    assert left(study_folders(build_study(value, "toy"))) == whole[0]


def test_broken_off_while_it_records_it_goes_on_there(toy_study, tmp_path):
    value = study_of(
        toy_study, tmp_path, "inside", record=["states", "attention"], source="eng_Latn"
    )
    expected = left(finish(value | {"output": str(tmp_path / "whole")})[0])
    study = build_study(value, "toy")
    for event in run_study(study):
        if event.stage == "record" and event.done == 1:
            break
    assert all(folder.is_complete() for folder in study_folders(study)[:2])
    folders, events = finish(value)
    first = [event for event in events if event.stage in {"train", "read"}][:2]
    assert all("goes on behind" in event.note and event.done == event.total for event in first)
    assert left(folders) == expected


def test_files_have_the_rights_that_files_of_the_user_have(toy_study, tmp_path):
    (tmp_path / "plain").touch()
    folders, _ = finish(toy_study)
    for folder in folders:
        files = [path for path in folder.path.rglob("*") if path.is_file()]
        assert {path.stat().st_mode for path in files} == {(tmp_path / "plain").stat().st_mode}
