"""Studies in a store that is no file system of this machine: an fsspec URL as ``output``.

Such a store may neither rename nor lock. Everything is computed in a copy on this machine, and what
is complete is put there, a run's scores last; so a run that has scores there is whole.
"""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from polyprompt.errors import ConfigError, StoreError
from polyprompt.fingerprint import fingerprint
from polyprompt.models.cache import cache_folder
from polyprompt.tables import replacing

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_LAST = "scores.parquet"
_OWN = {"claims", "groups"}
"""What is of this machine: it is neither put there nor fetched."""


def is_url(output: str) -> bool:
    """Say whether an output is a store and no folder."""
    return "://" in output


def local_folder(output: str) -> Path:
    """Give the folder that is computed in: the output itself, or the copy of a store."""
    if not is_url(output):
        return Path(output)
    return cache_folder() / "stores" / fingerprint(output.rstrip("/"))


class Store:
    """A store, and its copy on this machine."""

    def __init__(self, url: str) -> None:
        """Reach a store.

        Raises:
            ConfigError: Nobody knows how to reach it, or a package is missing.
        """
        import fsspec

        self._url = url.rstrip("/")
        self._copy = local_folder(url)
        self._put: dict[Path, tuple[int, int]] = {}
        try:
            found = fsspec.core.url_to_fs(self._url)
        except Exception as error:
            raise ConfigError(
                f"output: cannot reach {url}: {error}. Expected a folder or a URL that fsspec "
                "knows, e.g. s3://bucket/studies."
            ) from error
        self._fs: AbstractFileSystem = found[0]
        self._root = PurePosixPath(found[1])

    def fetch(self, study: str) -> int:
        """Fetch the runs that are complete there and not here; gives their number.

        Raises:
            StoreError: The store cannot be read.
        """
        scores = self._names(f"{self._root}/{study}/**/{_LAST}")
        runs = [PurePosixPath(name).parent for name in scores]
        runs = [run for run in runs if run.name not in {study, "search"}]  # of all runs together
        wanted = [run for run in runs if not (self._here(run) / _LAST).is_file()]
        for run in wanted:
            self.fetch_run(run)
        return len(wanted)

    def fetch_run(self, run: PurePosixPath) -> None:
        """Fetch a run's files, its scores last."""
        names = self._names(f"{run}/**")
        for name in sorted(names, key=lambda name: PurePosixPath(name).name == _LAST):
            self._fetch_file(name)

    def fetch_runs(self, study: Path, runs: Iterable[str]) -> None:
        """Fetch runs that a worker elsewhere has put there."""
        for run in runs:
            if not (study / run / _LAST).is_file():
                self.fetch_run(self._there(study / run))

    def put(self, folder: Path) -> None:
        """Put files there that are new or have changed: complete runs, and the study's own.

        Args:
            folder: In the copy: a study's, or a run's.

        Raises:
            StoreError: The store cannot be written.
        """
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        files.sort(key=lambda path: path.name == _LAST)
        for path in files:
            parts = path.relative_to(self._copy).parts
            if _OWN.intersection(parts) or path.name.startswith("."):
                continue
            run = next((up for up in path.parents if (up / "run.json").is_file()), None)
            if run is None or (run / _LAST).is_file():
                self._put_new(path, of_run=run is not None)

    def _put_new(self, path: Path, *, of_run: bool) -> None:
        """Put a file there unless it is; one of a complete run is if its size is the same."""
        state = path.stat()
        seen = (state.st_mtime_ns, state.st_size)
        if self._put.get(path) == seen:
            return
        if path in self._put or not of_run or not self._is_there(path, state.st_size):
            self._put_file(path)
        self._put[path] = seen

    def _is_there(self, path: Path, size: int) -> bool:
        """Say whether the store has a complete run's file, by its size."""
        try:
            return self._fs.info(str(self._there(path)))["size"] == size
        except Exception:  # noqa: BLE001 (as above; it is put there then)
            return False

    def _here(self, there: PurePosixPath) -> Path:
        """Name a file's place in the copy."""
        return self._copy / there.relative_to(self._root)

    def _there(self, here: Path) -> PurePosixPath:
        """Name a file's place in the store."""
        return self._root / here.relative_to(self._copy).as_posix()

    def _names(self, pattern: str) -> list[str]:
        """List the store's files that fit a pattern."""
        try:
            return [str(name) for name in self._fs.glob(pattern) if self._fs.isfile(str(name))]
        except FileNotFoundError:
            return []
        except Exception as error:
            raise self._error("read", error) from error

    def _fetch_file(self, name: str) -> None:
        """Fetch one file."""
        with replacing(self._here(PurePosixPath(name))) as temporary:
            try:
                self._fs.get_file(name, str(temporary))
            except Exception as error:
                raise self._error("read", error) from error

    def _put_file(self, path: Path) -> None:
        """Put one file there."""
        there = self._there(path)
        try:
            self._fs.makedirs(str(there.parent), exist_ok=True)
            self._fs.put_file(str(path), str(there))
        except Exception as error:
            raise self._error("write", error) from error

    def _error(self, verb: str, error: Any) -> StoreError:
        """Compose the error of a store that does not answer as it should."""
        return StoreError(
            f"Cannot {verb} {self._url}: {error}. What is complete is kept in {self._copy}; run "
            "the same command again when the store can be reached."
        )
