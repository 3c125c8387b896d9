"""GGUF files: what is written is what was in them, each is converted once, broken ones are refused."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from polyprompt.errors import BackboneError
from polyprompt.models import gguf as gguf_files
from polyprompt.models.gguf import ARCHITECTURES, convert_gguf, converted_gguf, gguf_facts
from polyprompt.models.gguf_head import read_head

SPECIAL = ["<s>", "</s>"]
MERGES = ["h e", "t he", "Ġ the", "Ġ 1", "1 2"]
WORDS = [*SPECIAL, *bytes_to_unicode().values(), *(m.replace(" ", "") for m in MERGES)]
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def tiny_llama(tied: bool = True) -> LlamaForCausalLM:
    """A random decoder with grouped queries."""
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=96,
        initializer_range=0.3, tie_word_embeddings=tied, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config).eval()


def gguf_name(name: str) -> str:
    """GGUF's name of a weight."""
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name.replace("model.layers.", "blk.")


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """A query or key matrix with its rotary halves interleaved, as GGUF keeps llama's."""
    halves = weight.reshape(heads, 2, -1, weight.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def write_gguf(
    path: Path,
    model: LlamaForCausalLM,
    pre: str = "smollm",
    begin: bool | None = False,
    kind: str = "gpt2",
    architecture: str = "llama",
    left_out: str = "",
    stored: GGMLQuantizationType = GGMLQuantizationType.F32,
    fields: dict[str, str | int] | None = None,
) -> Path:
    """A GGUF file of a tiny model."""
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(96)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(WORDS)
    writer.add_token_types([3 if word in SPECIAL else 1 for word in WORDS])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    if begin is not None:
        writer.add_add_bos_token(begin)
    for name, value in (fields or {}).items():
        (writer.add_uint16 if isinstance(value, int) else writer.add_string)(name, value)
    for name, tensor in model.state_dict().items():
        if (left_out and left_out in name) or (name == "lm_head.weight" and is_tied(model)):
            continue
        values = tensor.float().numpy()
        if "q_proj" in name or "k_proj" in name:
            values = interleaved(values, 4 if "q_proj" in name else 2)
        if values.ndim == 1 or stored is GGMLQuantizationType.F32:
            writer.add_tensor(gguf_name(name), values)
        else:
            packed = gguf.quantize(values, stored)
            writer.add_tensor(gguf_name(name), packed, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def is_tied(model: LlamaForCausalLM) -> bool:
    return model.config.tie_word_embeddings


def convert(path: Path) -> Path:
    folder = path.parent / f"{path.stem}-converted"
    folder.mkdir()
    convert_gguf(path, folder)
    return folder


def load(folder: Path, dtype: torch.dtype | str = torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, dtype=dtype).eval()


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYPROMPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """A sound file, for tests that only read it."""
    return write_gguf(tmp_path_factory.mktemp("gguf") / "plain.gguf", tiny_llama())


@pytest.mark.parametrize("tied", [True, False])
def test_the_converted_weights_are_those_written_and_compute_the_same(tmp_path, tied):
    model = tiny_llama(tied)
    folder = convert(write_gguf(tmp_path / "m.gguf", model))
    ours = load(folder)
    expected = model.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    for name, weight in ours.state_dict().items():
        assert torch.equal(weight, expected[name]), name
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.equal(ours(ids).logits, model(ids).logits)
    assert ours.config.tie_word_embeddings == tied
    size = sum(p.numel() * 4 for p in model.parameters())
    assert size < (folder / "model.safetensors").stat().st_size < size * 1.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_that_fit_in_half_the_bytes_are_stored_so(tmp_path, dtype):
    model = tiny_llama().to(dtype)
    ours = load(convert(write_gguf(tmp_path / "m.gguf", model)), "auto")
    assert ours.dtype is dtype
    assert all(torch.equal(w, model.state_dict()[n]) for n, w in ours.state_dict().items())


def test_quantised_weights_are_multiplied_out_as_the_gguf_package_does(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", tiny_llama(), stored=GGMLQuantizationType.Q8_0)
    expected = {
        t.name: gguf.dequantize(t.data, t.tensor_type) for t in GGUFReader(path).tensors
    }  # fmt: skip
    ours = load(convert(path))
    assert ours.dtype is torch.float32
    for name, weight in ours.state_dict().items():
        if "q_proj" not in name and "k_proj" not in name and "lm_head" not in name:
            np.testing.assert_array_equal(weight.numpy(), expected[gguf_name(name)])


@pytest.mark.parametrize(
    "pre, begin, tokens",
    [
        ("smollm", False, ["the", "Ġ", "1", "2", "Ġthe"]),
        ("smollm", True, ["<s>", "the", "Ġ", "1", "2", "Ġthe"]),
        ("smollm", None, ["the", "Ġ", "1", "2", "Ġthe"]),
        ("gpt-2", True, ["<s>", "the", "Ġ1", "2", "Ġthe"]),
        ("qwen2", False, ["the", "Ġ", "1", "2", "Ġthe"]),
        ("llama-bpe", None, ["<s>", "the", "Ġ", "12", "Ġthe"]),
    ],
)
def test_texts_are_cut_and_begun_as_the_file_says(tmp_path, pre, begin, tokens):
    folder = convert(write_gguf(tmp_path / "m.gguf", tiny_llama(), pre=pre, begin=begin))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.is_fast
    ids = tokenizer("the 12 the")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == tokens
    assert ids == [WORDS.index(token) for token in tokens]
    for text in ("  का é\n\n\t中 ", "🧑‍🚀 the"):
        again = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(again) == text


def test_a_file_is_converted_once_and_another_of_its_name_anew(empty_cache, tmp_path, monkeypatch):
    path = write_gguf(tmp_path / "m.gguf", tiny_llama())
    folder = converted_gguf(path)
    assert folder.parent == empty_cache / "models"
    assert folder.name.startswith("m-")
    with monkeypatch.context() as patch:
        patch.setattr(gguf_files, "convert_gguf", lambda *_: pytest.fail("converted again"))
        assert converted_gguf(path) == folder
    write_gguf(path, tiny_llama(tied=False))
    assert converted_gguf(path) != folder


def test_facts_and_head_agree_with_the_gguf_package(plain):
    assert gguf_facts(plain) == ("llama", 96)
    theirs, ours = GGUFReader(plain), read_head(plain)
    assert ours.tensors == {tensor.name for tensor in theirs.tensors}
    for name, value in ours.fields.items():
        field = theirs.fields[name]
        many = field.types[0] is gguf.GGUFValueType.ARRAY
        assert value == (len(field.data) if many else field.contents()), name


def test_every_architecture_is_one_that_transformers_reads_as_a_decoder():
    reads = {*GGUF_SUPPORTED_ARCHITECTURES, "qwen2moe", "qwen3moe"}
    assert ARCHITECTURES.keys() <= reads
    assert set(ARCHITECTURES.values()) <= set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"PK\x03\x04 a zip", r"is no GGUF file: it begins with b'PK.*expected b'GGUF'"),
        (b"", r"is no GGUF file: it begins with b''"),
        (b"GGUF\x03\x00", r"is broken or cut off: its head cannot be read .*Fetch it again"),
        (b"GGUF\x00\x00\x00\x03" + bytes(40), r"version 50331648 of the format, expected 2 or 3"),
    ],
)
def test_a_file_that_is_no_gguf_is_refused(tmp_path, content, message):
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(BackboneError, match=message):
        gguf_facts(path)


