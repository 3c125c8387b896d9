"""What a run cost: trained parameters, bytes on disk, seconds and tokens per stage, memory."""

import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from polyprompt.models.backbone import Backbone

_PEAK = "VmHWM:"


def forget_peak_memory(backbone: Backbone) -> None:
    """Begin to measure the most memory used anew, where the system allows."""
    if backbone.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(backbone.device)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return  # not Linux, or not allowed: the peak is then the process's, not the group's


def peak_memory_bytes(backbone: Backbone) -> dict[str, int]:
    """Measure the most memory used since ``forget_peak_memory``, the process's own included.

    Returns:
        Bytes on the ``host`` and, where there is one, on the ``device``.
    """
    peak = {"host": _host_peak()}
    if backbone.device.type == "cuda":
        peak["device"] = torch.cuda.max_memory_allocated(backbone.device)
    return peak


def _host_peak() -> int:
    """Read the process's peak: Linux's own count, else what POSIX keeps since the start."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(_PEAK):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def account(
    record: Mapping[str, Any], costs: Mapping[str, Any], parts: Path, peak: Mapping[str, int]
) -> dict[str, Any]:
    """Give a run's share of what its group cost.

    Args:
        record: The run's ``run.json``.
        costs: Seconds and work per stage of its group.
        parts: The folder of its tensors.
        peak: Memory, of the whole group.
    """
    runs = record["group_runs"]
    stages = {
        stage: {
            "seconds": round(seconds / runs, 4),
            "tokens": round(costs["group_work"][stage]["tokens"] / runs),
        }
        for stage, seconds in costs["group_seconds"].items()
    }
    return {
        "trained_parameters": record["trained_parameters"],
        "trained_share": record["trained_parameters"] / record["backbone_parameters"],
        "stored_bytes": sum(p.stat().st_size for p in parts.glob("*.safetensors")),
        "stages": stages,
        "peak_memory_bytes": dict(peak),
    }
