"""Tiny random backbones for tests and dry runs: every family's structure, none of its knowledge."""

import string
from collections.abc import Callable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    BertConfig,
    BloomConfig,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    MT5Config,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    T5Config,
    XGLMConfig,
    XLMRobertaConfig,
)

from polyprompt.capabilities import BackboneSettings
from polyprompt.families import Attention
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


_SEQ2SEQ: dict[str, Any] = {
    "d_model": 32, "d_kv": 12, "d_ff": 48, "num_layers": 3, "num_decoder_layers": 2,
    "num_heads": 4, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20,
    "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip
"""Heads of T5 may be wider than their share of the width."""


def tiny_tokenizer(*, masks: bool = False, sentinels: int = 0) -> PreTrainedTokenizerFast:
    """Build a tokenizer whose words are single characters, with begin and end tokens.

    Args:
        masks: Whether it has a mask, too.
        sentinels: How many of T5's words that stand for spans it has; with them it puts nothing in
            front of a text, as T5's.
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
        *(f"<extra_id_{number}>" for number in range(sentinels)),
    ]
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))  # noqa: S106
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>" if sentinels else "<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.decoder = decoders.Fuse()  # no spaces between the letters of what is written
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
        "t5": lambda: T5Config(**_SEQ2SEQ, vocab_size=vocabulary, initializer_factor=scale),
        "mt5": lambda: MT5Config(**_SEQ2SEQ, vocab_size=vocabulary, initializer_factor=scale),
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

SEQ2SEQ = ("t5", "mt5")
"""Kinds of tiny encoders with a decoder."""

SENTINELS = 20
"""Words of theirs that stand for spans."""

ODD_DECODERS = ("llama_wide",)
"""Kinds of tiny decoders with heads wider than their share of the width."""

DECODERS = ("bloom", "xglm", "llama", "gpt2", "gemma3_text", "qwen3", "mistral", "opt")
"""Kinds of tiny decoders."""


def tiny_model(kind: str, seed: int = 0, scale: float = 0.3) -> PreTrainedModel:
    """Build a random model.

    Args:
        kind: Its ``model_type`` in transformers: ``bert``, ``xlm-roberta`` (with ``MASKED`` behind
            it: with its language-model head), or one of ``DECODERS`` or ``SEQ2SEQ``.
        seed: Of its weights; the global generator is left as it was.
        scale: Standard deviation of the weights, large enough for attention to matter.
    """
    of_masks = kind.endswith(MASKED)
    words = tiny_tokenizer(masks=of_masks, sentinels=SENTINELS * (kind in SEQ2SEQ))
    config = _config(kind.removesuffix(MASKED), len(words), scale)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if kind in DECODERS + ODD_DECODERS:
            return AutoModelForCausalLM.from_config(config).eval()
        if kind in SEQ2SEQ:
            return AutoModelForSeq2SeqLM.from_config(config).eval()
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
    family = "masked" if kind.endswith(MASKED) else "seq2seq" if kind in SEQ2SEQ else family
    place = Location("folder", kind, f"tiny-{kind}-{seed}", family, kind)
    asked = BackboneSettings(name=f"tiny:{kind}", attention=attention, **settings)
    sentinels = SENTINELS * (family == "seq2seq")
    tokenizer = tiny_tokenizer(masks=family == "masked", sentinels=sentinels)
    return wrap(tiny_model(kind, seed), tokenizer, asked, place)