@pytest.mark.parametrize(
    "part, message",
    [(0.02, "its head cannot be read"), (0.9, r"is cut off: it has \d+ bytes.*tells of \d+")],
)
def test_a_file_that_is_cut_off_is_refused(tmp_path, plain, part, message):
    path = tmp_path / "m.gguf"
    content = plain.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(BackboneError, match=message):
        gguf_facts(path)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"architecture": "llamo"},
            r"architecture 'llamo'.*Did you mean 'llama'\? It reads: bloom,",
        ),
        ({"pre": "viking"}, r"by the rule 'viking' \(tokenizer.ggml.pre\).*It knows: gpt-2,"),
        ({"pre": "default"}, r"by the rule 'default'"),
        ({"kind": "rwkv"}, r"a tokenizer of the kind 'rwkv'; expected 'gpt2'"),
        ({"left_out": "layers.1.mlp.up"}, r"lacks 1 weights.*model.layers.1.mlp.up_proj.weight"),
        ({"fields": {"llama.rope.scaling.type": "yarn"}}, "needs scaled rotary positions"),
        ({"fields": {"split.count": 3}}, "is one of 3 pieces of a model. Join them first"),
    ],
)
def test_a_file_that_would_give_another_model_is_refused(empty_cache, tmp_path, changes, message):
    path = write_gguf(tmp_path / "m.gguf", tiny_llama(), **changes)
    with pytest.raises(BackboneError, match=message):
        converted_gguf(path)
    assert not list((empty_cache / "models").glob("*"))
