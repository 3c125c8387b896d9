"""A study that is broken off, at any moment and in any way, ends as one that is left alone."""

import random
from itertools import islice

import pytest
import torch
import yaml

from conftest import toy_settings, write_toy_task
from polyprompt.errors import StoreError
from polyprompt.experiments import checkpoint as kept
from polyprompt.experiments import kept as kept_files
from polyprompt.experiments.config import build_study
from polyprompt.experiments.study import run_study, study_folders
from studies import killed_and_resumed, left


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


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    """Keep as often as asked for, whatever writing costs."""
    monkeypatch.setattr(kept, "_SHARE", 0)


@pytest.fixture(scope="module")
def toy_task(tmp_path_factory):
    """One task for all tests of this file, which all leave the same of it."""
    return write_toy_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def whole(toy_task, tiny_folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("whole")
    value = study_of(toy_settings(toy_task, tiny_folder, place), place, "whole")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(kept, "_SHARE", 0)
        folders, events = finish(value)
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


def break_at(value, stage, behind=0):
    """Run a study until a stage has done more than some; returns it and the notes."""
    study, notes = build_study(value, "toy"), []
    for event in run_study(study):
        notes += [event.note] if event.note else []
        if event.stage == stage and event.done > behind:
            return study, notes
    raise AssertionError(f"{stage} never came to {behind}")


def frozen(toy_study, tmp_path, name, **changes):
    """One group of prompts, kept at once."""
    return study_of(toy_study, tmp_path, name, **({"arms": {}} | changes))


def notes_of(events):
    return " ".join(event.note for event in events)


@pytest.mark.parametrize("name", ["training.safetensors", "steps.jsonl", "group.json"])
def test_a_damaged_file_is_told_and_the_group_begins_anew(toy_study, tmp_path, name):
    expected = left(finish(frozen(toy_study, tmp_path, "whole", record=[]))[0])
    value = frozen(toy_study, tmp_path, "spoilt", record=[])
    study, _ = break_at(value, "read")
    path = next(study.folder.glob(f"groups/*/{name}"))
    path.write_bytes(path.read_bytes()[:10])
    folders, events = finish(value)
    assert str(path.parent) in notes_of(events)
    anew = any(event.stage == "train" and event.done == 1 for event in events)
    assert anew == ("begins anew" in notes_of(events)) == (name != "group.json")
    assert left(folders) == expected


def test_a_damaged_block_costs_its_sentences_alone(toy_study, tmp_path):
    expected = left(finish(frozen(toy_study, tmp_path, "whole"))[0])
    value = frozen(toy_study, tmp_path, "block")
    study, _ = break_at(value, "read", 30)
    blocks = sorted(study.folder.glob("groups/*/answers-*.safetensors"))
    assert len(blocks) > 2
    blocks[1].write_bytes(b"")
    folders, events = finish(value)
    assert "are read again" in notes_of(events)
    read = [event.done for event in events if event.stage == "read"]
    assert 0 < min(read) < 30
    assert not [event for event in events if event.stage == "train" and event.done < event.total]
    assert left(folders) == expected


@pytest.mark.parametrize("stage", ["train", "read"])
def test_a_path_that_is_asked_for_late_is_whole(toy_study, tmp_path, stage):
    expected = left(finish(frozen(toy_study, tmp_path, "whole"))[0])
    break_at(frozen(toy_study, tmp_path, "late", record=[]), stage, 3)
    folders, events = finish(frozen(toy_study, tmp_path, "late"))
    assert "begins anew" in notes_of(events)
    assert "prompt_path, which is to be recorded now" in notes_of(events)
    assert left(folders) == expected


def test_a_full_disk_does_not_end_what_can_go_on(toy_study, tmp_path, monkeypatch):
    """Files may not grow beyond a few bytes, so that every checkpoint fails as on a full disk."""
    resource = pytest.importorskip("resource")
    expected = left(finish(frozen(toy_study, tmp_path, "whole"))[0])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    writes = kept_files.write_tensors

    def full(*given):
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
        try:
            writes(*given)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    monkeypatch.setattr(kept_files, "write_tensors", full)
    folders, events = finish(frozen(toy_study, tmp_path, "full"))
    assert "goes on from an earlier point: Cannot write" in notes_of(events)
    assert "engine.resume_seconds=null" in notes_of(events)
    assert left(folders) == expected
    with pytest.raises(StoreError, match="Cannot write .*Free space"):
        kept_files.write_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(99)}, {})
    assert [path.name for path in tmp_path.glob("*.safetensors*")] == []


