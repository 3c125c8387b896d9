"""Where a group's training stands, as tensors and plain values, and how to go on from there.

Everything that the next step depends on is in it: the parts as they are trained (networks that
compute a prompt included), the states that are kept, the optimiser's moments, the position in the
data, the generators, and how much memory allowed to be computed at once. Frozen parameters are not.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from polyprompt.training.loop import Training

_PARTS, _KEPT, _MOMENTS, _GENERATORS = "parts", "kept", "moments", "generators"


def state_of(training: Training) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Name everything that training goes on from.

    Args:
        training: Between two steps. Once it has ended, the parts alone are given.

    Returns:
        Tensors, not copied, by path; and plain values.
    """
    ended = training.ended
    tensors = {
        f"{_PARTS}/{run}/{slot}/{name}": value
        for run, member in enumerate(training.members)
        for slot, part in member.parts.items()
        for name, value in part.state_dict().items()
    }
    values = {
        "step": training.step,
        "ended": ended,
        "least_losses": [best.loss for best in training.best],
        "allowance": [training.engine.allowance.tokens, training.engine.allowance.rows],
    }
    if not ended:
        tensors |= _kept(training) | _moments(training) | _generators(training)
    return tensors, values


def resume(training: Training, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Go on from where another training of the same runs stood.

    Args:
        training: Just built; its parts, optimiser and engine are changed in place.
        tensors: As ``state_of`` named them.
        values: The same.

    Raises:
        KeyError: Something is missing.
        RuntimeError: A shape differs.
    """
    states = _nested(tensors)
    for run, member in enumerate(training.members):
        for slot, part in member.parts.items():
            part.load_state_dict(states[_PARTS][str(run)].get(slot, {}))
    training.step, training.ended = values["step"], values["ended"]
    training.engine.allowance.tokens, training.engine.allowance.rows = values["allowance"]
    for best, loss in zip(training.best, values["least_losses"], strict=True):
        best.loss = loss
    if training.ended:
        return
    for run, state in states.get(_KEPT, {}).items():
        training.best[int(run)].state = {
            slot: {name: value.to(_device(training, int(run), slot)) for name, value in own.items()}
            for slot, own in state.items()
        }
    moments = {int(index): dict(own) for index, own in states.get(_MOMENTS, {}).items()}
    groups = training.optimiser.state_dict()["param_groups"]
    training.optimiser.load_state_dict({"state": moments, "param_groups": groups})
    torch.set_rng_state(states[_GENERATORS]["cpu"])
    if "cuda" in states[_GENERATORS] and torch.cuda.is_available():
        torch.cuda.set_rng_state(states[_GENERATORS]["cuda"], training.engine.backbone.device)


def _kept(training: Training) -> dict[str, Tensor]:
    """Name the states with the least dev loss."""
    return {
        f"{_KEPT}/{run}/{slot}/{name}": value
        for run, best in enumerate(training.best)
        for slot, own in (best.state or {}).items()
        for name, value in own.items()
    }


def _moments(training: Training) -> dict[str, Tensor]:
    """Name what the optimiser remembers of each parameter."""
    return {
        f"{_MOMENTS}/{index}/{name}": value
        for index, own in training.optimiser.state_dict()["state"].items()
        for name, value in own.items()
    }


def _generators(training: Training) -> dict[str, Tensor]:
    """Name the states of the generators that dropout draws from."""
    device = training.engine.backbone.device
    found = {f"{_GENERATORS}/cpu": torch.get_rng_state()}
    if device.type == "cuda":
        found[f"{_GENERATORS}/cuda"] = torch.cuda.get_rng_state(device)
    return found


def _device(training: Training, run: int, slot: str) -> torch.device:
    """Find out where a part is trained; the CPU if it has no tensors."""
    part = training.members[run].parts[slot]
    return next((tensor.device for tensor in part.state_dict().values()), torch.device("cpu"))


def _nested(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Turn names like ``a/b/c`` into mappings of mappings."""
    found: dict[str, Any] = {}
    for path, tensor in tensors.items():
        *front, last = path.split("/")
        place = found
        for name in front:
            place = place.setdefault(name, {})
        place[last] = tensor
    return found
