"""Compares a finished study with the closed form at several weights of the class mean.

Usage: python scripts/closed_form_weights.py STUDY_FOLDER

The table of a study holds the closed form at the run's own weight; this shows that no other weight
would have been a better baseline: paired differences by seed and item, as in the table.
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl

from polyprompt.analysis.summary import summarise
from polyprompt.baselines.vectors import closed_form
from polyprompt.data.batching import token_budget_batches
from polyprompt.experiments.assemble import build_group
from polyprompt.experiments.config import Study, load_study
from polyprompt.experiments.plan import plan_study
from polyprompt.experiments.store import complete_runs
from polyprompt.models.load import load_backbone
from polyprompt.prediction.record import prediction_table
from polyprompt.report.score_tables import percent, signed

WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)


def main() -> None:
    """Read every test sentence once and print one line per weight."""
    folder = Path(sys.argv[1])
    study: Study = load_study(str(folder / "study.yaml"))
    (plan,) = plan_study(study)
    backbone = load_backbone(plan.runs[0].settings.backbone)
    group = build_group(plan, backbone)
    examples = plan.data.splits["test"]
    inputs = group.encoder.encode(examples)
    bare = np.zeros((len(inputs), backbone.facts.width), dtype=np.float32)
    for rows in token_budget_batches([e.tokens for e in inputs], 4096):
        bare[rows] = group.engine.bare([inputs[row] for row in rows]).mean.numpy()
    own = pl.col("baseline").is_null()
    tables = [run.predictions().filter(own) for run in complete_runs(folder)]
    described = group.descriptions.numpy()
    for run, member in zip(plan.runs, group.members, strict=True):
        vectors, labels = group.engine.bare(member.train).mean.numpy(), member.train_labels.numpy()
        scores = {f"a = {a}": closed_form(described, vectors, labels, a, bare) for a in WEIGHTS}
        card = plan.card
        tables.append(prediction_table(run.name, card.name, card.labels, examples, inputs, scores))
    summary = summarise(pl.concat(tables), parallel=plan.card.parallel)
    print("| closed form | its accuracy (%) | prompt minus it [95 % interval] (points) |")
    print("| :-- | --: | --: |")
    for name, difference in summary.differences.items():
        print(f"| {name} | {percent(summary.overall.baselines[name])} | {signed(difference)} |")


if __name__ == "__main__":
    main()
