"""What a study's stages cost: rates, padding, and the share of what the processor could do."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from polyprompt.experiments.store import RunFolder
from polyprompt.models.work import peak_multiplications
from polyprompt.report.score_tables import Table

_COLUMNS = ("stage", "seconds", "sentences/s", "tokens/s", "padding", "of peak")


def profile_table(folders: Sequence[RunFolder]) -> Table:
    """Tabulate the stages of the groups that runs were computed in.

    Args:
        folders: The runs; of each group one counts, and none that was written without its work.
    """
    peaks: dict[tuple[str, str], float] = {}
    rows = []
    for folder in {folder.record().get("group"): folder for folder in folders}.values():
        record, backbone = folder.record(), folder.config()["backbone"]
        for stage, work in record.get("group_work", {}).items():
            kind = "dtype" if stage in {"prepare", "train"} else "reading_dtype"
            key = _device(backbone), backbone[kind]
            if key not in peaks:
                peaks[key] = peak_multiplications(torch.device(key[0]), getattr(torch, key[1]))
            rows.append(_row(stage, record["group_seconds"][stage], work, peaks[key]))
    shown = ", ".join(f"{k[1]} on {k[0]} {p * 2 / 1e9:.0f} GFLOP/s" for k, p in peaks.items())
    return Table(f"Profile (peak measured now: {shown})", _COLUMNS, tuple(rows), "lrrrrr")


def _device(backbone: Mapping[str, Any]) -> str:
    """Name the device that computes; one of several where a model is spread."""
    spread = backbone.get("device_map") is not None and torch.cuda.is_available()
    return "cuda" if spread else backbone["device"]


def _row(
    stage: str, seconds: float, work: Mapping[str, int], peak: float
) -> tuple[str, str, str, str, str, str]:
    """Write one stage."""
    if not work["tokens"] or not seconds:
        return stage, f"{seconds:.1f}", "", "", "", ""
    return (
        stage,
        f"{seconds:.1f}",
        f"{work['sentences'] / seconds:.1f}",
        f"{work['tokens'] / seconds:.0f}",
        f"{1 - work['tokens'] / work['slots']:.1%}",
        f"{work['multiplications'] / seconds / peak:.0%}",
    )
