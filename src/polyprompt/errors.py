"""Errors a person can cause: each says what was wrong, where, what was expected and what to do."""

import difflib
from collections.abc import Iterable, Sequence


class PolypromptError(Exception):
    """Base of all errors that the command line shows as a message instead of a traceback."""


class ConfigError(PolypromptError):
    """A study, an override or a task card that cannot be understood or does not fit together."""


class LayoutError(ConfigError):
    """A layout that cannot be parsed or names what does not exist."""


class DataError(PolypromptError):
    """A data set whose file, columns, labels or texts are not as the task card says."""


class BackboneError(PolypromptError):
    """A backbone that cannot be found, fetched, read or used as asked."""


class StoreError(PolypromptError):
    """A run folder that cannot be read or written."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant.

    Returns:
        ``" Did you mean 'x'?"`` with a leading space, or an empty string if nothing is near.
    """
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{matches[0]}'?" if matches else ""


def listing(names: Sequence[str], most: int = 8) -> str:
    """Join names for a message, cut off after ``most`` of them."""
    shown = ", ".join(names[:most])
    return f"{shown}, … ({len(names)} in all)" if len(names) > most else shown


def all_faults(title: str, faults: Sequence[str]) -> str:
    """Compose one message from all faults found, so that they are mended in one go."""
    if len(faults) == 1:
        return f"{title}: {faults[0]}"
    return "\n".join([f"{title}: {len(faults)} faults", *(f"  - {fault}" for fault in faults)])
