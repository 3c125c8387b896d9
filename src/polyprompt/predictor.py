"""A finished run, put together again to answer with it: labels with probabilities, or texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from scipy.special import softmax

from polyprompt.data.windows import Asked, Windowing, asked
from polyprompt.errors import DataError, StoreError, listing
from polyprompt.experiments.assemble import longest_branch
from polyprompt.experiments.compatibility import head_of
from polyprompt.experiments.encoders import build_encoder
from polyprompt.experiments.heads import reader_of
from polyprompt.experiments.reopen import (
    check_language,
    engine_for,
    layout_of,
    load_parts,
    put_sourced,
    settings_of,
)
from polyprompt.experiments.store import RunFolder, find_run
from polyprompt.head_settings import GeneratorSettings
from polyprompt.models.backbone import Backbone
from polyprompt.models.load import load_backbone, reading_settings
from polyprompt.prediction.predict import Collected, answer
from polyprompt.prediction.written import columns_of, written_answers
from polyprompt.records import Example

KINDS = ("classification", "tagging", "text")


@dataclass(frozen=True)
class Answer:
    """An answer to one row.

    Attributes:
        prediction: A label; the words' tags joined by spaces; a text where answers are texts of
            their own.
        probabilities: Of the labels, in their order; where words are tagged, of every word's tag;
            empty where the answer is written.
        written: What was written, before it was read as a label; None where labels are scored.
        mean_log: Mean log-probability of what was written (nats a piece); None as well.
    """

    prediction: str
    probabilities: tuple[float, ...] = ()
    written: str | None = None
    mean_log: float | None = None


class Predictor:
    """Answers with a finished run.

    Attributes:
        fields: The texts of a row.
        labels: In the order of the probabilities; empty where answers are texts of their own.
        writes: Whether answers are written, and have no probability per label.
        tags: Whether words are tagged, those between spaces.
        folder: Of the run.
    """

    fields: tuple[str, ...]
    labels: tuple[str, ...]
    writes: bool
    tags: bool
    folder: Path

    def __init__(self, run: RunFolder, backbone: Backbone) -> None:
        """Take settings, parts and head from a run's folder.

        Args:
            run: Complete.
            backbone: That it was trained on.

        Raises:
            StoreError: Its task has answers of another kind, or its files are broken.
        """
        settings, record = settings_of(run), run.record()
        kind = record.get("kind", "classification")
        if kind not in KINDS:
            raise StoreError(
                f"The task of {run.path} is a {kind} task; new rows are answered with runs of "
                "classification and tagging tasks, and of tasks whose answers are written."
            )
        layout = layout_of(settings, record)
        sourced = put_sourced(run, settings, backbone)
        self._run, self.folder = run, run.path
        self._head, self._prompts = load_parts(run, settings, layout, backbone)
        branches = self._head.branches
        self._engine = engine_for(settings, layout, backbone, branches)
        continued = longest_branch(branches)
        self._encoder = build_encoder(
            layout, settings, backbone, continued=continued, sourced=sourced
        )
        self.fields, self.labels = tuple(record["fields"]), tuple(record["labels"])
        head = head_of(settings)
        self._reader, self._windowing = reader_of(head, backbone), None
        self.writes, self.tags = self._reader is not None, kind == "tagging"
        if isinstance(head, GeneratorSettings) and head.stride is not None:
            self._windowing = Windowing(head.stride, lists=record["metric"] == "span_f1")

    @classmethod
    def load(cls, folder: str | Path) -> "Predictor":
        """Open a run that a study, ``polyprompt fit`` or ``Classifier.fit`` has left.

        Args:
            folder: Of a run, or of a study, whose first complete run is taken.

        Raises:
            StoreError: There is no complete run, its files are broken, or the backbone is not the
                one it was trained on.
        """
        run = find_run(Path(folder))
        backbone = load_backbone(reading_settings(settings_of(run).backbone))
        trained_on = run.record()["backbone_identity"]
        if backbone.facts.identity != trained_on:
            raise StoreError(
                f"{backbone.facts.name} is not the model that {run.path} was trained on: its files "
                f"have changed (identity {backbone.facts.identity}, then {trained_on}). Bring the "
                "old files back, or fit again."
            )
        return cls(run, backbone)

    def check_language(self, language: str) -> None:
        """Find out whether texts of a language can be read.

        Args:
            language: SIB-200 code; empty where it is not known.

        Raises:
            ConfigError: The run has parts or instructions per language, and none of this one.
        """
        check_language(self._run, language)

    def answer(
        self,
        rows: Sequence[Mapping[str, str]],
        languages: Sequence[str] = (),
        *,
        first: int = 1,
    ) -> list[Answer]:
        """Answer some rows.

        Args:
            rows: Their texts by the names of the fields.
            languages: Of the rows (SIB-200 codes), none empty where the run has parts or
                instructions per language; empty where they are not known.
            first: Number of the first row, for messages.

        Raises:
            DataError: A text is missing or empty; names its place.
            ConfigError: The run has parts or instructions per language, and none of a row's.
        """
        codes = languages or [""] * len(rows)
        for language in dict.fromkeys(codes):
            self.check_language(language)
        examples = [
            self._example(number, row, language)
            for number, (row, language) in enumerate(zip(rows, codes, strict=True), start=first)
        ]
        if not examples:
            return []
        read = asked(self._encoder, examples, self._windowing)
        return self._written(read) if self.writes else self._scored(read)

    def _example(self, number: int, row: Mapping[str, str], language: str) -> Example:
        """Check a row and make an example of it."""
        for name in self.fields:
            text = row.get(name)
            if not isinstance(text, str) or not text.strip():
                own = f"the text '{name}'" if len(self.fields) > 1 else "the text"
                raise DataError(
                    f"Row {number}: {own} is {'missing' if text is None else 'empty'}. A row has "
                    f"{listing(self.fields)}."
                )
        if self.tags:
            (name,) = self.fields
            words = row[name].split()
            return Example(str(number), language, {name: " ".join(words)}, words=tuple(words))
        return Example(str(number), language, {name: row[name] for name in self.fields})

    def _scored(self, read: Asked) -> list[Answer]:
        """Score the labels."""
        collected = Collected(1, read.inputs, len(self.labels), 0)
        for batch in answer(self._engine, self._prompts, [self._head], read.inputs, bare=False):
            collected.add(batch)
        found = softmax(collected.scores[0], axis=1)
        if not self.tags:
            return [Answer(self.labels[int(own.argmax())], tuple(own.tolist())) for own in found]
        words = [found[slice(*pair)] for pair in pairwise(collected.starts)]
        tags = [" ".join(self.labels[i] for i in own.argmax(1)) for own in words]
        sure = [tuple(own.max(1).tolist()) for own in words]
        return [Answer(*pair) for pair in zip(tags, sure, strict=True)]

    def _written(self, read: Asked) -> list[Answer]:
        """Have answers written, and read them."""
        writing, reader = self._head.writing, self._reader
        assert writing is not None
        assert reader is not None
        collected = Collected(1, read.inputs, columns_of([writing]), 0)
        for batch in written_answers(self._engine, self._prompts, [writing], read.inputs):
            collected.add(batch)
        scores = read.answers(collected.scores)[0]
        texts = reader.texts(scores)
        return [
            Answer(reader.answer(text), written=text, mean_log=float(row[0]))
            for text, row in zip(texts, scores, strict=True)
        ]
