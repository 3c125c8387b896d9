"""What is written without any training: by the backbone as it is, and always the same label."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from polyprompt.data.pieces import pieces_behind
from polyprompt.data.windows import asked
from polyprompt.engine.engine import Prompts
from polyprompt.engine.writing import Written, write
from polyprompt.experiments.assemble import Group, build_engine
from polyprompt.experiments.compatibility import head_of
from polyprompt.experiments.encoders import build_encoder, windowing_of
from polyprompt.experiments.plan import GroupPlan, RunPlan, layout_text
from polyprompt.head_settings import GeneratorSettings
from polyprompt.heads.generator import writing_of
from polyprompt.models.backbone import Backbone
from polyprompt.prediction.written import as_scores, columns_of
from polyprompt.records import Example
from polyprompt.tasks.layout import parse_layout, without_slots

Scores = dict[str | None, NDArray[np.float32]]

_OF_TRAINED = "the backbone as it is was not asked, because this run changes its weights"


def written_baselines(
    plan: GroupPlan, group: Group, run: RunPlan, examples: Sequence[Example]
) -> tuple[Scores, str]:
    """Have items answered without training.

    Args:
        plan: Of a group whose answers are written.
        group: For its backbone.
        run: For its settings.
        examples: The items.

    Returns:
        Tables of answers by the baseline's name, and what is to be said of them.
    """
    head = head_of(run.settings)
    assert isinstance(head, GeneratorSettings)
    scores: Scores = {}
    if plan.card.answer_labels:
        pool = plan.data.of("train", run.settings.source) or run.draw.train
        (label, _), *_ = Counter(str(example.label) for example in pool).most_common()
        always = "positive" if plan.card.metric == "f1" else "majority"
        label = plan.card.positive if plan.card.metric == "f1" else label
        scores[always] = _always(label, head, group.engine.backbone, len(examples))
    if not plan.asks_as_it_is:
        return scores, _OF_TRAINED
    scores["without_parts"] = _as_it_is(plan, group, run, head, examples)
    return scores, ""


@torch.no_grad()
def _as_it_is(
    plan: GroupPlan,
    group: Group,
    run: RunPlan,
    head: GeneratorSettings,
    examples: Sequence[Example],
) -> NDArray[np.float32]:
    """Have items answered by the backbone alone, asked in the run's own words."""
    backbone, fields = group.engine.backbone, plan.card.columns.fields
    bare = without_slots(layout_text(run.settings, plan.card), fields, ())
    layout = parse_layout(bare, fields).with_instructions(run.settings.instructions)
    encoder = build_encoder(layout, run.settings, backbone)
    read, writing = (
        asked(encoder, examples, windowing_of(head, plan.card.form)),
        writing_of(backbone, head),
    )
    nothing = backbone.table[:0].float().to(backbone.device)
    with backbone.attachments.left_out():
        engine = build_engine("cached", backbone, plan.engine)
        answers = write(engine, read.inputs, Prompts((nothing,), ((),)), writing)
    return read.answers(as_scores(answers, columns_of([writing]))[None])[0]


def _always(
    label: str, head: GeneratorSettings, backbone: Backbone, items: int
) -> NDArray[np.float32]:
    """Answer every item with one label."""
    words = head.words or {}
    tokenizer = backbone.tokenizer
    pieces = pieces_behind(tokenizer, f" {words[label]}")  # type: ignore[arg-type]  # transformers' class has more overloads
    row = as_scores([Written(pieces, 0.0)], columns_of([writing_of(backbone, head)]))
    return np.repeat(row, items, axis=0)
