"""The baselines of a run: answers to the same test items from the same examples."""

from collections.abc import Generator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from polyprompt.baselines.text import majority, tfidf_svm, word_tags
from polyprompt.baselines.vectors import closed_form, logistic_regression
from polyprompt.experiments.assemble import Group
from polyprompt.experiments.compatibility import head_of
from polyprompt.experiments.events import Event
from polyprompt.experiments.in_context import Instructed, zero_shot_choices
from polyprompt.experiments.plan import GroupPlan, RunPlan
from polyprompt.experiments.written_baselines import written_baselines
from polyprompt.head_settings import SimilaritySettings
from polyprompt.records import Example
from polyprompt.training.member import Member

_OF_FROZEN = (
    "baselines on the frozen backbone are left out, because this run trains its weights; a run "
    "with frozen weights has them"
)
_NOT_OF_FROZEN = (
    "baselines on the frozen backbone's vectors of texts are left out, because they answer whole "
    "texts with a class"
)
_WITH_PARTS = (
    "baselines on vectors read texts with the frozen parts of earlier runs, those that are asked "
    "with an instruction, and label descriptions, without"
)
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
        self._known: dict[tuple[object, ...], tuple[Scores, str]] = {}
        self._zero_shot: dict[str, NDArray[np.float32]] = {}
        asks = group.words is not None and not plan.trains_weights
        self._instructed = Instructed(plan, group, examples) if asks else None
        self._notes: dict[str, str] = {}

    def of(self, run: RunPlan) -> Generator[Event, None, Scores]:
        """Score the items by every baseline on a run's examples; N × C by the baseline's name."""
        drawn = tuple((e.language, e.id) for e in run.draw.train)
        head = _head_key(run)
        key: tuple[object, ...] = (drawn, run.settings.source, head, run.settings.draw_seed)
        if self._plan.card.kind == "language":
            return self._without_parts(run)
        if self._plan.card.kind == "text":
            key = (run.settings.source, head)  # they see no examples
            if key not in self._known:
                self._known[key] = written_baselines(self._plan, self._group, run, self._examples)
            scores, self._notes[run.name] = self._known[key]
            return scores
        if key not in self._known:
            scores, note = self._of_text(run), ""
            if self._plan.card.kind != "classification":
                note = _OF_FROZEN if self._plan.trains_weights else _NOT_OF_FROZEN
                scores |= yield from self._of_choices(run)
            elif self._plan.trains_weights:
                note = _OF_FROZEN
            else:
                of_decoder, note = yield from self._of_decoder(run)
                scores |= self._of_vectors(run) | of_decoder
            self._known[key] = scores, note
        scores, note = self._known[key]
        with_parts = _WITH_PARTS if run.sourced.files and len(scores) > 2 else ""
        self._notes[run.name] = "; ".join(filter(None, [note, with_parts]))
        return scores

    def note_of(self, run: RunPlan) -> dict[str, str]:
        """Give what has to be said of a run's baselines, for its record."""
        return {"baselines_note": self._notes.get(run.name, "")}

    @torch.no_grad()
    def _without_parts(self, run: RunPlan) -> Scores:
        """Guess the words of texts with the backbone as it is, by the head that was trained."""
        index = self._plan.runs.index(run)
        member, engine = self._group.members[index], self._group.engine
        inputs = self._group.encoder.encode(self._examples)
        with engine.backbone.attachments.left_out():
            bare = engine.bare(inputs)
            found = member.head.answers(bare, inputs)
        return {"without_parts": found.float().cpu().numpy()}

    def _of_text(self, run: RunPlan) -> Scores:
        """Fit and apply what sees no backbone."""
        if self._plan.card.tags_words:
            return self._of_words(run)
        labels = self._plan.card.labels
        pool = self._plan.data.of("train", run.settings.source) or run.draw.train
        of_pool = [labels.index(str(example.label)) for example in pool]
        texts = [_text(example) for example in self._examples]
        train = [_text(example) for example in run.draw.train]
        found: Scores = {"majority": majority(of_pool, len(labels), len(texts))}
        if self._plan.card.metric == "f1":  # which the commonest label may have none of
            positive = [labels.index(self._plan.card.positive)]
            found = {"positive": majority(positive, len(labels), len(texts))}
        if self._plan.card.kind == "classification":
            found["tfidf_svm"] = tfidf_svm(train, self._numbers(run), len(labels), texts)
        return found

    def _of_words(self, run: RunPlan) -> Scores:
        """Fit and apply what tags words without a backbone."""
        labels = self._plan.card.labels
        pairs = [
            (word, labels.index(tag))
            for example in run.draw.train
            for word, tag in zip(example.words, example.tags, strict=True)
        ]
        words = [word for example in self._examples for word in example.words]
        of_train = [tag for _, tag in pairs]
        return {
            "majority": majority(of_train, len(labels), len(words)),
            "word_tags": word_tags(pairs, len(labels), words),
        }

    def _of_choices(self, run: RunPlan) -> Generator[Event, None, Scores]:
        """Ask a decoder without training it which answer it is; nothing for other tasks."""
        if self._plan.card.kind != "choice" or self._plan.trains_weights:
            return {}
        asked = zero_shot_choices(self._plan, self._group, run, self._examples)
        return {"zero_shot_instruction": (yield from asked)}

    def _of_vectors(self, run: RunPlan) -> Scores:
        """Fit and apply what stands on the frozen backbone's vectors of texts."""
        numbers, bare, classes = self._numbers(run), self._bare, len(self._plan.card.labels)
        engine = self._group.engine
        states = engine.bare(self._member(run).train).vectors(engine.backbone.facts.pooling)
        vectors = states.float().cpu().numpy()
        seed = run.settings.draw_seed or 0
        regression = logistic_regression(vectors, numbers, None, bare, classes, seed)
        if self._group.descriptions is None:
            return {"logistic_regression": regression}
        head = head_of(run.settings)
        assert isinstance(head, SimilaritySettings)
        described = self._group.descriptions.float().cpu().numpy()
        weight = head.prototypes.examples or 1.0
        return {
            "zero_shot": closed_form(described, vectors, numbers, 0.0, bare),
            "logistic_regression": regression,
            "logistic_regression_descriptions": logistic_regression(
                vectors, numbers, described, bare, classes, seed
            ),
            "closed_form": closed_form(described, vectors, numbers, weight, bare),
        }

    def _of_decoder(self, run: RunPlan) -> Generator[Event, None, tuple[Scores, str]]:
        """Ask a decoder without training it; nothing for other backbones."""
        if self._instructed is None:
            return {}, ""
        head = _head_key(run)
        if head not in self._zero_shot:
            self._zero_shot[head] = yield from self._instructed.zero_shot(run)
        scores: Scores = {"zero_shot_instruction": self._zero_shot[head]}
        backbone = self._group.engine.backbone
        if backbone.facts.guesses_masks or backbone.start_token is not None:
            return (
                scores,
                "no in-context baseline: examples stand in front of a decoder's text alone",
            )
        if not run.settings.in_context_tokens:
            return scores, "no in-context baseline (in_context_tokens=0)"
        shown = self._instructed.demonstrations(run)
        if not shown.used:
            note = "no in-context baseline: not one example fits into in_context_tokens"
            return scores, f"{note}={run.settings.in_context_tokens}"
        scores["in_context"] = yield from self._instructed.in_context(run, shown)
        note = (
            f"in-context baseline: {shown.used} of {shown.given} examples fitted into "
            f"{len(shown.prefix)} tokens (in_context_tokens={run.settings.in_context_tokens})"
        )
        return scores, note

    def _member(self, run: RunPlan) -> Member:
        """Find a run's member of the group."""
        return self._group.members[self._plan.runs.index(run)]

    def _numbers(self, run: RunPlan) -> NDArray[np.int64]:
        """Give the classes of a run's examples."""
        return self._member(run).train_labels.numpy()


def _head_key(run: RunPlan) -> str:
    """Name what of a head changes its baselines: all but the loss."""
    return head_of(run.settings).model_dump_json(exclude={"loss"})


def _text(example: Example) -> str:
    """Join an example's fields, for baselines that read plain text."""
    return "\n".join(example.fields.values())
