"""Nested settings under dotted names."""

from collections.abc import Mapping, Sequence
from typing import Any


def dotted(config: Mapping[str, Any], key: str) -> Any:
    """Look ``a.b.c`` up in nested mappings; None where there is none."""
    value: Any = config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Write nested settings with dotted names."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def varying(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name what differs between flat configurations."""
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if len({repr(config.get(key)) for config in configs}) > 1]
