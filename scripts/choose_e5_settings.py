"""Chooses learning rate and temperature for E5 on the English dev sentences of SIB-200.

Usage: python scripts/choose_e5_settings.py FOLDER_OF_SIB200 > docs/results/sib200_e5_grid.md

An equal grid, four draws of 8 per class with seeds that no study uses (100–103). Every run sees
its own 56 training and 14 dev examples; the 99 English dev sentences, those 14 among them, score it
with class vectors description + 1 × class mean. docs/results/sib200_e5_grid.md says how the choice
was made.
"""

import itertools
import sys

import numpy as np
import torch

from polyprompt.capabilities import BackboneSettings
from polyprompt.engine.cached import CachedEngine
from polyprompt.experiments.assemble import build_group
from polyprompt.experiments.config import build_study
from polyprompt.experiments.plan import plan_study
from polyprompt.models.load import load_backbone
from polyprompt.training.loop import fitted_head, read, train
from polyprompt.training.member import label_tensor

RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
TEMPERATURES = (0.01, 0.02, 0.05)
SEEDS = (100, 101, 102, 103)


def main() -> None:
    """Train the grid group by group and print one line per point."""
    value = {
        "name": "grid",
        "task": "sib200",
        "data": sys.argv[1],
        "layout": "{text}{task:10}",
        "targets": ["eng_Latn"],
        "grid": {
            "training.learning_rate": list(RATES),
            "head.temperature": list(TEMPERATURES),
            "seed": list(SEEDS),
        },
    }
    backbone = load_backbone(BackboneSettings())
    results: dict[tuple[float, float], list[tuple[float, float]]] = {}
    for plan in plan_study(build_study(value, "grid")):
        group = build_group(plan, backbone)
        assert isinstance(group.engine, CachedEngine)
        for _ in train(group.engine, group.members):
            pass
        dev = plan.data.of("dev", ["eng_Latn"])
        inputs = group.encoder.encode(dev)
        labels = label_tensor([example.label for example in dev], plan.card.labels)
        for run, member in zip(plan.runs, group.members, strict=True):
            head = fitted_head(group.engine, member)
            scores = head.scores(read(group.engine, member, inputs))
            right = float((scores.argmax(1) == labels).float().mean())
            loss = float(torch.nn.functional.cross_entropy(scores, labels))
            point = (run.settings.training.learning_rate, run.settings.head.temperature)
            results.setdefault(point, []).append((right, loss))
    print("| learning rate | temperature | accuracy, mean (%) | per draw | dev loss |")
    print("| --: | --: | --: | :-- | --: |")
    for point in itertools.product(RATES, TEMPERATURES):
        rights = np.array([right for right, _ in results[point]])
        losses = [loss for _, loss in results[point]]
        draws = ", ".join(f"{100 * right:.1f}" for right in rights)
        print(
            f"| {point[0]} | {point[1]} | {100 * rights.mean():.2f} | {draws} "
            f"| {np.mean(losses):.3f} |"
        )


if __name__ == "__main__":
    main()
