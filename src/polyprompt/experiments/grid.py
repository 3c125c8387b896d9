"""The points of a study – arms, grid, search – and what can be wrong with their keys."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from polyprompt.analysis.facts import in_group
from polyprompt.capabilities import RunSettings
from polyprompt.errors import nearest
from polyprompt.languages.catalogue import catalogue
from polyprompt.study_settings import SearchSettings, StudySettings


def all_points(settings: StudySettings) -> Iterator[dict[str, Any]]:
    """Give what sets the runs of a study apart: arm by arm, the points of its grid."""
    for arm, own in (settings.arms or {"": {}}).items():
        for point in points(settings.grid):
            yield own | point | {"arm": arm}


def arm_faults(settings: StudySettings) -> list[str]:
    """Find what is wrong with a study's arms and with what is searched for them."""
    faults = []
    for arm, own in settings.arms.items():
        faults += _key_faults(own, f"arms.{arm}")
        faults += [
            f"grid.{key}: the arm '{arm}' sets it, and the grid would override that. Take one out"
            for key in settings.grid
            if key in own
        ]
    return faults + (_search_faults(settings, settings.search) if settings.search else [])


def contrast_faults(settings: StudySettings) -> list[str]:
    """Find groups of named contrasts that no language is in, and languages of both sides."""
    known = catalogue().values()
    names = {n for one in known for n in (one.code, one.family, one.branch, one.script) if n}
    names.update(settings.source, settings.targets or ())
    faults = []
    for title, (first, second) in settings.contrasts.items():
        faults += [
            f"contrasts.{title}: no language has a family, branch, script or code "
            f"'{name}'.{nearest(name, names)}"
            for name in set(first + second) - names
        ]
        both = {c.code for c in known if in_group(c.code, first) and in_group(c.code, second)}
        faults += [f"contrasts.{title}: {min(both)} is in both groups"] if both else []
    return faults


def _search_faults(settings: StudySettings, search: SearchSettings) -> list[str]:
    """Find what is wrong with a search."""
    faults = []
    if bool(settings.arms) == bool(search.grid):
        place = "search.arms: {ARM: {…}}" if settings.arms else "search.grid: {…}"
        faults.append(
            f"search: a study {'with' if settings.arms else 'without'} arms needs {place}"
        )
    for arm, grid in search.arms.items():
        if arm not in settings.arms:
            known = nearest(arm, settings.arms)
            faults.append(f"search.arms.{arm}: there is no arm of that name.{known}")
        faults += grid_faults(grid, f"search.arms.{arm}")
    faults += grid_faults(search.grid, "search.grid")
    sizes = {arm: len(list(points(grid))) for arm, grid in search.arms.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{arm} {size}" for arm, size in sizes.items())
        faults.append(
            f"search.arms: every arm gets as many points to choose from; they have {listed}"
        )
    return faults


def points(grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Give the points of the grid; the last key varies fastest."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def grid_faults(grid: Mapping[str, Any], where: str) -> list[str]:
    """Find grid keys that name no setting, and values that are no lists."""
    return _key_faults(grid, where) + [
        f"{where}.{key}: expected a list of values, e.g. [1, 2]"
        for key, values in grid.items()
        if not isinstance(values, list) or not values
    ]


def _key_faults(keys: Iterable[str], where: str) -> list[str]:
    """Find dotted keys that name no setting of a run."""
    faults = []
    for key in keys:
        top = str(key).split(".")[0]
        if top in StudySettings.model_fields and top not in RunSettings.model_fields:
            faults.append(f"{where}.{key}: '{top}' belongs to the study as a whole")
        elif top not in RunSettings.model_fields:
            faults.append(f"{where}.{key}: unknown key.{nearest(top, RunSettings.model_fields)}")
    return faults
