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


class Baselines:
    """Answers of every baseline; runs that share their examples share the answers."""

    def __init__(
        self,
        plan: GroupPlan,
        group: Group,
        examples: Sequence[Example],
        bare: NDArray[np.float32],
    ) -> None:
        """Compare on some items.

        Args:
            plan: The group of runs.
            group: For the frozen vectors of their examples.
            examples: The test items.
            bare: Their vectors by the frozen backbone, N × D.
        """
        self._plan, self._group, self._examples, self._bare = plan, group, examples, bare
        self._known: dict[tuple[object, ...], Scores] = {}

    def of(self, run: RunPlan) -> Scores:
        """Score the items by every baseline on a run's examples; N × C by the baseline's name."""
        weight = run.settings.head.prototypes.examples or 1.0
        drawn = tuple((e.language, e.id) for e in run.draw.train)
        key = (drawn, run.settings.source, weight, run.settings.draw_seed)
        if key not in self._known:
            self._known[key] = self._compute(run, weight)
        return self._known[key]

    def _compute(self, run: RunPlan, weight: float) -> Scores:
        """Fit and apply the baselines."""
        labels = self._plan.card.labels
        member = self._group.members[self._plan.runs.index(run)]
        numbers = member.train_labels.numpy()
        vectors = self._group.engine.bare(member.train).mean.float().cpu().numpy()
        described = self._group.descriptions.float().cpu().numpy()
        pool = self._plan.data.of("train", run.settings.source) or run.draw.train
        of_pool = [labels.index(str(example.label)) for example in pool]
        seed = run.settings.draw_seed or 0
        texts = [_text(example) for example in self._examples]
        train = [_text(example) for example in run.draw.train]
        bare = self._bare
        return {
            "majority": majority(of_pool, len(labels), len(texts)),
            "tfidf_svm": tfidf_svm(train, numbers, len(labels), texts),
            "zero_shot": closed_form(described, vectors, numbers, 0.0, bare),
            "logistic_regression": logistic_regression(
                vectors, numbers, None, bare, len(labels), seed
            ),
            "logistic_regression_descriptions": logistic_regression(
                vectors, numbers, described, bare, len(labels), seed
            ),
            "closed_form": closed_form(described, vectors, numbers, weight, bare),
        }


def _text(example: Example) -> str:
    """Join an example's fields, for baselines that read plain text."""
    return "\n".join(example.fields.values())
