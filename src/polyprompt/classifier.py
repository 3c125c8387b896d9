"""The Python front door: fit a classifier to a few examples, use it in any language."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyprompt.capabilities import RunSettings
from polyprompt.errors import ConfigError, DataError, StoreError, listing, nearest
from polyprompt.experiments.compatibility import check_fit
from polyprompt.experiments.config import build_study
from polyprompt.experiments.fitting import fit_examples, own_card
from polyprompt.experiments.store import RunFolder
from polyprompt.models.backbone import Backbone
from polyprompt.models.load import load_pair
from polyprompt.predictor import Predictor
from polyprompt.records import Example

Text = str | Mapping[str, str]
ROWS_PER_READ = 256
_OF_A_FIT = (
    "backbone",
    "layout",
    "parts",
    "head",
    "training",
    "seed",
    "source",
    "in_context_tokens",
)


def fit_settings(**changes: Any) -> RunSettings:
    """Give the settings of a fit: train on everything, for a bounded number of steps.

    Args:
        changes: Settings that replace the defaults, e.g. ``backbone="pypi:…"``.

    Raises:
        ConfigError: A fit has no such setting, or its value is wrong.
    """
    unknown = [key for key in changes if key not in _OF_A_FIT]
    if unknown:
        raise ConfigError(
            f"A fit has no setting {unknown[0]}.{nearest(unknown[0], _OF_A_FIT)} It has: "
            f"{', '.join(_OF_A_FIT)}."
        )
    training: Any = changes.pop("training", {})
    if isinstance(training, Mapping):
        training = {"select": "last", "max_steps": 200} | dict(training)
    seed = changes.get("seed", 0)
    value = {
        "name": "fit",
        "task": "own",
        "source": "unknown",
        "shots": "all",
        "train_seed": seed,
        "draw_seed": seed,
        "training": training,
    }
    if not {"layout", "parts"} & changes.keys():
        value["parts"] = {"task": {"length": 10}}
    return check_fit(build_study(value | changes, "Settings").runs[0])


class Classifier:
    """Answers with one of the labels it was fitted to, in languages it has no examples of.

    Attributes:
        labels: In the order of the columns of ``predict_proba``.
        folder: The run on disk; None before ``fit``.
    """

    labels: tuple[str, ...]
    folder: Path | None

    def __init__(self, **settings: Any) -> None:
        """Prepare a classifier.

        Args:
            settings: Of a run, where they differ from the defaults: ``backbone``, ``layout``,
                ``parts``, ``head``, ``training``.
        """
        self._settings = fit_settings(**settings)
        self._loaded: tuple[Backbone, Backbone] | None = None
        self._predictor: Predictor | None = None
        self._language = ""
        self.labels, self.folder = (), None

    def fit(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        descriptions: Mapping[str, str] | None = None,
        output: str | Path | None = None,
    ) -> "Classifier":
        """Train on examples.

        Args:
            texts: In one or several languages.
            labels: One per text, two different ones at least.
            descriptions: A few words per label; the label itself where none are given.
            output: Folder for the run; a temporary one if none is given.

        Raises:
            DataError: Texts and labels do not fit together, or a text is empty.
        """
        examples = own_examples(texts, labels)
        card = own_card("own", [str(e.label) for e in examples], dict(descriptions or {}))
        folder = Path(output) if output is not None else Path(mkdtemp(prefix="polyprompt-"))
        if self._loaded is None:
            self._loaded = load_pair(self._settings.backbone)
        backbone, reader = self._loaded
        for _ in fit_examples(self._settings, card, examples, backbone, reader, folder):
            pass
        return self._open(Predictor(RunFolder(folder), reader))

    @classmethod
    def load(cls, folder: str | Path, language: str = "") -> "Classifier":
        """Open a run that ``fit``, ``polyprompt fit`` or a study has left.

        Args:
            folder: Of a run, or of a study, whose first complete run is taken.
            language: Of the texts (SIB-200 code), for a run that reads them with the parts of
                their language.

        Raises:
            StoreError: There is no complete run, or its files are broken.
            ConfigError: The run has parts per language, and none of this one.
        """
        return cls()._open(Predictor.load(folder), language)

    def predict(self, texts: Sequence[Text]) -> list[str]:
        """Answer with the most probable label of each text."""
        return [self.labels[i] for i in self.predict_proba(texts).argmax(1)]

    def predict_proba(self, texts: Sequence[Text]) -> NDArray[np.float32]:
        """Give the probability of every label for each text, N × C.

        Args:
            texts: Of a task with several fields, the texts by the fields' names.
        """
        parts = list(self.stream(texts))
        empty = np.zeros((0, len(self.labels)), dtype=np.float32)
        return np.stack(parts) if parts else empty

    def stream(self, texts: Iterable[Text]) -> Iterator[NDArray[np.float32]]:
        """Answer an endless stream in order and bounded memory.

        Yields:
            The probabilities of each text, C.

        Raises:
            StoreError: The classifier has not been fitted or loaded.
            DataError: A text is empty; names its place.
        """
        _check_list(texts, "texts")
        predictor = self._predictor
        if predictor is None:
            raise StoreError(
                "The classifier has not been fitted. Call fit or Classifier.load first."
            )
        numbered = iter(enumerate(texts, start=1))
        while rows := list(islice(numbered, ROWS_PER_READ)):
            given = [_fields(predictor, number, text) for number, text in rows]
            languages = [self._language] * len(given)
            for one in predictor.answer(given, languages, first=rows[0][0]):
                yield np.array(one.probabilities, dtype=np.float32)

    def _open(self, predictor: Predictor, language: str = "") -> "Classifier":
        """Answer with a run."""
        if predictor.writes:
            raise StoreError(
                f"{predictor.folder} writes its answers (head.kind=generator), and a classifier "
                "gives a probability per label. Take polyprompt.Predictor, or polyprompt predict."
            )
        if predictor.tags:
            raise StoreError(
                f"{predictor.folder} tags words, and a classifier gives one label per text. Take "
                "polyprompt.Predictor, or polyprompt predict."
            )
        predictor.check_language(language)
        self._predictor, self._language = predictor, language
        self.labels, self.folder = predictor.labels, predictor.folder
        return self


def _fields(predictor: Predictor, number: int, text: Text) -> Mapping[str, str]:
    """Give a row's texts by the names of the fields.

    Raises:
        DataError: It has one text where several are expected, or an empty one.
    """
    if isinstance(text, Mapping):
        return text
    if not isinstance(text, str):
        raise DataError(f"Text {number} is of the type {type(text).__name__}; expected a string.")
    if len(predictor.fields) > 1:
        raise DataError(
            f"Text {number} is one text; the task of {predictor.folder} has several a row: "
            f"expected a mapping with {listing(predictor.fields)}."
        )
    if not text.strip():
        raise DataError(f"Text {number} is empty.")
    return dict.fromkeys(predictor.fields, text)


def own_examples(
    texts: Sequence[str], labels: Sequence[str], language: str = "unknown"
) -> list[Example]:
    """Check texts and labels and make examples of them.

    Raises:
        DataError: Their numbers differ, a text or label is empty, or there are none.
    """
    _check_list(texts, "texts")
    _check_list(labels, "labels")
    texts, labels = list(texts), list(labels)
    if len(texts) != len(labels):
        raise DataError(f"There are {len(texts)} texts and {len(labels)} labels; expected as many.")
    if not texts:
        raise DataError("There are no examples.")
    for number, (text, label) in enumerate(zip(texts, labels, strict=True), start=1):
        for name, value in (("text", text), ("label", label)):
            if not isinstance(value, str):
                raise DataError(
                    f"Row {number}: the {name} is of the type {type(value).__name__}; expected a "
                    "string."
                )
            if not value.strip():
                raise DataError(f"Row {number}: the {name} is empty.")
    return [
        Example(str(number), language, {"text": text}, label)
        for number, (text, label) in enumerate(zip(texts, labels, strict=True), start=1)
    ]


def _check_list(values: object, name: str) -> None:
    """Refuse one where several are expected."""
    if isinstance(values, str | Mapping):
        what = "string" if isinstance(values, str) else "mapping"
        raise DataError(f"{name} is one {what}; expected a list of them.")
