"""Language parts on an mT5 that is pre-trained by span corruption: what is claimed of them holds."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "mt5_mechanisms.py"


@pytest.mark.shared
def test_parts_lower_their_loss_change_what_comes_out_and_only_they_move(sib200, tmp_path):
    done = subprocess.run(
        [
            sys.executable, "-W", "ignore", str(SCRIPT), "--data", str(sib200 / "train.parquet"),
            "--task-data", str(sib200), "--work", str(tmp_path / "work"), "--words", "1500",
            "--epochs", "4", "--texts", "300", "--part-epochs", "5",
            "--languages", "eng_Latn,swh_Latn,hin_Deva", "--pretrained-on", "eng_Latn",
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    before, after = map(float, re.findall(r"pre-training: ([\d.]+), ([\d.]+)", done.stdout)[0])
    assert after < before / 2
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if "|" in line]
    falls = [row for row in rows if row[0] in {"adapter", "prompt"} and len(row) == 6]
    assert len(falls) == 6
    adapters = [row for row in falls if row[0] == "adapter"]
    for _, _, without, own, _, others in adapters:
        assert float(own) < float(without)
        assert float(own) < float(others)
    moved = {(row[0], row[1]): row[2] for row in rows if len(row) == 4 and row[2].endswith("%")}
    assert {kind for kind, _ in moved} == {"adapter", "prompt"}
    for (_, language), share in moved.items():  # English is the source: nothing is exchanged
        assert share == ("0 %" if language == "eng_Latn" else "100 %")
    assert "before and after: the same." in done.stdout
    assert "('head.safetensors', 'task.safetensors')" in done.stdout
