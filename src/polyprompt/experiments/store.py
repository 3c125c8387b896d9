"""Run folders: what a run leaves on disk, readable without this package."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import yaml

from polyprompt.errors import StoreError
from polyprompt.experiments.nested import dotted
from polyprompt.records import StepRecord
from polyprompt.tables import (
    read_json,
    read_parquet,
    replacing,
    write_json,
    write_parquet,
    write_text,
)

if TYPE_CHECKING:
    from polyprompt.capabilities import RunSettings

CHOSEN = "chosen.json"
"""What a study's last search chose, by arm."""
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
        """Say whether it is a run and has ended well: its scores are written last."""
        return (self.path / SCORES).is_file() and (self.path / RECORD).is_file()

    def has_recorded(self, names: Iterable[str], items: int) -> bool:
        """Say whether arrays are there and whole.

        Args:
            names: Of the arrays.
            items: Test items per language that were to be recorded; for a path it does not matter.
        """
        wanted = set(names)
        if not all(map(self.has_arrays, wanted - {"epochs"})):
            return False
        same = not wanted - {"prompt_path"} or self.config().get("record_items") == items
        beside = {"states": "items", "attention": "items", "prompt_path": "prompt_words"}
        beside["epochs"] = "epochs"
        folder = self.path / "recorded"
        return same and all((folder / f"{beside[name]}.parquet").is_file() for name in wanted)

    def begin(self, config: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Write down what will be run, with every default written out."""
        (self.path / SCORES).unlink(missing_ok=True)
        for left in list(self.path.rglob(".*")):  # half-written by a process that was killed
            if not left.is_dir():
                left.unlink(missing_ok=True)
        self.write_config(config)
        write_json(self.path / RECORD, {"status": "running", **record})

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write down what is run, with every default written out."""
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=100)
        write_text(self.path / CONFIG, text)

    def write_steps(self, steps: Iterable[StepRecord]) -> None:
        """Write the training steps, a JSON line each."""
        lines = [json.dumps(asdict(step)) for step in steps]
        write_text(self.path / "steps.jsonl", "".join(line + "\n" for line in lines))

    def write_tensors(
        self, name: str, tensors: Mapping[str, Any], facts: Mapping[str, str] | None = None
    ) -> None:
        """Write tensors, and what has to be known to use them, as safetensors under ``parts/``."""
        from safetensors.torch import save_file

        with replacing(self.path / "parts" / f"{name}.safetensors") as temporary:
            on_host = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
            save_file(on_host, temporary, {"part": json.dumps(facts)} if facts else None)

    def write_arrays(self, name: str, arrays: Mapping[str, Any]) -> None:
        """Write NumPy arrays as safetensors under ``recorded/``."""
        from safetensors.numpy import save_file

        with replacing(self._arrays(name)) as temporary:
            save_file({key: value.copy(order="C") for key, value in arrays.items()}, temporary)

    def has_arrays(self, name: str) -> bool:
        """Say whether arrays were recorded, and wholly."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._arrays(name), "numpy"):
                return True
        except (OSError, SafetensorError):
            return False

    def arrays(self, name: str) -> dict[str, Any]:
        """Read recorded arrays.

        Raises:
            StoreError: They are missing or broken.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return load_file(self._arrays(name))
        except (OSError, SafetensorError) as error:
            raise StoreError(
                f"Cannot read {self._arrays(name)}: {error}. Run the study again with "
                f"record=[{name}]."
            ) from error

    def _arrays(self, name: str) -> Path:
        """Name the file of recorded arrays."""
        return self.path / "recorded" / f"{name}.safetensors"

    def write_prompt_words(self, words: Sequence[str]) -> None:
        """Write the words nearest to a prompt, in the order of the array ``nearest``."""
        write_parquet(
            self.path / "recorded" / "prompt_words.parquet", pl.DataFrame({"word": words})
        )

    def prompt_words(self) -> list[str]:
        """Read the words nearest to a prompt."""
        return read_parquet(self.path / "recorded" / "prompt_words.parquet")["word"].to_list()

    def write_epochs(self, scores: pl.DataFrame) -> None:
        """Write scores of languages at the ends of epochs."""
        write_parquet(self.path / "recorded" / "epochs.parquet", scores)

    def epochs(self) -> pl.DataFrame | None:
        """Read scores of languages at the ends of epochs; None where they were not recorded."""
        path = self.path / "recorded" / "epochs.parquet"
        return read_parquet(path) if path.is_file() else None

    def write_recorded_items(self, items: pl.DataFrame) -> None:
        """Write which test items recorded arrays are about, in their order."""
        write_parquet(self.path / "recorded" / "items.parquet", items)

    def recorded_items(self) -> pl.DataFrame:
        """Read which test items recorded arrays are about."""
        return read_parquet(self.path / "recorded" / "items.parquet")

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
        """Read ``config.yaml``.

        Raises:
            StoreError: It is missing or damaged.
        """
        try:
            value = yaml.safe_load((self.path / CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise StoreError(
                f"Cannot read {self.path / CONFIG}: {error}. Expected the folder of a run."
            ) from error
        if not isinstance(value, dict):
            raise StoreError(
                f"{self.path / CONFIG} is damaged: it holds no settings. Delete the run's folder "
                "and run the study again."
            )
        return value

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


def is_done(folder: RunFolder, settings: "RunSettings") -> bool:
    """Say whether a run is complete, with all that it is asked to record."""
    recorded = settings.record
    return folder.is_complete() and (
        not recorded or folder.has_recorded(recorded, settings.record_items)
    )


def complete_runs(study: Path) -> Iterator[RunFolder]:
    """Find a study's complete runs, in the order of their names.

    Runs with settings that an earlier search had chosen, and the last one has not, are passed over.

    Raises:
        StoreError: There is no such folder.
    """
    if not study.is_dir():
        raise StoreError(f"There is no study at {study}. Give the folder that 'run' named.")
    if RunFolder(study).is_complete():
        raise StoreError(
            f"{study} is one run – of a study, a fit, or from the Hub – and no study. Give a "
            "study's folder; what a fit or a shared run reached was said when it was made."
        )
    chosen = read_json(study / CHOSEN) if (study / CHOSEN).is_file() else {}
    for path in sorted(study.iterdir()):
        folder = RunFolder(path)
        if folder.is_complete() and _as_chosen(folder, chosen):
            yield folder


def _as_chosen(folder: RunFolder, chosen: Mapping[str, Mapping[str, Any]]) -> bool:
    """Say whether a run has what the search chose for its arm."""
    wanted = chosen.get(folder.record().get("arm", ""), {}) if chosen else {}
    config = folder.config() if wanted else {}
    return all(dotted(config, key) == value for key, value in wanted.items())


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
