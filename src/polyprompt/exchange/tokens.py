"""A plain checkpoint whose vocabulary has a prompt: any program that loads the model can use it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polyprompt.errors import ConfigError
from polyprompt.tables import cannot_write


def token_names(slot: str, length: int) -> list[str]:
    """Name the words that a slot's soft tokens become."""
    return [f"<|{slot}:{number}|>" for number in range(length)]


@torch.no_grad()
def write_checkpoint(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    names: Sequence[str],
    rows: Float[Tensor, "P D"],
    folder: Path,
) -> list[int]:
    """Write a model and its tokenizer with new words.

    A language-model head of its own gets rows of zeros for them: their logits say nothing, and
    those of all other words stay as they were.

    Args:
        model: Changed in place; load it anew for anything else.
        tokenizer: Changed in place.
        names: Of the new words.
        rows: Their embeddings, in the space of the word table.
        folder: For the checkpoint.

    Returns:
        The ids of the new words.

    Raises:
        ConfigError: The vocabulary has one of these words.
        StoreError: The folder cannot be written.
    """
    known = [name for name in names if name in tokenizer.get_vocab()]
    if known:
        raise ConfigError(f"The vocabulary has the word {known[0]}; name the slot otherwise.")
    tokenizer.add_tokens(list(names), special_tokens=True)
    vocabulary = tokenizer.get_vocab()
    ids = [int(vocabulary[name]) for name in names]
    table = model.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    if max(ids) >= table.num_embeddings:
        model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    table = model.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    table.weight[ids] = rows.to(table.weight)
    head = model.get_output_embeddings()
    if head is not None and head.weight.data_ptr() != table.weight.data_ptr():
        head.weight[ids] = 0
        if getattr(head, "bias", None) is not None:
            head.bias[ids] = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return ids
