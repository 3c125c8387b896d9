"""From ``study.yaml`` and overrides to checked settings; all faults are reported at once."""

import copy
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from polyprompt.capabilities import RunSettings
from polyprompt.errors import ConfigError, all_faults, nearest
from polyprompt.experiments.grid import all_points, arm_faults, contrast_faults, grid_faults
from polyprompt.experiments.remote import local_folder
from polyprompt.part_settings import PART_KINDS, WEIGHT_KINDS
from polyprompt.study_settings import StudySettings

_SHORT_FORMS = {"backbone": "name", "initial": "kind", "head": "kind"}


@dataclass(frozen=True)
class Study:
    """A checked study.

    Attributes:
        settings: What the runs have in common.
        runs: One complete setting per arm and point of the grid, in their order.
        value: As it was written, overrides applied.
    """

    settings: StudySettings
    runs: tuple[RunSettings, ...]
    value: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the study's runs are kept, or the copy of that on this machine."""
        return local_folder(self.settings.output) / self.settings.name


def load_study(path: str, overrides: Sequence[str] = ()) -> Study:
    """Load a study from YAML and apply ``key=value`` overrides.

    Raises:
        ConfigError: It cannot be read, or anything in it is wrong; names every fault.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"Cannot read the study {path}: {error.strerror}.") from error
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} holds no settings; expected lines such as 'task: sib200'.")
    value.setdefault("name", Path(path).stem)
    _check_overrides(value, overrides)
    return build_study(_with_arms(apply_overrides(value, overrides), overrides), path)


def _with_arms(value: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Let an override replace what arms set; arms that it makes alike are run once."""
    arms = value.get("arms")
    if not isinstance(arms, dict) or not all(isinstance(own, dict) for own in arms.values()):
        return value
    keys = [override.partition("=")[0] for override in overrides]
    left: dict[str, Any] = {}
    for arm, own in arms.items():
        kept = {
            name: new
            for name, new in own.items()
            if not any(name == key or str(name).startswith(f"{key}.") for key in keys)
        }
        if kept not in left.values():
            left[arm] = kept
    return value | {"arms": left}


def _check_overrides(value: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Refuse an override of a setting that the grid sets for every run."""
    grid = value.get("grid")
    keys = [override.partition("=")[0] for override in overrides]
    faults = [
        f"{key}: the grid sets it for every run, so this value would not be used. Write "
        f"grid.{key}=[…]"
        for key in keys
        if isinstance(grid, dict) and key in grid and f"grid.{key}" not in keys
    ]
    if faults:
        raise ConfigError(all_faults("Overrides", faults))


def build_study(value: Mapping[str, Any], where: str) -> Study:
    """Check settings and expand the grid.

    Raises:
        ConfigError: Anything is wrong; names every fault once.
    """
    settings, faults = _validate(StudySettings, value)
    grid = value.get("grid") or {}
    faults += grid_faults(grid, "grid") if isinstance(grid, dict) else []
    assert settings is None or isinstance(settings, StudySettings)
    faults += [] if settings is None else arm_faults(settings) + contrast_faults(settings)
    runs: list[RunSettings] = []
    for point in [] if settings is None or faults else list(all_points(settings)):
        run, wrong = _validate(RunSettings, _run_value(value, point))
        faults += [fault for fault in wrong if fault not in faults]
        runs += [_with_seeds(run)] if isinstance(run, RunSettings) else []
    if faults or settings is None:
        raise ConfigError(all_faults(where, faults))
    return Study(settings, tuple(runs), value)


def apply_overrides(value: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Set dotted keys from ``key=value`` arguments; values are read as YAML.

    Raises:
        ConfigError: An argument is not of that form.
    """
    result = copy.deepcopy(dict(value))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"Cannot read the override '{override}': expected key=value, e.g. shots=4 or "
                "training.learning_rate=0.05"
            )
        try:
            set_dotted(result, key, _override_value(key, text))
        except yaml.YAMLError as error:
            raise ConfigError(f"The value of the override '{override}' is not YAML.") from error
    return result


