"""Finds the frozen parts of earlier runs that a run is made with, one per language or one for all.

A source is a file, the folder of a run, or the folder of a study with ``{language}`` behind it,
which means the study's one complete run that learnt from that language.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from polyprompt.capabilities import PartSettings, RunSettings
from polyprompt.errors import ConfigError, StoreError, listing
from polyprompt.exchange.peft import WEIGHTS
from polyprompt.experiments.store import RunFolder, complete_runs
from polyprompt.fingerprint import file_sha256
from polyprompt.part_settings import SoftPromptSettings, SourcedSettings

LANGUAGE = "{language}"


@dataclass(frozen=True)
class SourcedParts:
    """The files of a run's frozen parts.

    Attributes:
        files: By part and language.
        without: Languages that are answered without a part, by part.
    """

    files: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    without: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def contents(self) -> dict[str, dict[str, str]]:
        """Name the contents of the files, for whatever depends on them."""
        return {
            name: {language: _contents(path) for language, path in own.items()}
            for name, own in self.files.items()
        }


NO_SOURCED_PARTS = SourcedParts()


def find_parts(
    settings: RunSettings, languages: Sequence[str], backbone_identity: str
) -> SourcedParts:
    """Find the frozen parts of a run.

    Args:
        settings: Of the run.
        languages: That it learns from or is tested in; those it learns from need every part.
        backbone_identity: Of its backbone, which the parts must have been trained on.

    Raises:
        ConfigError: A language has none, or several, or one of another backbone.
    """
    files, without = {}, {}
    known: _Runs = {}
    for name, part in settings.sourced.items():
        found = {language: _find(name, part, language, known) for language in languages}
        files[name] = {language: path for language, path in found.items() if path is not None}
        missing = tuple(language for language in languages if language not in files[name])
        _check_missing(name, part, missing, settings.source)
        without |= {name: missing} if missing else {}
        for path in dict.fromkeys(files[name].values()):
            _check_backbone(name, path, backbone_identity)
            _check_length(name, part, path)
    return SourcedParts(files, without)


def _check_missing(
    name: str, part: SourcedSettings, missing: Sequence[str], source: Sequence[str]
) -> None:
    """Refuse languages without a part, unless they may be answered without it.

    Raises:
        ConfigError: They may not, or one of them is learnt from.
    """
    needed = set(missing).intersection(source)
    if missing and (part.missing == "error" or needed):
        raise ConfigError(_not_there(name, part, missing, needed))


def with_lengths(settings: RunSettings) -> dict[str, PartSettings]:
    """Give a run's parts, frozen soft prompts with the length they were saved with.

    Raises:
        ConfigError: The source language has none, or a length that is set is another one.
    """
    parts = dict(settings.parts)
    for name, part in settings.sourced.items():
        if isinstance(part, SoftPromptSettings):
            path = _find(name, part, settings.source[0], {})
            if path is None:
                missing = [settings.source[0]]
                raise ConfigError(_not_there(name, part, missing, set(missing)))
            saved = _shape(path, name)[0]
            if part.length not in {None, saved}:
                raise ConfigError(
                    f"parts.{name}.length={part.length}: {path} has {saved} tokens. Take length "
                    "out."
                )
            parts[name] = part.model_copy(update={"length": saved})
    return parts


def begun_from(path: str, name: str, kind: str) -> str:
    """Find the file that a part begins with.

    Args:
        path: A file; the folder of a complete run, or of an adapter that PEFT has saved; or that
            of a study with a language behind it, which means the study's one complete run that
            learnt from this language.
        name: Of the part.
        kind: Its own.

    Returns:
        The file, or the path as it is where there is none.

    Raises:
        ConfigError: There are several such runs.
    """
    place = Path(path).expanduser()
    if place.is_file():
        return path
    if (place / WEIGHTS).is_file():
        return str(place / WEIGHTS)
    run = place if RunFolder(place).is_complete() else None
    if run is None and place.parent.is_dir():
        runs = _runs_by_language(place.parent, _state(place.parent)).get(place.name, ())
        if len(runs) > 1:
            raise ConfigError(
                f"parts.{name}.initial.path={path}: {len(runs)} runs learnt from {place.name}, "
                f"{listing([one.name for one in runs], 3)}. Name the run's own folder."
            )
        run = runs[0] if runs else None
    found = None if run is None else _part_of(run, name, kind)
    return path if found is None else str(found)


_Runs = dict[Path, dict[str, tuple[Path, ...]]]


def _find(name: str, part: SourcedSettings, language: str, known: _Runs) -> Path | None:
    """Find the file of a language's part; None if there is none.

    Args:
        name: Of the part.
        part: Its settings.
        language: Whose it is to be.
        known: Complete runs of studies by language; filled here.

    Raises:
        ConfigError: There are several.
    """
    assert part.source is not None
    place = Path(part.source.replace(LANGUAGE, language)).expanduser()
    kind = getattr(part, "kind", "")
    if place.is_file():
        return place
    if RunFolder(place).is_complete():
        return _part_of(place, name, kind)
    if not place.parent.is_dir():
        return None
    if place.parent not in known:
        known[place.parent] = _runs_by_language(place.parent, _state(place.parent))
    runs = known[place.parent].get(place.name, ())
    if len(runs) > 1:
        raise ConfigError(
            f"parts.{name}.source={part.source}: {len(runs)} runs learnt from {place.name}, "
            f"{listing([run.name for run in runs], 3)}. Name one study that has one run per "
            "language, or the run's own folder."
        )
    return _part_of(runs[0], name, kind) if runs else None


def _part_of(run: Path, name: str, kind: str) -> Path | None:
    """Find a run's part of a kind: the one of that name, or the only one."""
    parts: dict[str, Any] = RunFolder(run).config()["parts"]
    own = [own for own, part in parts.items() if part.get("kind") == kind]
    chosen = name if name in own else own[0] if len(own) == 1 else None
    path = run / "parts" / f"{chosen}.safetensors"
    return path if chosen is not None and path.is_file() else None


