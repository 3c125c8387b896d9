"""Run folders: what a run leaves on disk, readable without this package."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from polyprompt.errors import StoreError
from polyprompt.records import StepRecord
from polyprompt.tables import (
    read_json,
    read_parquet,
    replacing,
    write_json,
    write_parquet,
    write_text,
)

DEV_PREDICTIONS = "predictions_dev.parquet"
PREDICTIONS, SCORES, RECORD, CONFIG = (
    "predictions.parquet",
    "scores.parquet",
    "run.json",
    "config.yaml",
)


@dataclass(frozen=True)
class RunFolder:
    """One run's files."""

    path: Path

    @property
    def name(self) -> str:
        """The run's fingerprint."""
        return self.path.name

    def is_complete(self) -> bool:
        """Say whether the run has ended well: its scores are written last."""
        return (self.path / SCORES).is_file()

    def begin(self, config: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Write down what will be run, with every default written out."""
        (self.path / SCORES).unlink(missing_ok=True)
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=100)
        write_text(self.path / CONFIG, text)
        write_json(self.path / RECORD, {"status": "running", **record})

    def write_steps(self, steps: Iterable[StepRecord]) -> None:
        """Write the training steps, a JSON line each."""
        lines = [json.dumps(asdict(step)) for step in steps]
        write_text(self.path / "steps.jsonl", "".join(line + "\n" for line in lines))

    def write_tensors(self, name: str, tensors: Mapping[str, Any]) -> None:
        """Write tensors as safetensors under ``parts/``."""
        from safetensors.torch import save_file

        with replacing(self.path / "parts" / f"{name}.safetensors") as temporary:
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary)

    def write_dev_predictions(self, predictions: pl.DataFrame) -> None:
        """Write the answers to the targets' dev split."""
        write_parquet(self.path / DEV_PREDICTIONS, predictions)

    def finish(
        self, predictions: pl.DataFrame, scores: pl.DataFrame, record: Mapping[str, Any]
    ) -> None:
        """Write predictions and record, and the scores last."""
        write_parquet(self.path / PREDICTIONS, predictions)
        write_json(self.path / RECORD, {"status": "complete", **record})
        write_parquet(self.path / SCORES, scores)

    def amend(self, record: Mapping[str, Any]) -> None:
        """Add to the record of a run."""
        write_json(self.path / RECORD, self.record() | dict(record))

    def record(self) -> dict[str, Any]:
        """Read ``run.json``."""
        return read_json(self.path / RECORD)

    def config(self) -> dict[str, Any]:
        """Read ``config.yaml``."""
        try:
            return yaml.safe_load((self.path / CONFIG).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise StoreError(
                f"Cannot read {self.path / CONFIG}: {error}. Expected the folder of a run."
            ) from error

    def predictions(self) -> pl.DataFrame:
        """Read the predictions of the run and its baselines."""
        return read_parquet(self.path / PREDICTIONS)

    def dev_predictions(self) -> pl.DataFrame:
        """Read the run's answers to the targets' dev split.

        Raises:
            StoreError: There are none.
        """
        if not (self.path / DEV_PREDICTIONS).is_file():
            raise StoreError(
                f"{self.path} has no answers to the dev split. Run the study with evaluate=both."
            )
        return read_parquet(self.path / DEV_PREDICTIONS)

    def scores(self) -> pl.DataFrame:
        """Read the scores of the run and its baselines."""
        return read_parquet(self.path / SCORES)


def complete_runs(study: Path) -> Iterator[RunFolder]:
    """Find a study's complete runs, in the order of their names.

    Raises:
        StoreError: There is no such folder.
    """
    if not study.is_dir():
        raise StoreError(f"There is no study at {study}. Give the folder that 'run' named.")
    for path in sorted(study.iterdir()):
        folder = RunFolder(path)
        if folder.is_complete():
            yield folder


def study_settings(study: Path) -> dict[str, Any]:
    """Read a study's ``study.yaml``; nothing where there is none."""
    try:
        found = yaml.safe_load((study / "study.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def study_title(study: Path) -> str:
    """Give a study's title as its ``study.yaml`` has it; the folder's name where there is none."""
    return study_settings(study).get("title") or study.name


def find_run(path: Path) -> RunFolder:
    """Take a run's folder, or the first complete run of a study's folder.

    Raises:
        StoreError: There is no complete run.
    """
    folder = RunFolder(path)
    if folder.is_complete():
        return folder
    runs = list(complete_runs(path))
    if not runs:
        raise StoreError(
            f"There is no complete run in {path}. Run the study to its end first, or give another "
            "folder."
        )
    return runs[0]


def check_writable(folder: Path) -> None:
    """Find out before anything is computed that a folder can be written.

    Raises:
        StoreError: It cannot.
    """
    write_text(folder / ".writable", "")
    (folder / ".writable").unlink(missing_ok=True)