def _override_value(key: str, text: str) -> Any:
    """Read a value as YAML; where the setting is a text, braces and colons are part of it."""
    kinds: tuple[Any, ...] = (StudySettings,)
    for name in key.split("."):
        kinds = _inner(kinds, name)
    if kinds == (str,) and text[:1] not in {"'", '"'} and text not in {"null", "~", ""}:
        return text
    return yaml.safe_load(text)


def set_dotted(value: dict[str, Any], key: str, new: Any) -> None:
    """Set ``a.b.c`` in nested mappings; a short form on the way is written out first."""
    if key.startswith("grid."):
        value.setdefault("grid", {})[key.removeprefix("grid.")] = new
        return
    *path, last = key.split(".")
    if path == ["parts"] and isinstance(new, Mapping) and new.get("kind") in WEIGHT_KINDS:
        value.setdefault("parts", {"task": {}})  # joins the default part, does not replace it
    for name in path:
        inner = value.get(name)
        if isinstance(inner, str) and name in _SHORT_FORMS:
            inner = {_SHORT_FORMS[name]: inner}
        value[name] = dict(inner) if isinstance(inner, Mapping) else {}
        value = value[name]
    value[last] = new


def _run_value(value: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """Compose one run's settings from the study's and a point of the grid."""
    own = {k: copy.deepcopy(v) for k, v in value.items() if k in RunSettings.model_fields}
    for key, new in point.items():
        set_dotted(own, key, new)
    return own


def _with_seeds(run: RunSettings) -> RunSettings:
    """Write out both seeds."""
    return run.model_copy(
        update={
            "draw_seed": run.seed if run.draw_seed is None else run.draw_seed,
            "train_seed": run.seed if run.train_seed is None else run.train_seed,
        }
    )


def _validate(
    model: type[BaseModel], value: Mapping[str, Any]
) -> tuple[BaseModel | None, list[str]]:
    """Validate and translate every fault into a sentence with its path."""
    try:
        return model.model_validate(value), []
    except ValidationError as error:
        return None, list(dict.fromkeys(_sentence(model, fault) for fault in error.errors()))


def _sentence(model: type[BaseModel], fault: Any) -> str:
    """Translate a fault that validation found."""
    path = _path(fault["loc"])
    where = ".".join(path)
    if fault["type"] == "value_error":
        return f"{where}: {fault['msg'].removeprefix('Value error, ')}."
    if fault["type"] != "extra_forbidden":
        given = f" (given: {fault['input']!r})" if fault["type"] != "missing" else ""
        return f"{where}: {fault['msg']}{given}"
    known = _keys_at(model, path[:-1])
    if path[-1] in known:
        return f"{where}: unknown key. It belongs to another kind of {path[-2]}."
    return f"{where}: unknown key.{nearest(path[-1], known)}"


def _path(places: Sequence[Any]) -> list[str]:
    """Give the path of a fault as it stands in the YAML, without pydantic's names of unions."""
    written = [str(place) for place in places]
    if written[0] == "parts" and len(written) > 2 and written[2] in PART_KINDS:
        del written[2]
    return [name for name in written if name not in _UNION_MARKS]


_UNION_MARKS = {
    "int", "str", "literal['all']", "tuple[str, ...]", "function-before[as_list()]",
    "similarity", "verbalizer",
}  # fmt: skip


def _keys_at(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """List the keys that a place in the settings knows."""
    kinds: tuple[Any, ...] = (model,)
    for name in path:
        kinds = _inner(kinds, name)
    return [key for kind in kinds if _is_model(kind) for key in kind.model_fields]


def _inner(kinds: Sequence[Any], name: str) -> tuple[Any, ...]:
    """Step from settings types to the types under one of their keys."""
    found: list[Any] = []
    for kind in kinds:
        if _is_model(kind) and name in kind.model_fields:
            found += _alternatives(kind.model_fields[name].annotation)
        elif get_origin(kind) is dict:
            found += _alternatives(get_args(kind)[1])
    return tuple(found)


def _is_model(kind: Any) -> bool:
    """Say whether a type is a settings model."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _alternatives(kind: Any) -> list[Any]:
    """Look through Annotated and unions; None, which stands for a default, is left out."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _alternatives(get_args(kind)[0])
    if origin in {Union, types.UnionType}:
        return [inner for part in get_args(kind) for inner in _alternatives(part)]
    return [] if kind is type(None) else [kind]
