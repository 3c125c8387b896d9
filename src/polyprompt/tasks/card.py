"""Task cards: a data set, its labels, fields, layout, words and metric, as one YAML file."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError, model_validator

from polyprompt.errors import ConfigError, all_faults, nearest
from polyprompt.part_settings import Settings
from polyprompt.tasks.card_parts import Columns, FileSource, HubSource, WrittenAnswers

SPLITS = ("train", "dev", "test")

Kind = Literal[
    "classification", "tagging", "choice", "language", "question_answering", "text"
]  # fmt: skip
Metric = Literal[
    "accuracy", "macro_f1", "f1", "entity_f1", "word_accuracy", "loss", "answer_f1", "exact_match",
    "span_f1",
]  # fmt: skip

_METRICS = {
    "classification": ("accuracy", "macro_f1", "f1"),
    "tagging": ("entity_f1", "word_accuracy"),
    "language": ("loss",),
    "question_answering": ("answer_f1", "exact_match"),
}


class TaskCard(Settings):
    """A task.

    Attributes:
        kind: ``classification`` of whole items; ``tagging`` of every word of the one field, whose
            column holds lists of words (in text tables: words with spaces between them), as that of
            the label holds lists of tags; ``choice`` of one of several texts, numbered from 1;
            ``language``, texts without labels whose own words are guessed; ``question_answering``,
            where the column of the label has the accepted answers as SQuAD has them, as a list, or
            as one text. ``text`` is one of another kind whose answers are written (``as_written``).
        form: Of the answers that are written.
        written: How it is asked of a model that writes.
        positive: The label whose F1 the metric ``f1`` is.
        labels: In the order in which scores are reported; the numbers of the choices.
        label_descriptions: A few English words per label, read by the similarity head.
        label_words: Per type of model (``default`` for the rest), one word per label.
        instruction: A layout without slots for decoders without a soft prompt; the label word
            follows.
        parallel: Whether one id is the same sentence in every language, so that intervals
            resample items across languages.
        ids_are_positions: Whether ids are numbers whose neighbours come from one article.
        held_out: Whether train, dev and test are parts of one split, so that items of the first two
            are left out of the test of every language.
        caution: What a table of results must say.
    """

    name: str
    title: str
    kind: Kind = "classification"
    form: Literal["labels", "entities", "answers"] | None = None
    written: WrittenAnswers | None = None
    positive: str = ""
    hub: HubSource | None = None
    local: FileSource | None = None
    shipped: FileSource | None = None
    columns: Columns
    labels: tuple[str, ...] = ()
    label_descriptions: dict[str, str] = {}
    label_words: dict[str, dict[str, str]] = {}
    layout: str = "{text}{task}"
    instruction: str = ""
    metric: Metric = "accuracy"
    languages: tuple[str, ...] = ()
    parallel: bool = False
    ids_are_positions: bool = False
    held_out: bool = False
    licence: str = ""
    citation: str = ""
    caution: str = ""

    @model_validator(mode="after")
    def _fits_together(self) -> "TaskCard":
        """Refuse repeated labels, texts for labels that do not exist, and unknown splits."""
        faults = [*_split_faults(self), *_label_faults(self), *_kind_faults(self)]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def measured_by(self) -> str:
        """The metric, with the label that it is of."""
        return f"f1:{self.positive}" if self.metric == "f1" else self.metric

    @property
    def answer_labels(self) -> tuple[str, ...]:
        """The labels that answers are made of; none where answers are texts of their own."""
        return self.labels if self.kind != "text" or self.form == "labels" else ()

    def as_written(self) -> "TaskCard":
        """Give the task as it is for a model that writes its answers.

        Raises:
            ConfigError: Answers of this kind of task are not written.
        """
        if self.kind == "text":
            return self
        if self.kind not in _WRITTEN:
            raise ConfigError(
                f"head.kind=generator: answers to the {self.kind} task '{self.name}' are not "
                "written. Take another head."
            )
        update: dict[str, Any] = {"kind": "text", "form": _WRITTEN[self.kind]}
        if self.written is not None and self.written.layout is not None:
            update["layout"] = self.written.layout
        if self.tags_words:
            update["metric"] = "span_f1"
        return self.model_copy(update=update)

    @property
    def tags_words(self) -> bool:
        """Whether every word of an item has an answer of its own."""
        return self.kind == "tagging"

    def description(self, label: str) -> str:
        """Give the words that describe a label; the label itself where the card has none."""
        return self.label_descriptions.get(label, label.replace("_", " "))

    def words_for(self, model_type: str) -> dict[str, str]:
        """Give a word per label: the model type's own, the default ones, or the labels."""
        words = self.label_words.get(model_type) or self.label_words.get("default")
        return dict(words) if words else {label: label.replace("_", " ") for label in self.labels}

    def instruction_layout(self) -> str:
        """Give the instruction, or a plain one of the fields where the card has none."""
        fields = "\n".join(f"{{{name}}}" for name in self.columns.fields)
        return self.instruction or f"{fields}\nLabel:"


