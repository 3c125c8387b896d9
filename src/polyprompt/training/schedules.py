"""Learning-rate schedules: a factor of the peak rate for every step."""

import math


def rate_factor(schedule: str, step: int, steps: int, warmup_share: float) -> float:
    """Compute the factor of the peak learning rate at a step.

    Args:
        schedule: ``linear`` (to 0), ``cosine`` (to 0) or ``constant``, after a linear warm-up.
        step: Steps taken before this one, from 0.
        steps: Steps in all.
        warmup_share: Share of all steps in which the rate rises.

    Returns:
        A number in [0, 1]; the same as transformers' schedules give.
    """
    warmup = math.ceil(warmup_share * steps)
    if step < warmup:
        return step / max(1, warmup)
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    if schedule == "linear":
        return max(0.0, 1.0 - done)
    if schedule == "cosine":
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * done)))
    return 1.0
