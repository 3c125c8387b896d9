"""Chooses a backbone's settings from an equal grid on the English dev sentences of SIB-200.

Usage: python scripts/choose_settings.py NAME FOLDER_OF_SIB200 RESULTS.jsonl   (NAME: see GRIDS)

Draws of 8 per class with seeds that no study uses (SEEDS). Every run sees its own 56 training and
14 dev examples; the 99 English dev sentences, those 14 among them, score it. A line per run is
added to RESULTS, and points that stand there are not run again; the table is printed at the end.
docs/results says how each choice was made.
"""

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import torch

from polyprompt.capabilities import BackboneSettings
from polyprompt.experiments.assemble import Group, build_group
from polyprompt.experiments.config import build_study
from polyprompt.experiments.plan import GroupPlan, plan_study
from polyprompt.models.backbone import Backbone
from polyprompt.models.load import load_backbone
from polyprompt.training.loop import fitted_head, read, train
from polyprompt.training.member import label_tensor, prompts_of

INITIAL = ["vocabulary", "descriptions", "uniform"]
GRIDS = {
    "e5": {
        "backbone": {"name": "pypi:multilingual-e5-small"},
        "layout": "{text}{task:10}",
        "grid": {
            "training.learning_rate": [0.003, 0.01, 0.03, 0.1, 0.3],
            "head.temperature": [0.01, 0.02, 0.05],
        },
    },
    "gemma": {
        "backbone": {"name": "pypi:gemma3-270m", "dtype": "bfloat16"},
        "layout": "{text}{task:10}",
        "grid": {
            "parts.task.initial": INITIAL,
            "training.learning_rate": [0.003, 0.01, 0.03],
        },
    },
    "smollm": {
        "backbone": {"name": "pypi:smollm2-135m", "dtype": "bfloat16"},
        "layout": "{text}{task:10}",
        "grid": {
            "parts.task.initial": ["vocabulary", "descriptions"],
            "training.learning_rate": [0.01, 0.03, 0.1],
        },
    },
}
SEEDS = {"e5": (100, 101, 102, 103), "gemma": (100, 101, 102), "smollm": (100, 101)}


def main() -> None:
    """Run what is missing, point by point, and print the table."""
    name, data, path = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    chosen = GRIDS[name]
    grid = chosen["grid"]
    assert isinstance(grid, dict)
    backbone: Backbone | None = None
    for point in itertools.product(*grid.values()):
        if any(row["point"] == list(point) for row in rows(path)):
            continue
        value = {
            "name": "grid",
            "task": "sib200",
            "data": data,
            "backbone": chosen["backbone"],
            "layout": chosen["layout"],
            "targets": ["eng_Latn"],
            "grid": {k: [v] for k, v in zip(grid, point, strict=True)}
            | {"seed": list(SEEDS[name])},
        }
        backbone = backbone or load_backbone(BackboneSettings.model_validate(chosen["backbone"]))
        lines = []
        for plan in plan_study(build_study(value, "grid")):
            lines += [{"point": point, **result} for result in train_and_score(plan, backbone)]
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
    print_table(list(grid), rows(path))


def train_and_score(plan: GroupPlan, backbone: Backbone) -> list[dict[str, float]]:
    """Train a group and score it on all English dev sentences."""
    group: Group = build_group(plan, backbone)
    for _ in train(group.engine, group.members):
        pass
    dev = plan.data.of("dev", ["eng_Latn"])
    inputs = group.encoder.encode(dev)
    group.engine.keep(inputs, prompts_of(group.members).shapes[0])
    labels = label_tensor(dev, inputs, plan.card.labels)
    results = []
    for run, member in zip(plan.runs, group.members, strict=True):
        scores = fitted_head(group.engine, member).scores(read(group.engine, member, inputs))
        right = float((scores.argmax(1) == labels).float().mean())
        loss = float(torch.nn.functional.cross_entropy(scores, labels))
        results.append({"seed": run.settings.seed, "accuracy": right, "loss": loss})
    return results


def rows(path: Path) -> list[dict]:
    """Read the results so far."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def print_table(keys: list[str], results: list[dict]) -> None:
    """Print one line per point of the grid."""
    print("| " + " | ".join(keys) + " | accuracy, mean (%) | per draw | dev loss |")
    print("| " + "--: | " * len(keys) + "--: | :-- | --: |")
    points = list(dict.fromkeys(tuple(row["point"]) for row in results))
    for point in points:
        own = [row for row in results if tuple(row["point"]) == point]
        rights = [100 * row["accuracy"] for row in own]
        draws = ", ".join(f"{right:.1f}" for right in rights)
        loss = np.mean([row["loss"] for row in own])
        cells = " | ".join(map(str, point))
        print(f"| {cells} | {np.mean(rights):.2f} | {draws} | {loss:.3f} |")


if __name__ == "__main__":
    main()
