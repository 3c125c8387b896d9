"""Reads a GGUF file's tokenizer so that it cuts texts as the model's own did in training.

transformers builds the vocabulary; how texts are split into words before, and whether a text begins
with a token of its own, it takes from the file for some models only. Both are set here for all.
"""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from polyprompt.errors import BackboneError
from polyprompt.models.gguf_head import Head

_GPT2 = ""
"""The rule that byte-level pre-tokenizers have built in."""

_DIGITS = "digits"
"""The same rule after every digit has been set apart."""

_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"

RULES = {
    "gpt-2": _GPT2,
    "phi-2": _GPT2,
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "minerva-7b": _DIGITS,
    "bloom": _BLOOM,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "falcon3": _LLAMA3,
    "tekken": _TEKKEN,
}
"""How byte-level tokenizers cut texts into words, by the field ``tokenizer.ggml.pre``.

Source: the models' tokenizer.json; names as in llama.cpp's llama-vocab.cpp.
"""

_PROBE = " Añ12 345,x\n\n\tनमस्ते，中文。 it's  \u200d<0x0A>é"


def read_tokenizer(path: Path, head: Head) -> PreTrainedTokenizerBase:
    """Read the tokenizer.

    Args:
        path: The GGUF file.
        head: Of the file.

    Raises:
        BackboneError: It is of a kind that would cut texts otherwise than in training.
    """
    kind = str(head.fields.get("tokenizer.ggml.model", ""))
    rule = _rule(path, head) if kind == "gpt2" else None
    if kind not in {"gpt2", "llama"}:
        raise BackboneError(
            f"{path} has a tokenizer of the kind '{kind}'; expected 'gpt2' (byte-level BPE) or "
            "'llama' (SentencePiece). Use the model as a folder that transformers saved."
        )
    tokenizer: Any = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    if rule is not None:
        _set_rule(tokenizer.backend_tokenizer, rule)
    elif head.fields.get("tokenizer.ggml.add_space_prefix", True) is False:
        _no_space_before(tokenizer.backend_tokenizer)
    tokenizer.add_bos_token = _begins(head, kind, rule)
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save a tokenizer and see that it cuts texts the same when it is loaded again.

    Raises:
        BackboneError: It does not.
    """
    tokenizer.save_pretrained(folder)
    again = AutoTokenizer.from_pretrained(folder)
    if again(_PROBE)["input_ids"] != tokenizer(_PROBE)["input_ids"]:
        raise BackboneError(
            "The GGUF file's tokenizer is changed by saving and loading it with this version of "
            "transformers. Use the model as a folder that transformers saved."
        )


def _rule(path: Path, head: Head) -> str:
    """Find the rule by which a byte-level tokenizer cuts texts into words."""
    name = str(head.fields.get("tokenizer.ggml.pre", ""))
    if name in {"", "default"} and head.fields.get("general.architecture") == "gpt2":
        return _GPT2
    if name not in RULES:
        raise BackboneError(
            f"{path} cuts texts into words by the rule '{name}' (tokenizer.ggml.pre), which "
            f"polyprompt does not know. It knows: {', '.join(RULES)}. Use the model as a folder "
            "that transformers saved."
        )
    return RULES[name]


def _set_rule(backend: Any, rule: str) -> None:
    """Let a byte-level tokenizer cut texts by a rule."""
    from tokenizers import Regex, pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=rule in {_GPT2, _DIGITS}
    )
    steps: list[pre_tokenizers.PreTokenizer] = [byte_level]
    if rule == _DIGITS:
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    elif rule != _GPT2:
        steps.insert(0, pre_tokenizers.Split(Regex(rule), "isolated"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else byte_level
    if rule in {_LLAMA3, _TEKKEN}:
        backend.model.ignore_merges = True


def _no_space_before(backend: Any) -> None:
    """Let a SentencePiece tokenizer begin a text as it is, without a space in front."""
    from tokenizers import pre_tokenizers

    if isinstance(backend.pre_tokenizer, pre_tokenizers.Metaspace):
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)


def _begins(head: Head, kind: str, rule: str | None) -> bool:
    """Say whether every text begins with a token of its own: as the file says, or as is usual."""
    usual = kind == "llama" or rule in {_LLAMA3, _TEKKEN}
    return bool(head.fields.get("tokenizer.ggml.add_bos_token", usual))
