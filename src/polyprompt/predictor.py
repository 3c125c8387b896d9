"""A finished run, put together again to answer with it: labels with probabilities, or texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float

from polyprompt.data.encoding import Encoder
from polyprompt.data.windows import Asked, asked
from polyprompt.engine.engine import Engine, Prompts
from polyprompt.engine.memory import give_back
from polyprompt.errors import ConfigError, DataError, StoreError, listing
from polyprompt.experiments.assemble import longest_branch
from polyprompt.experiments.compatibility import head_of
from polyprompt.experiments.encoders import build_encoder, windowing_of
from polyprompt.experiments.heads import reader_of
from polyprompt.experiments.reopen import (
    check_language,
    engine_for,
    layout_of,
    load_parts,
    load_trained_on,
    put_sourced,
    settings_of,
)
from polyprompt.experiments.store import RunFolder, find_run
from polyprompt.experiments.temperature import calibration_of
from polyprompt.heads.head import Head
from polyprompt.models.backbone import Backbone
from polyprompt.models.load import reading_settings
from polyprompt.prediction.predict import Collected, answer
from polyprompt.prediction.written import columns_of, written_answers
from polyprompt.records import Example
from polyprompt.scoring.calibration import calibrated

MANY_ROWS = 64
"""Rows of one call behind which free memory is given back."""
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
        unread: Whether what was written is none of the labels' words: the prediction is then the
            fallback, or empty where the run has none.
    """

    prediction: str
    probabilities: tuple[float, ...] = ()
    written: str | None = None
    mean_log: float | None = None
    unread: bool = False


@dataclass(frozen=True)
class Reading:
    """How the rows of a run are read and scored.

    Attributes:
        encoder: Of its layout.
        engine: Computes states.
        prompts: Of this run alone.
        head: Scores states.
    """

    encoder: Encoder
    engine: Engine
    prompts: Prompts
    head: Head


class Predictor:
    """Answers with a finished run.

    Attributes:
        fields: The texts of a row.
        labels: In the order of the probabilities; empty where answers are texts of their own.
        writes: Whether answers are written, and have no probability per label.
        tags: Whether words are tagged, those between spaces.
        folder: Of the run.
        temperature: That scores are divided by before they become probabilities; 1 where the run
            was not calibrated.
    """

    fields: tuple[str, ...]
    labels: tuple[str, ...]
    writes: bool
    tags: bool
    folder: Path
    temperature: float

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
        self._reader = reader_of(head, backbone)
        self._windowing = windowing_of(head, record.get("form"))
        self._languages: set[str] = set()
        known = None if kind != "classification" else calibration_of(run)
        self.temperature = 1.0 if known is None else known.temperature
        self.writes, self.tags = self._reader is not None, kind == "tagging"

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
        backbone = load_trained_on(run, reading_settings(settings_of(run).backbone))
        return cls(run, backbone)

    def check_language(self, language: str) -> None:
        """Find out whether texts of a language can be read.

        Args:
            language: SIB-200 code; empty where it is not known.

        Raises:
            ConfigError: The run has parts or instructions per language, and none of this one.
        """
        if language not in self._languages:
            check_language(self._run, language)
            self._languages.add(language)

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
            DataError: A row cannot be answered; names its place and says why.
        """
        codes = list(languages) if len(languages) else [""] * len(rows)
        if len(codes) != len(rows):
            raise DataError(
                f"There are {len(rows)} rows and {len(codes)} languages; expected as many."
            )
        pairs = [*zip(rows, codes, strict=True)]
        if not pairs:
            return []
        examples = [self.example(n, *pair) for n, pair in enumerate(pairs, start=first)]
        read = asked(self._encoder, examples, self._windowing)
        found = self._written(read) if self.writes else self._scored(read)
        if len(found) >= MANY_ROWS:
            give_back()
        return found

    def fault(
        self,
        row: Mapping[str, str],
        language: str = "",
        names: Mapping[str, str] | None = None,
    ) -> str:
        """Say what is wrong with a row; nothing where it can be answered.

        Args:
            row: Its texts by the names of the fields.
            language: SIB-200 code; empty where it is not known.
            names: How the message names the fields, where it is not by their own names.
        """
        if not isinstance(row, Mapping):
            kind = type(row).__name__
            return f"it is of the type {kind}; expected a mapping of {listing(self.fields)}."
        for field in self.fields:
            named = f"the text '{(names or {}).get(field, field)}'"
            if field not in row:
                return f"{named} is missing. A row has {listing(self.fields)}."
            wrong = _text_fault(row[field])
            if wrong:
                return f"{named if len(self.fields) > 1 else 'the text'} {wrong}."
        try:
            self.check_language(language)
        except ConfigError as error:
            return str(error)
        return ""

    def example(self, number: int, row: Mapping[str, str], language: str = "") -> Example:
        """Make an example of a row.

        Raises:
            DataError: It cannot be answered; says which it is, and why.
        """
        if fault := self.fault(row, language):
            raise DataError(f"Row {number}: {fault}")
        fields = {field: row[field] for field in self.fields}
        if not self.tags:
            return Example(str(number), language, fields)
        ((field, text),) = fields.items()
        words = tuple(text.split())
        return Example(str(number), language, {field: " ".join(words)}, words=words)

    @property
    def reading(self) -> Reading:
        """How its rows are read and scored, for whoever reads rows of several runs together."""
        return Reading(self._encoder, self._engine, self._prompts, self._head)

    def _scored(self, read: Asked) -> list[Answer]:
        """Score the labels."""
        collected = Collected(1, read.inputs, len(self.labels), 0)
        for batch in answer(self._engine, self._prompts, [self._head], read.inputs, bare=False):
            collected.add(batch)
        return [
            self.labelled(collected.scores[0][slice(*pair)]) for pair in pairwise(collected.starts)
        ]

    def labelled(self, scores: Float[np.ndarray, "U C"]) -> Answer:
        """Make an answer of the scores of one row, or of every word of a row that is tagged."""
        found = calibrated(scores, self.temperature)
        if not self.tags:
            (own,) = found
            return Answer(self.labels[int(own.argmax())], tuple(own.tolist()))
        tags = " ".join(self.labels[i] for i in found.argmax(1))
        return Answer(tags, tuple(found.max(1).tolist()))

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
            Answer(
                reader.answer(text),
                written=text,
                mean_log=float(row[0]),
                unread=not reader.can_read(text),
            )
            for text, row in zip(texts, scores, strict=True)
        ]


def _text_fault(text: object) -> str:
    """Say what is wrong with a text; nothing where it can be read."""
    if not isinstance(text, str):
        return f"is of the type {type(text).__name__}; expected a string"
    if not text.strip():
        return "is empty"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "has half of a surrogate pair, which is no character"
    return ""