@lru_cache(maxsize=8)
def _runs_by_language(study: Path, _state: tuple[str, ...]) -> dict[str, tuple[Path, ...]]:
    """Sort a study's complete runs by the one language that each learnt from."""
    found: dict[str, list[Path]] = {}
    try:
        runs = list(complete_runs(study))
    except StoreError:  # there is none yet
        return {}
    for run in runs:
        source = run.config().get("source", [])
        if len(source) == 1:
            found.setdefault(str(source[0]), []).append(run.path)
    return {language: tuple(paths) for language, paths in found.items()}


def _state(study: Path) -> tuple[str, ...]:
    """Name what of a study is complete."""
    return tuple(sorted(path.parent.name for path in study.glob("*/scores.parquet")))


def _check_length(name: str, part: SourcedSettings, path: Path) -> None:
    """Find out whether a soft prompt is as long as that of the source language.

    Raises:
        ConfigError: It is not.
    """
    if not isinstance(part, SoftPromptSettings):
        return
    length = _shape(path, name)[0]
    if length != part.length:
        raise ConfigError(
            f"parts.{name}.source: {path} has {length} tokens, that of the source language "
            f"{part.length}. Train all of them with one length."
        )


def _check_backbone(name: str, path: Path, identity: str) -> None:
    """Find out whether a part was trained on the run's backbone, where that is on record."""
    run = RunFolder(path.parent.parent)
    if not (run.path / "run.json").is_file():
        return
    record = run.record()
    if record.get("backbone_identity") not in {None, identity}:
        raise ConfigError(
            f"parts.{name}.source: {path} was trained on {record.get('backbone')}, which is "
            "another backbone or another version of it. Train it on this one."
        )


def _not_there(name: str, part: SourcedSettings, missing: Sequence[str], needed: set[str]) -> str:
    """Say which languages have no part, and what to do."""
    where = f"parts.{name}.source={part.source}"
    advice = "Train it (polyprompt language train), or give the source another place."
    if not needed:
        advice += f" With parts.{name}.missing=leave_out these are answered without it, and marked."
    what = "source language" if needed else "target languages"
    return (
        f"{where}: there is no part of kind {getattr(part, 'kind', '')} for the {what} "
        f"{listing(sorted(needed or missing))}. Expected a file, the folder of a complete run, or "
        f"that of a study with {LANGUAGE} or a language behind it. {advice}"
    )


def _shape(path: Path, name: str) -> tuple[int, ...]:
    """Read the shape of a saved soft prompt without reading it."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return tuple(file.get_slice("weight").get_shape())
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"parts.{name}.source: cannot read the soft prompt {path}: {error}."
        ) from error


def _contents(path: Path) -> str:
    """Name a file's contents; read anew when it changes."""
    state = path.stat()
    return _sha256(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4096)
def _sha256(path: Path, _changed: int, _size: int) -> str:
    """Hash a file."""
    return file_sha256(path)
