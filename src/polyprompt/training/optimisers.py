"""Builds the one optimiser that moves all runs of a group, each at its own rate."""

from collections.abc import Sequence
from typing import Any

import torch

from polyprompt.training.member import Member


def make_optimiser(members: Sequence[Member]) -> torch.optim.Optimizer:
    """Build an optimiser with a group of parameters per run and rate.

    Adafactor is set as paper C has it: no relative step, no scaling by the parameters, no first
    moment; its updates are clipped to a root mean square of 1 (Shazeer and Stern 2018).

    Args:
        members: Runs that ask for one kind of optimiser.
    """
    groups: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": rate,
            "peak": rate,
            "run": run,
            "weight_decay": member.settings.weight_decay,
        }
        for run, member in enumerate(members)
        for rate, parameters in member.parameters_by_rate().items()
    ]
    groups = groups or [{"params": [], "lr": 0.0, "peak": 0.0, "run": 0}]  # nothing is trained
    if members and members[0].settings.optimiser == "adafactor":
        from transformers.optimization import Adafactor

        return Adafactor(groups, scale_parameter=False, relative_step=False, warmup_init=False)
    return torch.optim.AdamW(groups)
