"""Who computes a run: a lease per run, so that programs that are given one study share its work."""

import os
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import SoftFileLease, Timeout

from polyprompt.tables import cannot_write

CLAIMS = "claims"
_LOOK_SECONDS = 1.0
LEASE_SECONDS = 30.0
"""A claim of another machine that shows no sign of life for so long is taken over; a claim of this
machine as soon as its process has gone."""


@dataclass(frozen=True)
class Owner:
    """Who computes a run.

    Attributes:
        host: The machine's name.
        pid: The process's number on it.
        quiet_seconds: Since its last sign of life, by the file's time.
    """

    host: str
    pid: int
    quiet_seconds: float

    @property
    def is_alive(self) -> bool:
        """Whether it may still be at work."""
        if self.quiet_seconds >= LEASE_SECONDS:
            return False
        if self.host.partition("?")[0] != socket.gethostname():
            return True
        if sys.platform == "win32":
            return True  # what asks elsewhere whether there is a process is Ctrl-C there
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            return True  # it is somebody else's
        return True

    def __str__(self) -> str:
        """Name it for people."""
        return f"process {self.pid} on {self.host}"


def owner_of(study: Path, run: str) -> Owner | None:
    """Find out who has claimed a run; None if nobody has."""
    path = _path(study, run)
    try:
        quiet = time.time() - path.stat().st_mtime
    except OSError:
        return None
    found = SoftFileLease(path, lease_duration=LEASE_SECONDS).owner
    return Owner(found.hostname, found.pid, max(quiet, 0.0)) if found else None


def claimed_runs(study: Path) -> set[str]:
    """Name the runs that somebody has claimed, alive or not."""
    with suppress(OSError):
        return {path.stem for path in (study / CLAIMS).iterdir() if path.suffix == ".lock"}
    return set()


def _path(study: Path, run: str) -> Path:
    """Name the file of a claim."""
    return study / CLAIMS / f"{run}.lock"


class Claims:
    """What this process claims of a study's runs. Kept while it waits for others' claims to end."""

    def __init__(self, study: Path) -> None:
        """Claim nothing yet.

        Args:
            study: The study's folder.
        """
        self._study = study
        self._leases: dict[str, SoftFileLease] = {}
        self._looked = time.monotonic()

    def take(self, runs: Sequence[str]) -> bool:
        """Claim runs, all or none; does not wait.

        Returns:
            Whether they are this process's now.

        Raises:
            StoreError: The folder cannot be written.
        """
        taken: list[str] = []
        for run in sorted(runs):
            if not self._take_one(run):
                self.release(taken)
                return False
            taken.append(run)
        return True

    def _take_one(self, run: str) -> bool:
        """Claim one run."""
        path = _path(self._study, run)
        if run not in self._leases:  # one object each: it measures how long others have been quiet
            self._leases[run] = SoftFileLease(
                path, lease_duration=LEASE_SECONDS, thread_local=False
            )
        try:
            return self._acquire(run, path)
        except OSError as error:
            raise cannot_write(path, error) from error

    def _acquire(self, run: str, path: Path, tries: int = 20) -> bool:
        """Claim one run; the folder may be taken away by others as soon as it has been made."""
        for left in reversed(range(tries)):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._leases[run].acquire(timeout=0.05, poll_interval=0.02)
            except Timeout:
                return False
            except FileNotFoundError:
                if not left:
                    raise
                continue
            return True
        return False

    def lost(self, runs: Sequence[str]) -> bool:
        """Say whether another process took one of these over, as after a long sleep."""
        if any(self._leases[run].compromise is not None for run in runs):
            return True
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return False
        self._looked = now  # behind a long sleep this is sooner than the lease's own look
        return not all(self._leases[run].is_lock_held_by_us for run in runs)

    def release(self, runs: Iterable[str]) -> None:
        """Give claims back."""
        for run in runs:
            with suppress(OSError):
                self._leases[run].release()
        with suppress(OSError):  # others have claims
            (self._study / CLAIMS).rmdir()

    def owners(self, runs: Iterable[str]) -> list[Owner]:
        """Name who has claimed any of these runs."""
        found = [owner_of(self._study, run) for run in runs]
        return list({str(owner): owner for owner in found if owner is not None}.values())
