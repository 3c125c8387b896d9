"""In which precision texts are read."""

from functools import lru_cache

import torch

from polyprompt.capabilities import BackboneSettings, Dtype
from polyprompt.models.work import peak_multiplications

LEAST_GAIN = 1.5


def reading_dtype(settings: BackboneSettings) -> Dtype:
    """Give the precision of the copy that reads texts; ``auto`` is found out by measuring."""
    if settings.reading_dtype != "auto":
        return settings.reading_dtype or settings.dtype
    return "bfloat16" if is_faster_in_bfloat16(settings.device) else settings.dtype


@lru_cache
def is_faster_in_bfloat16(device: str) -> bool:
    """Find out whether a processor has bfloat16: products are then far faster in it."""
    place = torch.device(device)
    half, whole = (peak_multiplications(place, t) for t in (torch.bfloat16, torch.float32))
    return half > LEAST_GAIN * whole
