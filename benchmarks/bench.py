"""Runs every benchmark in both precisions and tabulates what each printed last.

``python benchmarks/bench.py [--only NAME] [--write FILE]``: whole outputs go to FILE as Markdown.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "train_vs_peft.py": 7.0,
    "train_vs_peft.py --runs 4": 8.5,
    "train_vs_paper.py": 17.0,
    "train_vs_paper.py --runs 4": 19.0,
    "evaluate_vs_peft.py": 2.0,
    "evaluate_vs_peft.py --prompts 24": 8.0,
    "sweep_vs_peft.py": 7.0,
    "encode_vs_limit.py": 0.85,
    "full_vs_trainer.py": 1.5,
    "growth.py": None,
}
"""What each has to reach in float32."""


def main() -> None:
    """Run them one after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="run files whose names contain this")
    parser.add_argument("--write", type=Path, help="a Markdown file for the results")
    given = parser.parse_args()
    rows, outputs = [], []
    for command, target in COMMANDS.items():
        if given.only not in command:
            continue
        ratios = []
        for dtype in ("float32", "bfloat16") if target else ("float32",):
            extra = f" --dtype {dtype}" if target else ""
            if dtype == "bfloat16" and ("vs_peft" in command or "vs_paper" in command):
                extra += " --documented-only"
            out, seconds = run(command + extra)
            print(out, f"({seconds:.0f} s)", flush=True)
            outputs.append(f"## {command}, {dtype}\n\n```\n{out}\n({seconds:.0f} s)\n```\n")
            ratios.append(out.splitlines()[-1].removeprefix("ratio "))
        rows.append([command, f"{target:g}" if target else "at most 1", *ratios, ""][:4])
    table = ["| benchmark | must reach | float32 | bfloat16 |", "|---|---|---|---|"]
    table += ["| " + " | ".join(row) + " |" for row in rows]
    print("\n".join(table))
    if given.write:
        text = [f"# Speed\n\n{machine()}\n", *table, "", *outputs]
        given.write.write_text("\n".join(text), encoding="utf-8")


def run(command: str) -> tuple[str, float]:
    """Run one file; returns what it printed and its seconds."""
    name, *arguments = command.split()
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", Path(__file__).with_name(name), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.strip(), time.perf_counter() - began


def machine() -> str:
    """Say what computed."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    python = platform.python_version()
    return f"{os.cpu_count()} cores of {name}, {platform.system()}, Python {python}."


if __name__ == "__main__":
    main()