def test_answers_behind_an_end_that_could_not_be_kept_are_given_anew(
    toy_study, tmp_path, monkeypatch
):
    expected = left(finish(frozen(toy_study, tmp_path, "whole"))[0])
    writes = kept_files.write_tensors

    def full(path, tensors, values):
        if values.get("ended"):
            raise StoreError("Cannot write: the disk is full.")
        writes(path, tensors, values)

    monkeypatch.setattr(kept_files, "write_tensors", full)
    study, notes = break_at(frozen(toy_study, tmp_path, "end"), "read", 10)
    assert any("the disk is full" in note for note in notes)
    assert list(study.folder.glob("groups/*/answers-*"))
    monkeypatch.undo()
    folders, events = finish(frozen(toy_study, tmp_path, "end"))
    assert "training goes on behind step 6 of 6" in notes_of(events)
    assert "reading goes on" not in notes_of(events)
    assert left(folders) == expected


def test_less_is_computed_at_once_where_that_is_asked_for_afterwards(toy_study, tmp_path):
    value = frozen(toy_study, tmp_path, "less")
    break_at(value, "read", 10)
    less = {"tokens_per_batch": 64, "rows_per_pass": 2}
    folders, _ = finish(value | {"engine": value["engine"] | less})
    assert folders[0].record()["allowance"] == {"tokens": 64, "rows": 2}


def test_a_grid_that_grows_or_shrinks_keeps_what_was_begun(toy_study, tmp_path):
    value = frozen(toy_study, tmp_path, "grown")
    break_at(value, "read", 10)
    _, events = finish(value | {"grid": {"seed": [2, 1, 0]}})
    assert "reading goes on behind" in notes_of(events)
    assert next(e.note for e in events if "runs; cached" in e.note).startswith("2 runs")
    assert not (tmp_path / "runs" / "grown" / "groups").exists()
    value = frozen(toy_study, tmp_path, "shrunk")
    break_at(value, "read", 10)
    _, events = finish(value | {"grid": {"seed": [0]}})
    assert "its runs are not computed together now" in notes_of(events)
    folders, events = finish(value)  # the other run, in company as it was
    assert "reading goes on behind" in notes_of(events)
    assert all(folder.is_complete() for folder in folders)
    assert not (tmp_path / "runs" / "shrunk" / "groups").exists()


def test_other_circumstances_are_told_and_noted(toy_study, tmp_path):
    value = frozen(toy_study, tmp_path, "other", baselines=False)
    break_at(value, "train", 2)
    folders, events = finish(value | {"engine": value["engine"] | {"kind": "direct"}})
    changed = "engine CachedEngine, then DirectEngine"
    assert f"may differ by rounding: {changed}" in notes_of(events)
    assert folders[0].record()["resumed_under"] == [changed]


def test_costs_and_numbers_of_times_add_up(toy_study, tmp_path):
    whole = finish(frozen(toy_study, tmp_path, "whole"))[0][0].record()
    value = frozen(toy_study, tmp_path, "costs")
    break_at(value, "read", 10)
    break_at(value, "read", 25)
    record = finish(value)[0][0].record()
    assert record["resumed"] == 2
    ours, theirs = (r["group_work"]["read"]["tokens"] for r in (record, whole))
    assert theirs <= ours < 1.3 * theirs


def test_a_group_that_ended_but_for_its_folder_is_cleared_away(toy_study, tmp_path, monkeypatch):
    value = frozen(toy_study, tmp_path, "ended")
    monkeypatch.setattr(kept.Checkpoint, "remove", lambda _: None)
    folders, _ = finish(value)
    assert (folders[0].path.parent / "groups").is_dir()
    assert all("accounting" in folder.record() for folder in folders)
    monkeypatch.undo()
    finish(value)
    assert not (folders[0].path.parent / "groups").exists()


def test_what_a_killed_process_left_half_written_is_cleared_away(toy_study, tmp_path):
    value = frozen(toy_study, tmp_path, "half")
    study, _ = break_at(value, "train", 2)
    group = next(study.folder.glob("groups/*"))
    run = study.folder / study_folders(study)[0].name
    for folder in (group, run):
        (folder / ".training.safetensors.0123").write_bytes(b"half")
    for event in run_study(build_study(value, "toy")):
        if event.stage == "train":
            break
    assert not [*group.glob(".*"), *run.glob(".*")]


def test_answers_stay_while_a_complete_run_records(toy_study, tmp_path):
    folders, _ = finish(frozen(toy_study, tmp_path, "plain", record=[]))
    break_at(frozen(toy_study, tmp_path, "plain"), "train", 2)
    assert all(folder.is_complete() for folder in folders)


def test_killed_at_random_moments_it_ends_as_one_that_is_left_alone(toy_study, tmp_path, whole):
    """SIGKILL, which no program can answer."""
    value = study_of(toy_study, tmp_path, "killed")
    config = tmp_path / "killed.yaml"
    config.write_text(yaml.safe_dump(value))
    for name in killed_and_resumed(config, kills=3, seconds=1.0):
        assert left(study_folders(build_study(value | {"name": name}, "toy"))) == whole[0]


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
