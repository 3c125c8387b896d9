"""Initial values of soft prompts, each a function from a request to vectors in table space."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from polyprompt.errors import ConfigError, DataError
from polyprompt.models.backbone import Backbone

OF_PEFT = "prompt_embeddings"
"""What PEFT calls the numbers of a prompt or a prefix."""


@dataclass(frozen=True)
class InitialRequest:
    """What an initialiser may need.

    Attributes:
        length: Soft tokens wanted (P).
        rng: The run's own generator.
        bound: Half-width of ``uniform``, standard deviation of ``normal``.
        text: Words for ``text``.
        ends: Whether the tokenizer's end token follows these words.
        descriptions: Label descriptions, in the order of the labels.
        path: A saved part for ``file``.
    """

    length: int
    rng: np.random.Generator
    bound: float = 0.5
    text: str | None = None
    ends: bool = False
    descriptions: Sequence[str] = field(default_factory=tuple)
    path: str | None = None


def uniform(backbone: Backbone, request: InitialRequest) -> Float[Tensor, "P D"]:
    """Draw uniformly from ±bound (paper A: 0.5)."""
    shape = (request.length, backbone.facts.width)
    return torch.from_numpy(request.rng.uniform(-request.bound, request.bound, shape)).float()


def normal(backbone: Backbone, request: InitialRequest) -> Float[Tensor, "P D"]:
    """Draw from a normal distribution with standard deviation ``bound``."""
    shape = (request.length, backbone.facts.width)
    return torch.from_numpy(request.rng.normal(0.0, request.bound, shape)).float()


def vocabulary(backbone: Backbone, request: InitialRequest) -> Float[Tensor, "P D"]:
    """Take the embeddings of random words of the vocabulary (Lester et al. 2021, section 2.2)."""
    tokenizer = backbone.tokenizer
    special = set(tokenizer.all_special_ids)
    words = np.array(sorted(i for i in set(tokenizer.get_vocab().values()) if i not in special))
    ids = request.rng.choice(words, request.length, replace=len(words) < request.length)
    return _rows(backbone, ids.tolist())


def text(backbone: Backbone, request: InitialRequest) -> Float[Tensor, "P D"]:
    """Take the embeddings of a text's pieces, repeated to the length.

    Raises:
        ConfigError: No text is given.
    """
    pieces = _pieces(backbone, request.text or "")
    end = backbone.tokenizer.eos_token_id
    pieces += [end] if pieces and request.ends and isinstance(end, int) else []
    if not pieces:
        raise ConfigError("initial.kind=text needs words: set initial.text.")
    return _rows(backbone, [pieces[i % len(pieces)] for i in range(request.length)])


def descriptions(backbone: Backbone, request: InitialRequest) -> Float[Tensor, "P D"]:
    """Take pieces of the label descriptions, one of each label in turn.

    Raises:
        ConfigError: The prompt is too short to hold a piece of every label.
    """
    queues = [_pieces(backbone, words) for words in request.descriptions]
    if request.length < len(queues):
        raise ConfigError(
            f"A prompt of length {request.length} cannot hold {len(queues)} label descriptions. "
            f"Set its length to {len(queues)} or more, or choose another initial value."
        )
    turns = [(i % len(queues), i // len(queues)) for i in range(request.length)]
    return _rows(backbone, [queues[label][n % len(queues[label])] for label, n in turns])


def file(backbone: Backbone, request: InitialRequest) -> Float[Tensor, "P D"]:
    """Take a part saved by an earlier run, or by PEFT, whose rows stand behind the look-up's scale.

    Raises:
        DataError: The file is missing, broken, or of another shape.
    """
    path = request.path or ""
    saved = saved_prompt(path)
    weight = saved["weight"].float()
    weight = weight / backbone.look_up_scale if OF_PEFT in saved else weight
    expected = (request.length, backbone.facts.width)
    if tuple(weight.shape) != expected:
        raise DataError(
            f"The soft prompt {path} has shape {tuple(weight.shape)}; expected {expected} (length, "
            "width of the backbone)."
        )
    return weight


def saved_prompt(path: str) -> dict[str, Tensor]:
    """Read a part saved by an earlier run, or a prompt or prefix saved by PEFT.

    Returns:
        ``weight``, and what else the file has.

    Raises:
        DataError: The file is missing, broken, or no soft prompt.
    """
    try:
        saved = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(_no_prompt(path, error)) from error
    if OF_PEFT in saved:
        saved["weight"] = saved[OF_PEFT].float()
    if "weight" not in saved:
        raise DataError(_no_prompt(path, "it has no 'weight'"))
    return saved


def _no_prompt(path: str, reason: object) -> str:
    """Say that a file is no soft prompt."""
    return (
        f"Cannot read the prompt {path}: {reason}. Expected a safetensors file with 'weight', "
        f"as runs save it under parts/, or with '{OF_PEFT}' (PEFT's adapter_model.safetensors)."
    )


Initialiser = Callable[[Backbone, InitialRequest], Tensor]
INITIALISERS: dict[str, Initialiser] = {
    "uniform": uniform,
    "normal": normal,
    "vocabulary": vocabulary,
    "text": text,
    "descriptions": descriptions,
    "file": file,
}


def _pieces(backbone: Backbone, words: str) -> list[int]:
    """Tokenize words without the special tokens."""
    return backbone.tokenizer([words], add_special_tokens=False)["input_ids"][0]  # type: ignore[index]


def _rows(backbone: Backbone, ids: list[int]) -> Float[Tensor, "P D"]:
    """Look words up in the table."""
    return backbone.embed(torch.tensor(ids, device=backbone.device)).detach().float().cpu()
