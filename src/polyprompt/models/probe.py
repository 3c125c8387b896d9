"""Refuses at start-up a model whose cached path is not its whole forward pass."""

import numpy as np
import torch
from torch import Tensor

from polyprompt.errors import BackboneError
from polyprompt.models.backbone import Backbone
from polyprompt.models.blocks import lay_out
from polyprompt.models.causal import CausalBackbone
from polyprompt.models.seq2seq import Seq2SeqBackbone
from polyprompt.models.values import Part

ENCODER_TOLERANCE = 1e-3
CAUSAL_TOLERANCE = 1e-4
HALF_PRECISION_TOLERANCE = 5e-2
LONGEST_PROBED_WINDOW = 1024

_FAILURES = (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError)


def probe_encoder(backbone: Backbone, tolerance: float = ENCODER_TOLERANCE) -> None:
    """Refuse an encoder whose cached one-way path differs from its whole forward pass.

    Raises:
        BackboneError: The greatest relative difference is above ``tolerance``.
    """
    ids = torch.arange(4, 10, device=backbone.device)[None] % backbone.table.shape[0]
    text, soft = backbone.embed(ids[:, :4]), backbone.embed(ids[:, 4:])
    places = torch.arange(6, device=backbone.device)[None]
    see = torch.ones(1, 6, 6, dtype=torch.bool, device=backbone.device)
    see[:, :4, 4:] = False
    try:
        with torch.no_grad():
            whole = backbone.forward(torch.cat([text, soft], 1), places, see)[:, 4:]
            before = lay_out([[4]], np.arange(4), backbone.device, causal=False)
            frozen = backbone.encode(text[0], before)
            behind = lay_out([[2]], np.arange(4, 6), backbone.device, causal=False)
            cached = backbone.extend(soft[0], [Part(behind, frozen)])[None]
    except _FAILURES as error:
        raise BackboneError(
            f"{backbone.facts.name} cannot be run with one-way attention "
            f"({_first_line(error)}). Set backbone.attention=full."
        ) from error
    _check(backbone, cached, whole, tolerance, "Set backbone.attention=full.")


def probe_decoder(backbone: CausalBackbone, tolerance: float = CAUSAL_TOLERANCE) -> None:
    """Refuse a decoder whose cached path differs from transformers' own pass, sentence by sentence.

    Texts of several lengths, one of them longer than a short sliding window, are padded, encoded
    once and read by two runs side by side; the reference reads each alone, without padding, cache
    or mask of ours.

    Raises:
        BackboneError: The greatest relative difference, of the last states or of the next word's
            scores, is above ``tolerance``.
    """
    lengths = [5, 1, 3]
    window = backbone.window
    if window is not None and window <= LONGEST_PROBED_WINDOW:
        lengths.append(window + 3)
    advice = "This model cannot be used; other members of the causal family can."
    try:
        with torch.no_grad():
            pairs = [_two_runs(backbone, part) for part in (lengths[:3], lengths[3:]) if part]
            scores = _scores(backbone)
    except _FAILURES as error:
        raise BackboneError(
            f"{backbone.facts.name} cannot be run on cached texts ({_first_line(error)}). {advice}"
        ) from error
    for ours, theirs in pairs:
        _check(backbone, ours, theirs, tolerance, advice)
    _check(backbone, *scores, tolerance, advice, "score of the next word")


def probe_seq2seq(backbone: Seq2SeqBackbone, tolerance: float = CAUSAL_TOLERANCE) -> None:
    """Refuse an encoder with a decoder that computes something else than transformers' own pass.

    Three texts of several lengths are encoded together and answered by two runs side by side.

    Raises:
        BackboneError: The greatest relative difference, of the encoder's states or of the scores of
            what follows the decoder's tokens, is above ``tolerance``.
    """
    lengths, words = [5, 1, 3], len(backbone.table)
    texts = [torch.arange(4, 4 + n, device=backbone.device) % words for n in lengths]
    behind = torch.tensor([backbone.start_token, 5 % words, 6 % words], device=backbone.device)
    places = np.concatenate([np.arange(n) for n in lengths])
    blocks = lay_out([[n] for n in lengths], places, backbone.device, causal=False)
    live = lay_out([[3, 2]] * 3, np.tile([0, 1, 2, 0, 1], 3), backbone.device, causal=True)
    advice = "This model cannot be used; T5 and mT5 can."
    try:
        with torch.no_grad():
            frozen = backbone.encode(backbone.embed(torch.cat(texts)), blocks)
            asked = torch.cat([behind, behind[:2]] * 3)
            states = backbone.extend(backbone.embed(asked), [Part(live, frozen)])
            ours = backbone.unembed(states).unflatten(0, (3, 5))
            theirs = [backbone.reference(text, behind) for text in texts]
    except _FAILURES as error:
        raise BackboneError(
            f"{backbone.facts.name} cannot be run ({_first_line(error)}). {advice}"
        ) from error
    for row, (scores, read) in enumerate(theirs):
        _check(backbone, frozen.hidden[row, : lengths[row]], read, tolerance, advice, "encoder")
        both = torch.cat([scores, scores[:2]])
        _check(backbone, ours[row], both, tolerance, advice, "decoder")


def _two_runs(backbone: CausalBackbone, lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Read text and either of two continuations, both ways; their last tokens' states, N D."""
    device, vocabulary = backbone.device, backbone.table.shape[0]
    ids = (torch.arange(sum(lengths), device=device) * 7 + 11) % vocabulary
    texts = ids.split(lengths)
    places = np.concatenate([np.arange(size) for size in lengths])
    before = lay_out([[size] for size in lengths], places, device, causal=True)
    frozen = backbone.encode(backbone.embed(ids), before)
    runs = torch.tensor([[5, 17], [23, 41]], device=device) % vocabulary
    behind = np.concatenate([size + np.array([0, 1, 0, 1]) for size in lengths])
    blocks = lay_out([[2, 2]] * len(lengths), behind, device, causal=True)
    live = backbone.embed(runs.flatten().repeat(len(lengths)))
    states = backbone.extend(live, [Part(blocks, frozen)])
    theirs = [backbone.reference_state(torch.cat([text, run])) for text in texts for run in runs]
    return states[1::2], torch.stack(theirs)


def _scores(backbone: CausalBackbone) -> tuple[Tensor, Tensor]:
    """Score the whole vocabulary after a few tokens, both ways; 1 V."""
    ids = torch.tensor([5, 17, 23], device=backbone.device) % backbone.table.shape[0]
    state = backbone.reference_state(ids)
    return backbone.unembed(state[None]), backbone.reference(ids)[None]


def _check(
    backbone: Backbone,
    ours: Tensor,
    theirs: Tensor,
    tolerance: float,
    advice: str,
    what: str = "cached path",
) -> None:
    """Refuse a difference that is too large for the precision."""
    difference = float((theirs - ours).abs().max() / theirs.abs().max().clamp(min=1e-9))
    limit = tolerance if backbone.is_exact else HALF_PRECISION_TOLERANCE
    if not difference <= limit:
        raise BackboneError(
            f"{backbone.facts.name}: the {what} differs from the whole forward pass by "
            f"{difference:.1e} (allowed {limit:.0e}). {advice}"
        )


def _first_line(error: Exception) -> str:
    """Give an error's type and the first line of its message."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
