"""Where a group's training stands, as tensors and plain values, and how to go on from there.

Everything that the next step depends on is in it: the parts as they are trained (networks that
compute a prompt included), the states that are kept, the optimiser's moments, the position in the
data, the generators, and how much memory allowed to be computed at once. Frozen parameters are not.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from polyprompt.engine.memory import Allowance
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
    tensors = _parts(training)
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
        ValueError: It is of other runs. Nothing is changed then.
    """
    states = _nested(tensors)
    _check(training, states, values)
    training.keep_examples()  # as they were kept, before memory allowed less
    for run, member in enumerate(training.members):
        for slot, part in member.parts.items():
            part.load_state_dict(states.get(_PARTS, {}).get(str(run), {}).get(slot, {}))
    training.step, training.ended = values["step"], values["ended"]
    allow_less(training.engine.allowance, *values["allowance"])
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


def allow_less(allowance: Allowance, tokens: int, rows: int | None = None) -> None:
    """Let no more be computed at once than before; what the settings now allow may be less."""
    allowance.tokens = min(allowance.tokens, tokens)
    if rows is not None:
        allowance.rows = min(allowance.rows or rows, rows)


def _check(training: Training, states: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Find out whether a state is of these runs, before anything is changed.

    Raises:
        KeyError: Something is missing.
        ValueError: A part, a tensor or its shape differs.
    """
    for name in ("step", "ended", "least_losses", "allowance"):
        values[name]
    own = _shapes(_nested(_parts(training)).get(_PARTS, {}))
    if _shapes(states.get(_PARTS, {})) != own:
        raise ValueError("the parts have other names or shapes")
    if any(own[run] != shapes for run, shapes in _shapes(states.get(_KEPT, {})).items()):
        raise ValueError("the parts that are kept have other names or shapes")
    if not values["ended"]:
        states[_GENERATORS]["cpu"]
        count = sum(len(member.trained_parameters()) for member in training.members)
        if any(int(index) >= count for index in states.get(_MOMENTS, {})):
            raise ValueError("the optimiser moved other parameters")


def _shapes(states: Mapping[str, Any]) -> dict[str, Any]:
    """Give the shapes of nested tensors."""
    return {
        name: _shapes(value) if isinstance(value, Mapping) else value.shape
        for name, value in states.items()
    }


def _parts(training: Training) -> dict[str, Tensor]:
    """Name everything that is trained, or stays as it is in a trained part."""
    return {
        f"{_PARTS}/{run}/{slot}/{name}": value
        for run, member in enumerate(training.members)
        for slot, part in member.parts.items()
        for name, value in part.state_dict().items()
    }


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
        f"{_MOMENTS}/{index}/{name}": torch.as_tensor(value)  # Adafactor counts in plain numbers
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
