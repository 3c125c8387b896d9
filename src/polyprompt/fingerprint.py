"""Short names for configurations and contents: equal things have equal fingerprints."""

import hashlib
import json
from pathlib import Path
from typing import Any


def fingerprint(value: Any, length: int = 16) -> str:
    """Hash a JSON-like value independently of the order of its keys.

    Returns:
        The first ``length`` hexadecimal digits of the SHA-256 of its canonical JSON.
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def file_sha256(path: Path) -> str:
    """Hash a file's bytes with SHA-256 (64 hexadecimal digits)."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
