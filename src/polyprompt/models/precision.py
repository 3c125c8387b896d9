"""In which precision texts are read."""

from functools import lru_cache

import torch

from polyprompt.capabilities import BackboneSettings, Dtype
from polyprompt.errors import BackboneError
from polyprompt.models.work import peak_multiplications

LEAST_GAIN = 1.5
TURNS = 3


def reading_dtype(settings: BackboneSettings) -> Dtype:
    """Give the precision of the copy that reads texts; ``auto`` is found out by measuring.

    Raises:
        BackboneError: It is to be measured on a device that is not there.
    """
    if settings.reading_dtype != "auto":
        return settings.reading_dtype or settings.dtype
    if settings.dtype != "float32":
        return settings.dtype
    check_device(settings.device)
    return "bfloat16" if is_faster_in_bfloat16(settings.device) else "float32"


def check_device(device: str) -> None:
    """Refuse a device that is not there before gigabytes are loaded for it.

    Raises:
        BackboneError: There is no such device here.
    """
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BackboneError(
            f"There is no device '{device}' here (backbone.device): "
            f"{next(iter(str(error).splitlines()), '')}. Use cpu, or cuda where PyTorch sees a GPU."
        ) from error


@lru_cache
def is_faster_in_bfloat16(device: str) -> bool:
    """Find out whether a processor has bfloat16: products are then far faster in it.

    The two take turns, so that what else the machine does meanwhile slows both.
    """
    place, kinds = torch.device(device), (torch.bfloat16, torch.float32)
    turns = [[peak_multiplications(place, kind, times=3) for kind in kinds] for _ in range(TURNS)]
    half, whole = map(max, zip(*turns, strict=True))
    return half > LEAST_GAIN * whole
