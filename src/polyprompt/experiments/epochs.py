"""Scores of every language at the end of every epoch: recorded, and nothing is selected on them.

Axes: C evaluated epochs (the start and every epoch's end), L languages.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

from polyprompt.data.windows import asked
from polyprompt.experiments.assemble import Group
from polyprompt.experiments.comparison import Scores
from polyprompt.experiments.compatibility import head_of
from polyprompt.experiments.encoders import windowing_of
from polyprompt.experiments.heads import reader_of
from polyprompt.experiments.plan import GroupPlan
from polyprompt.experiments.recorded import chosen_items
from polyprompt.experiments.store import RunFolder
from polyprompt.prediction.predict import Collected
from polyprompt.prediction.record import prediction_table
from polyprompt.prediction.written import answer_columns, answers_to
from polyprompt.records import StepRecord
from polyprompt.scoring.metrics import counts_of
from polyprompt.training.loop import fitted_head
from polyprompt.training.member import Member, prompts_of


class EpochScores:
    """What one run's prompt, as it is at the end of an epoch, answers in every language."""

    name = "epochs"

    def __init__(self, plan: GroupPlan, group: Group, items: int) -> None:
        """Choose and encode test items.

        Args:
            plan: The group's.
            group: Just built.
            items: Most test items of a language.
        """
        self._group, self._card = group, plan.card
        test = plan.data.splits["test"]
        rows = chosen_items(test, items, parallel=plan.card.parallel)
        self._examples = [test[row] for row in rows]
        head = head_of(plan.runs[0].settings)
        self._asked = asked(group.encoder, self._examples, windowing_of(head, plan.card.form))
        self._reader = reader_of(head, group.engine.backbone)
        self._languages = list(dict.fromkeys(example.language for example in self._examples))
        self._places: list[tuple[float, int]] = []
        self._values: list[list[float]] = []

    def expects(self, member: Member) -> bool:  # noqa: ARG002 (scores are noted of every run)
        """Say whether something is noted of a run's start."""
        return True

    def note(self, record: StepRecord, member: Member) -> None:
        """Answer and score, if the step has ended an epoch, or the run."""
        if record.epoch % 1 and record.step != member.steps:
            return
        self._places.append((record.epoch, record.step))
        table = self._answered(member)
        values = []
        for language in self._languages:
            own = table.filter(language=language)
            values.append(counts_of(self._card.measured_by, own).value())
        self._values.append(values)

    def _answered(self, member: Member) -> pl.DataFrame:
        """Answer all items with a run's prompt as it is now."""
        engine, inputs = self._group.engine, self._asked.inputs
        heads = [fitted_head(engine, member)]
        collected = Collected(1, inputs, answer_columns(heads, self._card), 0)
        for batch in answers_to(engine, prompts_of([member]), heads, inputs, bare=False):
            collected.add(batch)
        scores: Scores = {None: self._asked.answers(collected.scores)[0]}
        items = self._asked.items
        return prediction_table("", self._card, self._examples, items, scores, self._reader)

    def arrays(self) -> dict[str, np.ndarray]:
        """Give what was noted so far, for ``take_up``."""
        if not self._places:
            return {}
        return {"places": np.array(self._places), "values": np.array(self._values)}

    def take_up(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what ``arrays`` gave."""
        places = arrays["places"].tolist() if arrays else []
        self._places = [(epoch, int(step)) for epoch, step in places]
        self._values = arrays["values"].tolist() if arrays else []

    def write(self, folder: RunFolder, member: Member) -> None:  # noqa: ARG002 (as for prompts)
        """Write a row per epoch and language."""
        counts = dict.fromkeys(self._languages, 0)
        for example in self._examples:
            counts[example.language] += 1
        rows = [
            (epoch, step, language, self._card.measured_by, value, counts[language])
            for (epoch, step), values in zip(self._places, self._values, strict=True)
            for language, value in zip(self._languages, values, strict=True)
        ]
        schema = {
            "epoch": pl.Float64, "step": pl.Int64, "language": pl.String, "metric": pl.String,
            "value": pl.Float64, "n": pl.Int64,
        }  # fmt: skip
        folder.write_epochs(pl.DataFrame(rows, schema=schema, orient="row"))
