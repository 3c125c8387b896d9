"""The baselines of a run: answers to the same test items from the same examples."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polyprompt.baselines.text import majority, tfidf_svm
from polyprompt.baselines.vectors import closed_form, logistic_regression
from polyprompt.experiments.assemble import Group
from polyprompt.experiments.plan import GroupPlan, RunPlan
from polyprompt.records import Example

Scores = dict[str | None, NDArray[np.float32]]


def baseline_scores(
    plan: GroupPlan,
    run: RunPlan,
    group: Group,
    examples: Sequence[Example],
    bare: NDArray[np.float32],
) -> Scores:
    """Score the test items by every baseline.

    Args:
        plan: The run's group.
        run: The run whose examples the baselines get.
        group: For the frozen vectors of the examples.
        examples: The test items.
        bare: Their vectors by the frozen backbone, N × D.

    Returns:
        N × C scores by the baseline's name.
    """
    labels = plan.card.labels
    member = group.members[plan.runs.index(run)]
    numbers = member.train_labels.numpy()
    vectors = group.engine.bare(member.train).mean.float().cpu().numpy()
    described = group.descriptions.float().cpu().numpy()
    pool = plan.data.of("train", run.settings.source) or run.draw.train
    weight = run.settings.head.prototypes.examples or 1.0
    seed = run.settings.draw_seed or 0
    texts = [_text(example) for example in examples]
    train = [_text(example) for example in run.draw.train]
    return {
        "majority": majority([labels.index(e.label) for e in pool], len(labels), len(examples)),
        "tfidf_svm": tfidf_svm(train, numbers, len(labels), texts),
        "zero_shot": closed_form(described, vectors, numbers, 0.0, bare),
        "logistic_regression": logistic_regression(vectors, numbers, None, bare, seed),
        "logistic_regression_descriptions": logistic_regression(
            vectors, numbers, described, bare, seed
        ),
        "closed_form": closed_form(described, vectors, numbers, weight, bare),
    }


def _text(example: Example) -> str:
    """Join an example's fields, for baselines that read plain text."""
    return "\n".join(example.fields.values())
