"""Runs that failed: written down with their traceback, so that the others go on."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from polyprompt.errors import PolypromptError, StoreError, listing
from polyprompt.tables import cannot_write, read_json, write_json

FAILURE = "failure.json"


class FailedRunsError(PolypromptError):
    """Runs of a study failed; the others are complete."""


@dataclass(frozen=True)
class Failure:
    """Why a run failed.

    Attributes:
        run: Its name.
        error: The error's message, or its class and message if no person can cause it.
        path: The file with the traceback; None if none was written.
    """

    run: str
    error: str
    path: Path | None

    @property
    def first_line(self) -> str:
        """The error's first line."""
        return (self.error.strip() or "no message").splitlines()[0]


def describe(error: BaseException) -> dict[str, Any]:
    """Put an error into plain values: message, class, traceback."""
    kind = type(error).__name__
    text = str(error) if isinstance(error, PolypromptError) else f"{kind}: {error}"
    whole = "".join(traceback.format_exception(error))
    return {"error": text, "kind": kind, "traceback": whole}


def write_failure(run: Path, error: dict[str, Any]) -> None:
    """Write down why a run failed.

    Args:
        run: Its folder.
        error: As ``describe`` gives it.
    """
    when = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(run / FAILURE, {"when": when, **error})


def failure_of(run: Path) -> Failure | None:
    """Read why a run failed; None if it has not."""
    path = run / FAILURE
    if not path.is_file():
        return None
    try:
        return Failure(run.name, str(read_json(path)["error"]), path)
    except (StoreError, KeyError, TypeError):
        return Failure(run.name, "the note of its failure is damaged", path)


def forget_failure(run: Path) -> None:
    """Let a run be tried again.

    Raises:
        StoreError: Its folder cannot be written.
    """
    try:
        (run / FAILURE).unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(run / FAILURE, error) from error


def failed_runs_error(failures: Sequence[Failure], runs: int, *, again: bool) -> FailedRunsError:
    """Compose the error of a study that has failed runs.

    Args:
        failures: One or more.
        runs: In the study.
        again: Whether they failed in an earlier call and were not tried now.
    """
    of_error: dict[str, list[Failure]] = {}
    for failure in failures:
        of_error.setdefault(failure.error, []).append(failure)
    lines = [
        f"{len(failures)} of {runs} runs failed{' earlier' if again else ''}; the others are "
        "complete or go on. 'polyprompt run … --retry-failed' tries them again."
    ]
    for error, alike in of_error.items():
        names = listing([failure.run for failure in alike], 3)
        lines.append(f"  - {names}: {error}")
        lines += [f"    traceback: {alike[0].path}"] if alike[0].path else []
    return FailedRunsError("\n".join(lines))
