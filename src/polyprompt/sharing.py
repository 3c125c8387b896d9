"""Shares finished runs on the Hugging Face Hub, and takes up those that others have shared."""

import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from polyprompt.errors import ConfigError, StoreError
from polyprompt.exchange.hub import check_repository, files_of, pull_folder, push_folder
from polyprompt.experiments.exporting import to_peft
from polyprompt.experiments.pulled import check_pulled
from polyprompt.experiments.reopen import settings_of
from polyprompt.experiments.shared_card import write_card
from polyprompt.experiments.sharing import Base, base_for, check_no_paths, stage
from polyprompt.experiments.store import (
    SCORES,
    RunFolder,
    complete_runs,
    find_run,
)
from polyprompt.models.load import load_backbone, reading_settings
from polyprompt.predictor import KINDS, Predictor
from polyprompt.tables import check_new

TOLERANCE = 1e-3
"""Most by which a probability may differ between a backbone and the one that is named for it."""
_ASKED = 8


@dataclass(frozen=True)
class Pushed:
    """What was shared.

    Attributes:
        address: Of the commit; empty where nothing was uploaded.
        files: As the repository names them, with their sizes in bytes.
        card: The model card.
        run: Its folder.
        of_study: Complete runs of the study that it was taken from; 1 where a run was named.
    """

    address: str
    files: dict[str, int]
    card: str
    run: Path
    of_study: int


def push(
    run: str | Path,
    repository: str,
    *,
    licence: str = "",
    base: str = "",
    peft: bool = False,
    private: bool = False,
    upload: bool = True,
) -> Pushed:
    """Share a run: its parts, settings, scores and a model card made from them.

    The texts it learnt from, those it was tested on and its answers are not among the files.

    Args:
        run: Folder of a run, or of a study, whose first complete run is taken.
        repository: ``owner/name`` on the Hub.
        licence: Of the trained parts, as the Hub abbreviates it, e.g. ``cc-by-4.0``.
        base: How others load the backbone, where the run took it from a folder; it must give the
            same answers.
        peft: Whether PEFT's adapter is put beside it.
        private: Whether a new repository is.
        upload: False only writes down what would be uploaded.

    Raises:
        BackboneError: Others cannot load the backbone.
        ConfigError: PEFT cannot hold the run, or the licence is no abbreviation.
        StoreError: The run is not as it should be, or the Hub refuses or cannot be reached.
    """
    check_repository(repository)
    if licence and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", licence):
        raise ConfigError(
            f"The licence '{licence}' is none that the Hub knows: expected its abbreviation in "
            "small letters, such as cc-by-4.0, apache-2.0 or other."
        )
    folder = find_run(Path(run))
    of_study = 1 if folder.path == Path(run) else len(list(complete_runs(Path(run))))
    place = base_for(folder, base)
    if place.settings.name != settings_of(folder).backbone.name:
        _check_same(folder, place)
    with TemporaryDirectory() as temporary:
        shared = stage(folder, Path(temporary) / "run", place)
        if peft:
            to_peft(folder, shared.path, place.settings.name)
        card = write_card(folder, shared, repository, licence, of_study)
        check_no_paths(folder, shared.path, place)
        files = {name: (shared.path / name).stat().st_size for name in files_of(shared.path)}
        address = push_folder(shared.path, repository, private=private) if upload else ""
    return Pushed(address, files, card, folder.path, of_study)


def pull(repository: str, folder: str | Path, revision: str | None = None) -> RunFolder:
    """Take up a run that somebody has shared, so that ``predict`` and ``Predictor`` can use it.

    Only tables, tensors and texts are fetched. The backbone that its ``config.yaml`` names is
    loaded when it is used.

    Args:
        repository: ``owner/name`` on the Hub.
        folder: New, or empty.
        revision: Branch, tag or commit; the newest if None.

    Raises:
        StoreError: There is no such run, it cannot be reached, or the folder is not empty or cannot
            be written.
    """
    check_repository(repository)
    path = Path(folder)
    check_new(path)
    made = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(dir=path, prefix=".pulled-") as temporary:
            fetched = Path(temporary) / "run"
            pull_folder(repository, fetched, revision)
            shutil.rmtree(fetched / ".cache", ignore_errors=True)  # the client's own notes
            check_pulled(fetched, repository)
            found = sorted(fetched.iterdir(), key=lambda one: one.name == SCORES)  # these last
            for one in found:
                one.rename(path / one.name)
    except BaseException:
        with suppress(OSError):  # something lies there by now
            for one in made:
                one.rmdir()
        raise
    return RunFolder(path)


def can_predict(record: Mapping[str, Any]) -> bool:
    """Say by a run's record whether it answers new rows."""
    return record.get("kind", "classification") in KINDS


def _check_same(run: RunFolder, base: Base) -> None:
    """Ask both backbones the same.

    Raises:
        StoreError: The run answers otherwise on the one that is named.
    """
    own, kind = settings_of(run).backbone, run.record().get("kind", "classification")
    if kind not in KINDS:
        raise StoreError(
            f"That {base.settings.name} is the model that {run.path} was trained on cannot be "
            f"checked: runs of {kind} tasks answer no new rows. Run it again with "
            f"backbone={base.settings.name}, and share that run."
        )
    texts = [str(label) for label in run.record()["labels"][:_ASKED]] or ["a"]
    found = [
        _asked(Predictor(run, load_backbone(reading_settings(settings))), texts)
        for settings in (own, base.settings)
    ]
    furthest = float(np.abs(found[0] - found[1]).max()) if found[0].size else 0.0
    if found[0].shape != found[1].shape or furthest > TOLERANCE:
        raise StoreError(
            f"{base.settings.name} is another model than {own.name}, which {run.path} was trained "
            f"on: a probability differs by {furthest:.3f}. Name the same model."
        )


def _asked(predictor: Predictor, texts: Sequence[str]) -> np.ndarray:
    """Answer some texts, each in every field."""
    codes = settings_of(RunFolder(predictor.folder)).source[:1] * len(texts)
    rows = [dict.fromkeys(predictor.fields, text) for text in texts]
    answers = predictor.answer(rows, codes)
    return np.array([(*one.probabilities, one.mean_log or 0.0) for one in answers])
