"""The benchmarks run: on a tiny decoder, so that their ratios mean nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
TINY = (
    "import runpy, sys; import common; "
    "common.GEOMETRY.update(hidden_size=16, n_layer=2, n_head=2); "
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


@pytest.mark.real
@pytest.mark.parametrize(
    "command",
    [
        "train_vs_peft.py --runs 2",
        "evaluate_vs_peft.py --prompts 2 --turns 1 --dtype bfloat16",
        "encode_vs_limit.py",
        "table4_gpu.py --device cpu --geometry tiny --languages 1 --turns 1",
    ],
)
def test_a_benchmark_prints_its_ratio_last(command, real_backbone):
    name, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TINY, name, *arguments],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert float(last.rpartition("ratio ")[2]) > 0


def test_the_benchmark_of_stores_answers():
    done = subprocess.run(
        [sys.executable, "store.py", "--runs", "5", "--languages", "3", "--turns", "1"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.strip().splitlines()[-1].removeprefix("slowest ")) > 0
