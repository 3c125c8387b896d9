"""Two processes that share every step of a run take the steps that one takes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file

from polyprompt.errors import ConfigError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.study import run_study, study_folders
from polyprompt.training.peers import ALONE, Together

PROGRAM = Path(__file__).parent / "together_program.py"
PARTS = {
    "full": {"task": {"kind": "soft_prompt", "length": 3}, "model": {"kind": "full"}},
    "prompt": {"task": {"kind": "soft_prompt", "length": 3}},
}


def study_of(toy_study, name, parts, **changes):
    return (
        toy_study
        | {
            "name": name,
            "layout": "{task}{text}",
            "parts": PARTS[parts],
            "baselines": False,
            "training": {"epochs": 2, "learning_rate": 0.01, "batch_size": 5},
            "engine": {"threads": 1, "kind": "direct", "resume_seconds": 0},
            "grid": {"seed": [0]},
        }
        | changes
    )


def together(value, tmp_path, processes=2):
    path = tmp_path / f"{value['name']}.yaml"
    launch = {"kind": "together", "count": 2}
    path.write_text(yaml.safe_dump(value | {"launch": launch}))
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(PROGRAM), str(path), str(processes)],
        capture_output=True,
        text=True,
        timeout=200,
    )


def steps_of(folder):
    return [json.loads(line) for line in (folder.path / "steps.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("parts", PARTS)
def test_two_processes_take_the_steps_of_one(toy_study, tmp_path, parts):
    alone = build_study(study_of(toy_study, "alone", parts), "toy")
    list(run_study(alone))
    value = study_of(toy_study, "both", parts)
    done = together(value, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "followed" in done.stdout
    (one,), (two,) = study_folders(alone), study_folders(build_study(value, "toy"))
    assert one.name == two.name
    for expected, found in zip(steps_of(one), steps_of(two), strict=True):
        assert found["step"] == expected["step"]
        for key in ("loss", "gradient_norm", "dev_loss"):
            wanted = expected[key]
            assert found[key] == (wanted and pytest.approx(wanted, rel=1e-4, abs=1e-6))
    for path in one.path.glob("parts/*"):
        expected, found = load_file(path), load_file(two.path / "parts" / path.name)
        for name, tensor in expected.items():
            if "key.bias" in name:
                continue  # moves no answer: its gradient is rounding alone, which AdamW enlarges
            torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4)
    answers = [folder.predictions().sort("language", "id") for folder in (one, two)]
    assert answers[0]["id"].equals(answers[1]["id"])
    scores = [np.array(table["scores"].to_list()) for table in answers]
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-3, atol=1e-3)
    assert (scores[1] != 0).all()


def test_broken_off_together_it_goes_on_together(toy_study, tmp_path):
    value = study_of(toy_study, "both", "prompt")
    study = build_study(value, "toy")
    for event in run_study(study):  # begun by one process
        if event.stage == "read":
            break
    done = together(value, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "goes on behind" in done.stdout
    assert pl.read_parquet(study_folders(study)[0].path / "predictions.parquet").height == 48


def test_another_number_of_processes_is_refused(toy_study, tmp_path):
    done = together(study_of(toy_study, "both", "prompt"), tmp_path, processes=3)
    assert done.returncode != 0
    assert "needs 2 processes, and this program runs as 3" in done.stderr
    with pytest.raises(ConfigError, match="runs as 1.*torchrun --nproc-per-node 2"):
        Together(2)
    with pytest.raises(ConfigError, match="runs as 1"):
        Together(None)


def test_one_process_has_nobody_to_ask():
    assert ALONE.added([1.0]) == [1.0]
    assert ALONE.same(3) == 3
    assert ALONE.gathered(3) == [3]
    assert list(range(3))[ALONE.share] == [0, 1, 2]
