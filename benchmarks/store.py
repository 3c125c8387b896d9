"""How long ``status``, ``scores`` and ``query`` take on a store of thousands of runs.

``python benchmarks/store.py [--runs 2000] [--languages 50]`` writes such a store – folders of runs
with their scores and those of five baselines – and times the whole commands, each in a process of
its own, so that imports count. Ends with the slowest command's median in seconds.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

BASELINES = (None, "majority", "tfidf_svm", "zero_shot", "logistic_regression", "closed_form")
METRICS = ("accuracy", "macro_f1")
SQL = (
    "select arm, avg(value) as accuracy from scores where baseline is null and metric = 'accuracy' "
    "group by arm order by arm"
)


def main() -> None:
    """Write the store, time the commands."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--languages", type=int, default=50)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="store-"))
    try:
        study = write_store(folder / "study", given.runs, given.languages)
        commands = {
            "status": ["status", str(study)],
            "scores": ["scores", str(study), "--where", "language = 'l07_Latn'"],
            "query": ["query", str(study), SQL],
        }
        print(f"{given.runs} runs × {given.languages} languages, {given.turns} turns, seconds:")
        medians = {}
        for name, arguments in commands.items():
            seconds = [timed(arguments) for _ in range(given.turns)]
            medians[name] = statistics.median(seconds)
            print(f"  {name:<8}" + "  ".join(f"{one:.2f}" for one in seconds))
        print(f"slowest {max(medians.values()):.2f}")
    finally:
        shutil.rmtree(folder)


def write_store(study: Path, runs: int, languages: int) -> Path:
    """Write a store as a study leaves it; values are made up, sizes are as they are."""
    names = [f"l{number:02d}_Latn" for number in range(languages)]
    plan = {}
    for number in range(runs):
        name = f"{number:016x}"
        plan[name] = {"arm": f"arm {number % 20}", "seed": number // 20, "shots": 8}
        run = study / name
        run.mkdir(parents=True)
        rows = [
            (name, baseline, "task", language, metric, (number * 7 + index) % 100 / 100, 204)
            for index, language in enumerate(names)
            for baseline in BASELINES
            for metric in METRICS
        ]
        columns = ["run", "baseline", "task", "language", "metric", "value", "n"]
        table = pl.DataFrame(rows, schema=columns, orient="row", infer_schema_length=None)
        table.write_parquet(run / "scores.parquet", compression="zstd")
        (run / "run.json").write_text(json.dumps({"status": "complete"}), encoding="utf-8")
    groups = [{"runs": list(plan), "engine": "cached", "reason": ""}]
    (study / "plan.json").write_text(json.dumps({"groups": groups, "runs": plan}), encoding="utf-8")
    return study


def timed(arguments: list[str]) -> float:
    """Run a command to its end; gives its seconds."""
    command = [sys.executable, "-m", "polyprompt.cli.main", *arguments]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