_WRITTEN = {"classification": "labels", "tagging": "entities", "question_answering": "answers"}
"""Form of the answers, of kinds whose answers can be written."""


def _split_faults(card: TaskCard) -> list[str]:
    """Find splits that are unknown or missing, and parallel items without ids."""
    faults = []
    if card.parallel and card.columns.id is None:
        faults.append("parallel: true needs columns.id, which pairs the languages' items")
    for source in filter(None, (card.local, card.shipped)):
        faults += [
            f"files: there is no split '{split}'.{nearest(split, SPLITS)}"
            for split in source.files
            if split not in SPLITS
        ]
        faults += [
            f"files: the split '{split}' is missing"
            for split in ("train", "test")
            if split not in source.files
        ]
    return faults


def _kind_faults(card: TaskCard) -> list[str]:
    """Find columns and metrics that do not go with the kind of task."""
    faults = []
    if (card.kind == "language") == bool(card.columns.label):
        faults.append(
            "columns.label: names the column of the labels; texts of a language have none"
        )
    metrics = _METRICS.get(card.kind, ("accuracy", "macro_f1"))
    if card.metric not in metrics:
        faults.append(f"metric: a {card.kind} task is measured by {' or '.join(metrics)}")
    if (card.metric == "f1") != bool(card.positive):
        faults.append("positive: names the label whose F1 metric: f1 is, and nothing else")
    if card.kind == "text" or card.form is not None:
        faults.append("kind: say what the answers are; head.kind=generator has them written")
    if card.tags_words and len(card.columns.fields) != 1:
        faults.append("columns.fields: a tagging task has one field, the words of a sentence")
    if card.tags_words and any(label.split() != [label] for label in card.labels):
        faults.append("labels: a tag has no spaces in it")
    if (card.kind == "choice") != bool(card.columns.choices):
        faults.append("columns.choices: names the columns of the answers of a choice task")
    numbers = tuple(str(index) for index in range(1, len(card.labels) + 1))
    if card.kind == "choice" and card.labels != numbers:
        faults.append(f"labels: the choices are numbered, {list(numbers)}")
    return faults


def _label_faults(card: TaskCard) -> list[str]:
    """Find repeated labels, and words given for too many or too few labels."""
    faults = ["labels: a label stands there twice"] * (len(set(card.labels)) < len(card.labels))
    if card.kind in {"language", "question_answering"}:
        return [f"labels: a {card.kind} task has none"] * bool(card.labels)
    if len(card.labels) < 2:
        return ["labels: give two or more, in the order in which scores are reported"]
    named = {"positive": card.positive, "written.fallback": card.written and card.written.fallback}
    for name, label in named.items():
        if label and label not in card.labels:
            faults.append(f"{name}: there is no label '{label}'.{nearest(label, card.labels)}")
    given = {"label_descriptions": card.label_descriptions}
    given |= {f"label_words.{family}": words for family, words in card.label_words.items()}
    given |= {"written.words": card.written.words} if card.written else {}
    for name, words in given.items():
        faults += _word_faults(name, words, card.labels)
    return faults


def _word_faults(name: str, words: Mapping[str, str], labels: Sequence[str]) -> list[str]:
    """Find words for labels that there are not, and labels without one."""
    faults = [
        f"{name}: there is no label '{label}'.{nearest(label, labels)}"
        for label in words
        if label not in labels
    ]
    missing = [label for label in labels if label not in words]
    if words and missing:
        faults.append(f"{name}: nothing is given for the label '{missing[0]}'")
    return faults


def shipped_cards() -> tuple[str, ...]:
    """Name the tasks that come with the package."""
    folder = resources.files("polyprompt.tasks") / "cards"
    return tuple(
        sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))
    )


def load_card(name: str) -> TaskCard:
    """Load a task card by its shipped name or from a YAML file.

    Raises:
        ConfigError: There is no such card, or it is not as a card should be.
    """
    if name.endswith((".yaml", ".yml")):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"Cannot read the task card {name}: {error.strerror}.") from error
    elif name in shipped_cards():
        text = (resources.files("polyprompt.tasks") / "cards" / f"{name}.yaml").read_text("utf-8")
    else:
        raise ConfigError(
            f"There is no task '{name}'.{nearest(name, shipped_cards())} Shipped tasks: "
            f"{', '.join(shipped_cards())}. A task of your own is a YAML file: task=mytask.yaml"
        )
    return parse_card(text, name)


def parse_card(text: str, where: str) -> TaskCard:
    """Read a task card from YAML text.

    Raises:
        ConfigError: All that is wrong with it, each with its place.
    """
    try:
        value: Any = yaml.safe_load(text)
        return TaskCard.model_validate(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"The task card {where} is not YAML: {error}") from error
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'card'}: {fault['msg']}"
            + (
                nearest(str(fault["loc"][-1]), TaskCard.model_fields)
                if fault["type"] == "extra_forbidden"
                else ""
            )
            for fault in error.errors()
        ]
        raise ConfigError(all_faults(f"Task card {where}", faults)) from error
