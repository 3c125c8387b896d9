"""Several finished runs on one backbone: rows of different runs are answered in one batch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from polyprompt.engine.engine import Prompts
from polyprompt.errors import DataError, StoreError, listing, nearest
from polyprompt.experiments.reopen import settings_of
from polyprompt.experiments.store import RunFolder, find_run
from polyprompt.models.backbone import Backbone
from polyprompt.models.load import load_backbone, reading_settings
from polyprompt.prediction.mixed import answer_each
from polyprompt.predictor import Answer, Predictor
from polyprompt.records import Example


class Predictors:
    """Answers each row with the run that it names; the backbone is loaded once.

    A row is read with its own run's layout, prompts and head, whatever its neighbours are read
    with. Runs that change what the backbone computes (adapters, LoRA, all parameters, frozen parts
    of a language) cannot share it, and runs that write their answers are not answered here.

    Attributes:
        runs: By the names that rows give.
    """

    runs: Mapping[str, Predictor]

    def __init__(self, runs: Mapping[str, RunFolder], backbone: Backbone) -> None:
        """Take settings, parts and heads from the runs' folders.

        Args:
            runs: Complete, by the names that rows give.
            backbone: That all of them were trained on.

        Raises:
            StoreError: One of them cannot share a backbone.
        """
        for name, run in runs.items():
            _check_shared(name, run)
        self.runs = {name: Predictor(run, backbone) for name, run in runs.items()}
        for name, predictor in self.runs.items():
            if predictor.writes:
                raise StoreError(
                    f"'{name}' ({predictor.folder}) writes its answers; take a Predictor for it."
                )

    @classmethod
    def load(cls, folders: Mapping[str, str | Path]) -> "Predictors":
        """Open runs that studies, ``polyprompt fit`` or ``Classifier.fit`` have left.

        Args:
            folders: Of runs, or of studies, whose first complete run is taken; by the names that
                rows give.

        Raises:
            StoreError: There is none, or they were not trained on one backbone, read in one way.
        """
        if not folders:
            raise StoreError("There are no runs. Give one folder or more, by name.")
        runs = {name: find_run(Path(folder)) for name, folder in folders.items()}
        first, *others = runs.items()
        settings = settings_of(first[1]).backbone
        for name, run in others:
            own = settings_of(run).backbone
            apart = [key for key, value in own if value != getattr(settings, key)]
            if apart:
                values = f"{getattr(own, apart[0])} there, {getattr(settings, apart[0])} here"
                raise StoreError(
                    f"'{name}' and '{first[0]}' cannot share a backbone: backbone.{apart[0]} "
                    f"differs ({values}). Load them apart."
                )
        backbone = load_backbone(reading_settings(settings))
        for name, run in runs.items():
            if run.record()["backbone_identity"] != backbone.facts.identity:
                raise StoreError(
                    f"{backbone.facts.name} is not the model that '{name}' ({run.path}) was "
                    "trained on: its files have changed. Bring the old files back, or run again."
                )
        return cls(runs, backbone)

    def answer(
        self, rows: Sequence[Mapping[str, str]], names: Sequence[str], languages: Sequence[str] = ()
    ) -> list[Answer]:
        """Answer some rows, each with its own run.

        Args:
            rows: Their texts by the names of the fields of their run's task.
            names: Of the rows' runs.
            languages: Of the rows (SIB-200 codes); empty where they are not known.

        Raises:
            DataError: A row cannot be answered, or names no run; says which and why.
        """
        codes = _as_many(rows, names, languages)
        examples = [
            self._run_of(number, name).example(number, row, code)
            for number, (row, name, code) in enumerate(zip(rows, names, codes, strict=True), 1)
        ]
        found: dict[int, Answer] = {}
        for members in self._together():
            chosen = [place for place, name in enumerate(names) if name in members]
            if chosen:
                own = [names[place] for place in chosen]
                answers = self._answered(members, own, [examples[place] for place in chosen])
                found |= zip(chosen, answers, strict=True)
        return [found[place] for place in range(len(rows))]

    def _run_of(self, number: int, name: str) -> Predictor:
        """Find the run that a row names.

        Raises:
            DataError: There is none.
        """
        if name not in self.runs:
            raise DataError(
                f"Row {number}: there is no run '{name}'.{nearest(name, self.runs)} There are: "
                f"{listing(sorted(self.runs))}."
            )
        return self.runs[name]

    def _answered(
        self, members: Sequence[str], names: Sequence[str], examples: Sequence[Example]
    ) -> list[Answer]:
        """Answer rows of runs that one engine reads, in passes that hold rows of all of them."""
        readings = [self.runs[name].reading for name in members]
        inputs = [
            self.runs[name].reading.encoder.encode([example])[0]
            for name, example in zip(names, examples, strict=True)
        ]
        prompts = _joined([one.prompts for one in readings])
        heads, runs = [one.head for one in readings], [members.index(name) for name in names]
        scores = answer_each(readings[0].engine, prompts, heads, inputs, runs)
        pairs = zip(names, scores, strict=True)
        return [self.runs[name].labelled(own) for name, own in pairs]

    def _together(self) -> list[list[str]]:
        """Sort runs into those that one engine reads: of one kind, with the same continuations."""
        groups: dict[tuple[type, tuple[tuple[int, ...], ...]], list[str]] = {}
        for name, predictor in self.runs.items():
            engine = predictor.reading.engine
            groups.setdefault((type(engine), engine.branches), []).append(name)
        return list(groups.values())


def _as_many(rows: Sequence[object], names: Sequence[str], languages: Sequence[str]) -> list[str]:
    """Give the language of every row; empty where none is given.

    Raises:
        DataError: There are not as many rows as names or languages.
    """
    codes = list(languages) if len(languages) else [""] * len(rows)
    if not len(rows) == len(names) == len(codes):
        raise DataError(
            f"There are {len(rows)} rows, {len(names)} names of runs and {len(codes)} languages; "
            "expected as many."
        )
    return codes


def _joined(prompts: Sequence[Prompts]) -> Prompts:
    """Put the prompts of single runs beside one another."""
    deep = tuple(one.deep[0] if one.deep else None for one in prompts)
    return Prompts(
        tuple(one.vectors[0] for one in prompts),
        tuple(one.lengths[0] for one in prompts),
        deep if any(one is not None for one in deep) else (),
    )


def _check_shared(name: str, run: RunFolder) -> None:
    """Refuse a run that changes what the backbone computes for the others, too.

    Raises:
        StoreError: It does.
    """
    settings = settings_of(run)
    parts = [*settings.weight_parts, *settings.sourced]
    if parts:
        raise StoreError(
            f"'{name}' ({run.path}) cannot share a backbone with other runs: its part '{parts[0]}' "
            "changes what the backbone computes, or belongs to a language. Take a Predictor for it."
        )
