"""Tiny random backbones for tests and dry runs: every family's structure, none of its knowledge."""

import string
from collections.abc import Callable
from typing import Any

import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    BloomConfig,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    XGLMConfig,
    XLMRobertaConfig,
)

from polyprompt.capabilities import Attention, BackboneSettings
from polyprompt.models.backbone import Backbone
from polyprompt.models.load import wrap
from polyprompt.models.locate import Location

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 98,
}


def tiny_tokenizer(*, masks: bool = False) -> PreTrainedTokenizerFast:
    """Build a tokenizer whose words are single characters, with begin and end tokens.

    Args:
        masks: Whether it has a mask, too.
    """
    words = [
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        *string.ascii_letters,
        *string.digits,
        *" .,:!?'-",
        *(["<mask>"] if masks else []),
    ]
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
        mask_token="<mask>" if masks else None,
    )


def _config(kind: str, vocabulary: int, scale: float) -> PreTrainedConfig:
    """Compose a tiny configuration of a kind, with all that is odd about it."""
    common: dict[str, Any] = {
        "vocab_size": vocabulary,
        "initializer_range": scale,
        "pad_token_id": 1,
    }
    common |= {"bos_token_id": 0, "eos_token_id": 2}
    grouped: dict[str, Any] = _SIZES | {"num_key_value_heads": 2, "head_dim": 8}
    narrow: dict[str, Any] = {"sliding_window": 6}
    wide: dict[str, Any] = grouped | {"head_dim": 12}
    configs: dict[str, Callable[[], PreTrainedConfig]] = {
        "bert": lambda: BertConfig(**common, **_SIZES),
        "xlm-roberta": lambda: XLMRobertaConfig(**common, **_SIZES),
        "bloom": lambda: BloomConfig(**common, hidden_size=32, n_layer=3, n_head=4),
        "xglm": lambda: XGLMConfig(
            vocab_size=vocabulary, init_std=scale, pad_token_id=1, bos_token_id=0, eos_token_id=2,
            d_model=32, ffn_dim=48, num_layers=3, attention_heads=4, max_position_embeddings=98,
        ),
        "llama": lambda: LlamaConfig(**common, **grouped),
        "llama_wide": lambda: LlamaConfig(**common, **wide),
        "gpt2": lambda: GPT2Config(**common, n_embd=32, n_layer=3, n_head=4, n_positions=98),
        "gemma3_text": lambda: Gemma3TextConfig(
            **common, **grouped, **narrow,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        ),
        "qwen3": lambda: Qwen3Config(**common, **grouped),
        "mistral": lambda: MistralConfig(**common, **grouped, **narrow),
        "opt": lambda: OPTConfig(
            vocab_size=vocabulary, init_std=scale, pad_token_id=1, bos_token_id=0, eos_token_id=2,
            hidden_size=32, ffn_dim=48, num_hidden_layers=3, num_attention_heads=4,
            max_position_embeddings=98, word_embed_proj_dim=16, dropout=0.0,
        ),
    }  # fmt: skip
    return configs[kind]()


MASKED = "-masked"

ODD_DECODERS = ("llama_wide",)
"""Kinds of tiny decoders with heads wider than their share of the width."""

DECODERS = ("bloom", "xglm", "llama", "gpt2", "gemma3_text", "qwen3", "mistral", "opt")
"""Kinds of tiny decoders."""


def tiny_model(kind: str, seed: int = 0, scale: float = 0.3) -> PreTrainedModel:
    """Build a random model.

    Args:
        kind: Its ``model_type`` in transformers: ``bert``, ``xlm-roberta`` (with ``MASKED`` behind
            it: with its language-model head), or one of ``DECODERS``.
        seed: Of its weights; the global generator is left as it was.
        scale: Standard deviation of the weights, large enough for attention to matter.
    """
    of_masks = kind.endswith(MASKED)
    config = _config(kind.removesuffix(MASKED), len(tiny_tokenizer(masks=of_masks)), scale)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if kind in DECODERS + ODD_DECODERS:
            return AutoModelForCausalLM.from_config(config).eval()
        if of_masks:
            return AutoModelForMaskedLM.from_config(config).eval()
        return AutoModel.from_config(config, add_pooling_layer=False).eval()


def tiny_backbone(
    kind: str = "bert", attention: Attention | None = None, seed: int = 0, **settings: Any
) -> Backbone:
    """Build a tiny random backbone.

    Args:
        kind: As for ``tiny_model``.
        attention: The family's default where None.
        seed: Of its weights.
        settings: Further settings of the backbone.
    """
    family = "causal" if kind in DECODERS + ODD_DECODERS else "embedding"
    family = "masked" if kind.endswith(MASKED) else family
    place = Location("folder", kind, f"tiny-{kind}-{seed}", family, kind)
    asked = BackboneSettings(name=f"tiny:{kind}", attention=attention, **settings)
    tokenizer = tiny_tokenizer(masks=family == "masked")
    return wrap(tiny_model(kind, seed), tokenizer, asked, place)
