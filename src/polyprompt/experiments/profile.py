"""What a study's stages cost: rates, padding, and the share of what the processor could do."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from polyprompt.models.work import peak_multiplications
from polyprompt.report.score_tables import Table

_COLUMNS = ("stage", "seconds", "sentences/s", "tokens/s", "padding", "of peak")


def profile_table(records: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> Table:
    """Tabulate the stages of groups of runs.

    Args:
        records: ``run.json`` of one run of each group.
        config: Of one of them, for precision and device.
    """
    backbone = config["backbone"]
    peaks = {
        kind: peak_multiplications(torch.device(backbone["device"]), getattr(torch, kind))
        for kind in {backbone["dtype"], backbone["reading_dtype"] or backbone["dtype"]}
    }
    rows = []
    for record in records:
        for stage, seconds in record["group_seconds"].items():
            kind = backbone["dtype"] if stage in {"prepare", "train"} else None
            peak = peaks[kind or backbone["reading_dtype"] or backbone["dtype"]]
            rows.append(_row(stage, seconds, record["group_work"][stage], peak))
    shown = ", ".join(f"{kind} {peak * 2 / 1e9:.0f} GFLOP/s" for kind, peak in peaks.items())
    return Table(f"Profile (peak measured now: {shown})", _COLUMNS, tuple(rows), "lrrrrr")


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
