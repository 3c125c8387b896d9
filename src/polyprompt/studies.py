"""Runs studies from Python, and opens those that were run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from polyprompt.errors import ConfigError
from polyprompt.experiments.config import build_study, load_study
from polyprompt.experiments.reports import write_reports
from polyprompt.experiments.results import Setting, gather, ordered
from polyprompt.experiments.store import complete_runs, study_title
from polyprompt.experiments.stored import score_table
from polyprompt.experiments.study import run_study as events_of
from polyprompt.report.figure import FORMATS


@dataclass(frozen=True)
class StudyResults:
    """What a study came to.

    Attributes:
        folder: Of the study.
        settings: Its settings, each with the summary of its runs.
    """

    folder: Path
    settings: tuple[Setting, ...]

    @classmethod
    def load(cls, folder: str | Path) -> "StudyResults":
        """Open a study that was run.

        Raises:
            StoreError: There is none, or none of its runs is complete.
        """
        path = Path(folder)
        return cls(path, tuple(ordered(path, gather(list(complete_runs(path))))))

    @property
    def headlines(self) -> dict[str, str]:
        """The results in words, by the settings' titles; the best baseline included."""
        return {setting.title: setting.section().headline for setting in self.settings}

    def scores(self) -> pl.DataFrame:
        """Give all scores, one per run, baseline, language and metric.

        Returns:
            Columns run, baseline (null for the run itself), task, language, metric, value, n, and
            what sets the runs apart.
        """
        return score_table(self.folder)

    def languages(self) -> pl.DataFrame:
        """Give every setting's languages.

        Returns:
            Columns setting, language, name, script, family, n, value (mean over runs), low and high
            (95 %, over runs and items), deviation over runs, and the mean of each baseline.
        """
        rows = [
            {
                "setting": setting.title, "language": row.code, "name": row.name,
                "script": row.script, "family": row.family, "n": row.n,
                "value": row.accuracy.mean, "low": row.accuracy.low, "high": row.accuracy.high,
                "deviation": row.deviation, **row.baselines,
            }
            for setting in self.settings
            for row in setting.summary.languages
        ]  # fmt: skip
        return pl.DataFrame(rows, infer_schema_length=None)

    def write_report(self, figures: Sequence[str] = ()) -> Path:
        """Write the report into the study's folder.

        Args:
            figures: Formats in which its figures are written as files, too: svg, png, pdf.

        Returns:
            The page.

        Raises:
            ConfigError: There is no such format.
        """
        unknown = [form for form in figures if form not in FORMATS]
        if unknown:
            raise ConfigError(f"No figures as {unknown[0]}; there are: {', '.join(FORMATS)}.")
        title = study_title(self.folder)
        return write_reports(self.folder, title, self.settings, figures)["report"]


def run_study(
    study: str | Path | Mapping[str, Any], *overrides: str, retry_failed: bool = False
) -> StudyResults:
    """Run a study; what is already complete is not run again.

    Args:
        study: Its YAML file, or what stands in one (with ``name``).
        overrides: ``KEY=VALUE``, as on the command line.
        retry_failed: Whether runs are tried again that failed in an earlier call.

    Raises:
        ConfigError: The study, or an override, cannot be understood; names all faults.
        BackboneError: The backbone cannot be had.
        DataError: The data are not as the task's card says.
        FailedRunsError: Runs have failed; the others are complete, on disk.
    """
    if isinstance(study, Mapping):
        if overrides:
            raise ConfigError("Overrides change a file; change the mapping instead.")
        checked = build_study(study, "the study")
    else:
        checked = load_study(str(study), overrides)
    for _ in events_of(checked, retry_failed=retry_failed):
        pass
    return StudyResults.load(checked.folder)
