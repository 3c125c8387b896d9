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


def file_edges(path: Path, edge_bytes: int = 2**20) -> list[int | str]:
    """Give a file's size and the hash of its beginning and end: quick, and copies stay the same."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        digest.update(stream.read(edge_bytes))
        stream.seek(max(size - edge_bytes, 0))
        digest.update(stream.read(edge_bytes))
    return [size, digest.hexdigest()]
