"""A disk that fills in the middle of a study: one clear sentence, and the same command goes on."""

import subprocess
import sys

import polars as pl
import pytest
import torch
import yaml

from polyprompt.errors import StoreError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.kept import write_tensors
from polyprompt.experiments.study import run_study, study_folders
from polyprompt.tables import write_json, write_parquet
from programs import called
from studies import left

PAGE = 4096


@pytest.fixture
def disk(tmp_path):
    """A disk of a few kilobytes, which can grow."""
    place = tmp_path / "disk"
    place.mkdir()

    def resize(kilobytes):
        options = f"remount,size={kilobytes}k"
        subprocess.run(["mount", "-o", options, "tmpfs", str(place)], check=True)

    command = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount program here")
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    try:
        yield place, resize
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_whatever_writes_says_that_the_disk_is_full(disk):
    """Each library has an error of its own for it."""
    place, _ = disk
    writes = {
        "a.parquet": lambda path: write_parquet(path, pl.DataFrame({"a": range(9999)})),
        "a.json": lambda path: write_json(path, ["a" * 65536]),
        "a.safetensors": lambda path: write_tensors(path, {"a": torch.zeros(9999)}, {}),
    }
    ballast = place / "ballast"
    ballast.write_bytes(b"a" * PAGE * 4)
    with pytest.raises(StoreError, match="small.parquet: No space left on device"):
        write_parquet(place / "small.parquet", pl.DataFrame({"a": [1]}))
    for pages in range(5):  # full at once, or in the middle of a file
        ballast.write_bytes(b"a" * PAGE * pages)
        for name, write in writes.items():
            told = f"Cannot write .*{name}: .*No space left on device"
            with pytest.raises(StoreError, match=told):
                write(place / name)
    assert list(place.iterdir()) == [ballast]


def test_a_disk_that_fills_in_the_middle_ends_in_a_sentence_and_resumes(toy_study, disk, tmp_path):
    place, resize = disk
    value = toy_study | {
        "name": "full",
        "engine": {"threads": 1, "resume_seconds": 0, "tokens_per_batch": 256},
        "arms": {"behind": {}, "longer": {"layout": "{text}{task:4}"}},
        "grid": {"seed": [0, 1, 2]},
    }
    whole = build_study(value | {"output": str(tmp_path / "whole")}, "toy")
    for _ in run_study(whole):
        pass
    expected = left(study_folders(whole))
    value |= {"output": str(place)}
    path = tmp_path / "full.yaml"
    path.write_text(yaml.safe_dump(value))
    command = [sys.executable, "-m", "polyprompt.cli.main", "run", str(path)]
    complete, said = [], ""
    for attempt, size in enumerate(range(128, 1024, 32)):
        resize(size)
        if attempt % 3:
            done = called("run", str(path))
        else:  # at first, in the middle and at the end a process of its own
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        complete.append(len(list(place.glob("full/*/scores.parquet"))))
        if done.returncode == 0:
            break
        said = (done.stdout + done.stderr).strip()
        assert done.returncode == 1
        assert "Traceback" not in said
        assert "failed" not in said  # no run is at fault
        assert "No space left on device" in said.splitlines()[-1], said
        assert "Free space" in said.splitlines()[-1]
    assert done.returncode == 0, said
    assert complete == sorted(complete)
    assert set(complete) - {0, 6}, f"it should have been full with some runs complete: {complete}"
    assert left(study_folders(build_study(value, "toy"))) == expected
