"""Looks into the layers of a backbone while it reads inputs under one run's prompts.

Slow and padded, by transformers' eager attention: nothing that trains or answers comes this way.

Axes: N inputs, L layers, E = L + 1 states, D width, H heads, T tokens of an input, S soft tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from polyprompt.data.encoded import Encoded
from polyprompt.engine.arrangement import Arranged, Shape, arrange
from polyprompt.engine.engine import Engine
from polyprompt.engine.live import Live
from polyprompt.engine.memory import in_batches
from polyprompt.families import Attention
from polyprompt.models import padded
from polyprompt.models.values import Inside


@dataclass(frozen=True)
class Looked:
    """What the layers did with inputs.

    Attributes:
        text: Mean over the fields' tokens of what enters the first layer and leaves each.
        answer: The states that the head reads, pooled as it pools them, layer by layer.
        attention: Mean weight that each of ``records.READERS`` gives to each of ``records.KINDS``,
            per layer and head; not a number where an input has no such tokens.
    """

    text: Float[np.ndarray, "N E D"]
    answer: Float[np.ndarray, "N E D"]
    attention: Float[np.ndarray, "N L H 3 3"]


@torch.no_grad()
def look_inside(
    engine: Engine, inputs: Sequence[Encoded], vectors: Float[Tensor, "S D"], lengths: Sequence[int]
) -> Looked:
    """Read inputs under one run's prompts and look into every layer.

    Args:
        engine: Its backbone reads.
        inputs: At least one.
        vectors: The run's soft tokens, slots one after the other.
        lengths: Soft tokens of each slot.

    Raises:
        BackboneError: The model does not show its attention.
    """
    live = len(vectors)
    sizes = [encoded.tokens + live for encoded in inputs]
    found: list[Looked] = []
    order: list[int] = []
    for rows, looked in in_batches(
        engine.allowance,
        sizes,
        lambda rows: _look_as(engine, [inputs[row] for row in rows], vectors, lengths),
    ):
        order += rows
        found.append(looked)
    return _joined(found, order)


def _look_as(
    engine: Engine, inputs: Sequence[Encoded], vectors: Tensor, lengths: Sequence[int]
) -> Looked:
    """Look at some inputs, each with the frozen attachments of its own language."""
    found: list[Looked] = []
    order: list[int] = []
    for variant in dict.fromkeys(encoded.variant for encoded in inputs):
        rows = [row for row, encoded in enumerate(inputs) if encoded.variant == variant]
        with engine.backbone.reading_as(variant):
            found.append(_look(engine, [inputs[row] for row in rows], vectors, lengths))
        order += rows
    return _joined(found, order)


def _joined(found: Sequence[Looked], order: Sequence[int]) -> Looked:
    """Put several lots of inputs back into their order."""
    back = np.argsort(order)
    return Looked(
        np.concatenate([one.text for one in found])[back],
        np.concatenate([one.answer for one in found])[back],
        np.concatenate([one.attention for one in found])[back],
    )


def _look(
    engine: Engine, inputs: Sequence[Encoded], vectors: Tensor, lengths: Sequence[int]
) -> Looked:
    """Look at some inputs."""
    backbone, attention = engine.backbone, engine.backbone.facts.attention
    rows = [_arranged(encoded, lengths, attention) for encoded in inputs]
    tokens = Live.of([[row] for row in rows], [[0]] * len(rows), ())
    kinds = tokens.reached.astype(np.int64) if attention is Attention.ONE_WAY else None
    causal = attention is Attention.CAUSAL
    blocks = tokens.blocks(backbone.device, causal=causal, kinds=kinds)
    x = engine.look_up(torch.from_numpy(tokens.codes).to(backbone.device), vectors)
    inside = backbone.look_inside(
        padded.rows(blocks, x), padded.places(blocks), padded.pattern(blocks)
    )
    of_kind = _kinds([*zip(inputs, rows, strict=True)], lengths, inside.states[0])
    read = _read(rows, of_kind.any(0), last=backbone.facts.pooling == "last")
    readers = torch.stack([of_kind[0], of_kind[1], read])
    return Looked(
        _pooled(inside, of_kind[0]), _pooled(inside, read), _masses(inside, readers, of_kind)
    )


def _arranged(encoded: Encoded, lengths: Sequence[int], attention: Attention) -> Arranged:
    """Lay one input out; nothing of it is frozen."""
    row = arrange(encoded, Shape(tuple(lengths)), attention)
    return replace(row, frozen=np.zeros(len(row.codes), dtype=bool))


def _kinds(
    pairs: Sequence[tuple[Encoded, Arranged]], lengths: Sequence[int], like: Tensor
) -> Bool[Tensor, "3 B T"]:
    """Say which tokens of padded rows are of which of ``records.KINDS``."""
    found = np.zeros((3, *like.shape[:2]), dtype=bool)
    for index, (encoded, row) in enumerate(pairs):
        own = _own(encoded, lengths)
        soft = row.codes < 0
        found[:, index, : len(own)] = own, soft, ~(own | soft)
    return torch.from_numpy(found).to(like.device)


def _own(encoded: Encoded, lengths: Sequence[int]) -> NDArray[np.bool_]:
    """Say which tokens of an arranged input are the example's own."""
    pieces = [encoded.own[0]]
    for index, run in enumerate(encoded.own[1:]):
        pieces += [np.zeros(lengths[index] if lengths else 0, dtype=bool), run]
    return np.concatenate(pieces)


def _read(rows: Sequence[Arranged], real: Bool[Tensor, "B T"], *, last: bool) -> Tensor:
    """Say which tokens the head reads: the last of each row, or all real ones."""
    if not last:
        return real
    ends = torch.tensor([len(row.codes) - 1 for row in rows], device=real.device)
    return torch.arange(real.shape[1], device=real.device)[None] == ends[:, None]


def _pooled(inside: Inside, which: Bool[Tensor, "B T"]) -> Float[np.ndarray, "B E D"]:
    """Average the states of some tokens, layer by layer."""
    weights = which.float() / which.sum(1, keepdim=True).clamp(min=1)
    layers = [torch.einsum("bt,btd->bd", weights, one.float()) for one in inside.states]
    return torch.stack(layers, dim=1).cpu().numpy()


def _masses(
    inside: Inside, readers: Bool[Tensor, "3 B T"], kinds: Bool[Tensor, "3 B T"]
) -> Float[np.ndarray, "B L H 3 3"]:
    """Average the attention that readers give to kinds of tokens, layer by layer."""
    weights = readers.float() / readers.sum(2, keepdim=True)  # 0 / 0 where there is none
    layers = [
        torch.einsum("qbs,bhst,kbt->bhqk", weights, one.float(), kinds.float())
        for one in inside.attention
    ]
    return torch.stack(layers, dim=1).cpu().numpy()
