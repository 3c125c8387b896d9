"""A finished run, put together again to answer with it: labels with probabilities, or texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
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
from polyprompt.prediction.predict import answer
from polyprompt.prediction.written import columns_of, written_answers
from polyprompt.records import Example

KINDS = ("classification", "text")


@dataclass(frozen=True)
class Answer:
    """An answer to one row.

    Attributes:
        prediction: A label; a text where answers are texts of their own.
        probabilities: Of the labels, in their order; empty where the answer is written.
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
        folder: Of the run.
    """

    fields: tuple[str, ...]
    labels: tuple[str, ...]
    writes: bool
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
                f"The task of {run.path} is a {kind} task; texts are answered one by one with runs "
                "of classification tasks, or of tasks whose answers are written."
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
        self.writes = self._reader is not None
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
        return Example(str(number), language, {name: row[name] for name in self.fields})

    def _scored(self, read: Asked) -> list[Answer]:
        """Score the labels."""
        scores = np.zeros((len(read.inputs), len(self.labels)), dtype=np.float32)
        for batch in answer(self._engine, self._prompts, [self._head], read.inputs, bare=False):
            scores[batch.rows] = batch.scores[0]
        found = softmax(scores, axis=1)
        return [Answer(self.labels[int(own.argmax())], tuple(own.tolist())) for own in found]

    def _written(self, read: Asked) -> list[Answer]:
        """Have answers written, and read them."""
        writing, reader = self._head.writing, self._reader
        assert writing is not None
        assert reader is not None
        table = np.zeros((1, len(read.inputs), columns_of([writing])), dtype=np.float32)
        for batch in written_answers(self._engine, self._prompts, [writing], read.inputs):
            table[:, batch.rows] = batch.scores
        scores = read.answers(table)[0]
        texts = reader.texts(scores)
        return [
            Answer(reader.answer(text), written=text, mean_log=float(row[0]))
            for text, row in zip(texts, scores, strict=True)
        ]
