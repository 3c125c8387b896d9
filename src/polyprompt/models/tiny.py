"""Tiny random backbones for tests and dry runs: every family's structure, none of its knowledge."""

import string
from typing import Any

import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import (
    BertConfig,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from polyprompt.capabilities import Attention, BackboneSettings
from polyprompt.models.embedding import EmbeddingBackbone
from polyprompt.models.load import wrap_embedding

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 98,
}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Build a tokenizer whose words are single characters, with begin and end tokens."""
    words = ["<s>", "<pad>", "</s>", "<unk>", *string.ascii_letters, *string.digits, *" .,:!?'-"]
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))  # noqa: S106
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",  # noqa: S106
        pad_token="<pad>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
    )


def tiny_model(kind: str, seed: int = 0, scale: float = 0.3) -> PreTrainedModel:
    """Build a random encoder, ``bert`` or ``xlm-roberta``.

    Args:
        kind: Its ``model_type`` in transformers.
        seed: Of its weights; the global generator is left as it was.
        scale: Standard deviation of the weights, large enough for attention to matter.
    """
    vocabulary = len(tiny_tokenizer())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if kind == "bert":
            config = BertConfig(
                vocab_size=vocabulary, initializer_range=scale, pad_token_id=1, **_SIZES
            )
            return BertModel(config, add_pooling_layer=False).eval()
        config = XLMRobertaConfig(
            vocab_size=vocabulary, initializer_range=scale, pad_token_id=1, **_SIZES
        )
        return XLMRobertaModel(config, add_pooling_layer=False).eval()


def tiny_backbone(
    kind: str = "bert", attention: Attention = Attention.ONE_WAY, seed: int = 0
) -> EmbeddingBackbone:
    """Build a tiny random backbone of the embedding family."""
    settings = BackboneSettings(name=f"tiny:{kind}", attention=attention)
    return wrap_embedding(
        tiny_model(kind, seed), tiny_tokenizer(), settings, identity=f"tiny-{kind}-{seed}"
    )
