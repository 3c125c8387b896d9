"""Where backbones come from: folders, GGUF files, the Hub and its cache; and what is refused."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from transformers import LlamaConfig, LlamaForCausalLM

from polyprompt.capabilities import BackboneSettings
from polyprompt.cautions import contamination_of, marked
from polyprompt.errors import BackboneError
from polyprompt.models import gguf, hub, pypi
from polyprompt.models.load import load_backbone
from polyprompt.models.locate import family_of, locate
from polyprompt.models.pypi import WHEEL_MODELS, converted_folder, is_converted
from polyprompt.models.tiny import tiny_model, tiny_tokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def save(kind: str, folder: Path) -> Path:
    tiny_model(kind).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["bloom", "xglm", "llama", "gpt2", "gemma3_text", "qwen3"])
def test_a_folder_tells_its_family_and_loads(kind, tmp_path):
    settings = BackboneSettings(name=str(save(kind, tmp_path / "model")))
    place = locate(settings)
    assert (place.family, place.model_type) == ("causal", kind)
    backbone = load_backbone(settings)
    assert backbone.facts.attention == "causal"
    assert backbone.facts.parameters == sum(p.numel() for p in tiny_model(kind).parameters())
    assert not any(p.requires_grad for p in backbone._model.parameters())
    half = load_backbone(settings.model_copy(update={"dtype": "bfloat16"}))
    assert half.dtype is torch.bfloat16


def test_an_encoder_is_of_the_other_family(tiny_folder):
    assert locate(BackboneSettings(name=str(tiny_folder))).family == "embedding"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "t5"}, "is of the type 't5'"),
        ({}, "is of the type 'unknown'.*backbone.family=causal"),
    ],
)
def test_a_model_of_no_known_family_is_refused(config, words):
    with pytest.raises(BackboneError, match=f"(?s){words}"):
        family_of(config, "some/model")


def test_a_folder_without_configuration_is_refused(tmp_path):
    with pytest.raises(BackboneError, match=r"has no readable config.json.*Expected config.json"):
        locate(BackboneSettings(name=str(tmp_path)))


# --- the Hub


@pytest.fixture
def online(monkeypatch):
    """Nobody has forbidden the network, and it is not there."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    hub.hub_config.cache_clear()
    yield
    hub.hub_config.cache_clear()


def test_a_hub_model_without_a_network_fails_at_once_with_three_ways_out(online, monkeypatch):
    from huggingface_hub import HfApi

    def unreachable(*_, timeout, **__):
        assert timeout <= 10
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(HfApi, "model_info", unreachable)
    start = time.perf_counter()
    with pytest.raises(BackboneError) as caught:
        locate(BackboneSettings(name="some/model"))
    assert time.perf_counter() - start < 20
    message = str(caught.value)
    assert "'some/model' from the Hub: ConnectionError: Name or service not known" in message
    for way in ("a network", "backbone=FOLDER", "pypi:gemma3-270m"):
        assert way in message


def test_offline_by_choice_is_said(monkeypatch):
    hub.hub_config.cache_clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BackboneError, match="HF_HUB_OFFLINE is set and it is not in the local"):
        locate(BackboneSettings(name="some/model"))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("RepositoryNotFoundError", "no model of the Hub called 'some/model', or it is private"),
        ("GatedRepoError", "accepted its terms.*HF_TOKEN"),
        ("RevisionNotFoundError", "has no revision 'v9'"),
    ],
)
def test_what_the_hub_refuses_is_explained(online, monkeypatch, kind, words):
    import httpx2 as httpx
    from huggingface_hub import HfApi, errors

    def refuse(*_, **__):
        response = httpx.Response(404, request=httpx.Request("GET", "https://hub/x"))
        raise getattr(errors, kind)("no", response=response)

    monkeypatch.setattr(HfApi, "model_info", refuse)
    with pytest.raises(BackboneError, match=f"(?s){words}"):
        locate(BackboneSettings(name="some/model", revision="v9"))


def put_in_hub_cache(cache: Path, kind: str, name: str) -> None:
    """Lay a model out as the Hub's client keeps it."""
    base = cache / ("models--" + name.replace("/", "--"))
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text(COMMIT)
    save(kind, base / "snapshots" / COMMIT)


def test_a_hub_model_in_the_local_cache_loads_offline_and_names_its_commit(tmp_path):
    """In a process of its own: the Hub's client reads its folder and offline mode at import."""
    put_in_hub_cache(tmp_path, "llama", "some/llama")
    script = (
        "from polyprompt.capabilities import BackboneSettings as S\n"
        "from polyprompt.models.load import load_backbone\n"
        "from polyprompt.models.locate import locate\n"
        "b = load_backbone(S(name='some/llama'))\n"
        f"p = load_backbone(S(name='some/llama', revision='{COMMIT}'))\n"
        "print(b.facts.commit, p.facts.commit, b.facts.attention, b.facts.identity == p.facts.identity)\n"
    )
    env = os.environ | {
        "HF_HUB_CACHE": str(tmp_path),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert done.stdout.split() == [COMMIT, COMMIT, "causal", "True"], done.stderr


def test_a_study_with_an_unreachable_model_stops_before_anything_is_written(toy_study, monkeypatch):
    from polyprompt.experiments.config import build_study
    from polyprompt.experiments.study import run_study

    hub.hub_config.cache_clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    study = build_study(toy_study | {"backbone": "bigscience/bloom-560m"}, "toy")
    with pytest.raises(BackboneError, match="Three ways on"):
        list(run_study(study))
    assert not study.folder.exists()


# --- GGUF


def write_gguf(
    path: Path, *, architecture: str = "llama", digits: str = "smollm"
) -> LlamaForCausalLM:
    """Write a tiny llama with grouped-query attention as llama.cpp's converter does."""
    words = [
        *"abcdefghijklmnopqrstuvwxyz0123456789",
        "Ġ",
        "he",
        "ll",
        "hell",
        "hello",
        "<s>",
        "</s>",
    ]
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=64, max_position_embeddings=128, head_dim=8,
        bos_token_id=41, eos_token_id=42,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = LlamaForCausalLM(config).eval()
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(8)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(digits)
    writer.add_token_list(words)
    writer.add_token_types([1] * (len(words) - 2) + [3, 3])
    writer.add_token_merges(["h e", "l l", "he ll", "hell o"])
    writer.add_bos_token_id(41)
    writer.add_eos_token_id(42)
    names = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    for name, tensor in model.state_dict().items():
        values = tensor.numpy()
        for heads, part in ((4, "q_proj"), (2, "k_proj")):
            if part in name:
                halves = values.reshape(heads, 2, values.shape[0] // heads // 2, values.shape[1])
                values = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))
        new = name.replace("model.layers.", "blk.")
        for old, short in names.items():
            new = new.replace(f"{old}.weight", f"{short}.weight")
        writer.add_tensor(new, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYPROMPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_gguf_file_is_converted_once_and_holds_the_weights_written(
    own_cache, tmp_path, monkeypatch
):
    path = tmp_path / "tiny.gguf"
    model = write_gguf(path)
    settings = BackboneSettings(name=str(path))
    place = locate(settings)
    assert (place.kind, place.family, place.model_type) == ("gguf", "causal", "llama")
    assert place.max_positions == 128
    backbone = load_backbone(settings)
    ids = torch.tensor([3, 17, 5, 40])
    theirs = model(input_ids=ids[None]).logits[0, -1]
    torch.testing.assert_close(backbone.reference(ids), theirs, atol=1e-5, rtol=1e-5)
    tokens = backbone.tokenizer(["hello 12"], add_special_tokens=False).tokens(0)
    assert tokens == ["hello", "Ġ", "1", "2"]
    monkeypatch.setattr(gguf, "convert_gguf", lambda *_: pytest.fail("converted again"))
    folder = load_backbone(settings)._model.name_or_path
    assert sorted(p.name for p in Path(folder).iterdir())[:1] == ["checksums.json"]
    by_name = BackboneSettings(name=str(tmp_path), gguf_file="tiny.gguf")
    assert locate(by_name).identity == place.identity


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"nothing of the kind", "is no GGUF file: it begins with b'noth'"),
        (b"", "is no GGUF file"),
        (b"GGUF" + bytes(3), "cut off"),
    ],
)
def test_a_broken_gguf_file_is_refused(tmp_path, content, words):
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(BackboneError, match=f"(?s){words}"):
        locate(BackboneSettings(name=str(path)))


def test_a_gguf_file_cut_off_in_its_weights_is_refused(own_cache, tmp_path):
    path = tmp_path / "x.gguf"
    write_gguf(path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(BackboneError, match="cut off"):
        load_backbone(BackboneSettings(name=str(path)))
    assert not list((own_cache / "models").glob("*")) if own_cache.exists() else True


def test_an_architecture_transformers_does_not_read_is_named(tmp_path):
    path = tmp_path / "x.gguf"
    write_gguf(path, architecture="lama")
    with pytest.raises(BackboneError, match="architecture 'lama'.*Did you mean 'llama'"):
        locate(BackboneSettings(name=str(path)))


def test_parts_that_make_another_file_are_refused():
    with pytest.raises(BackboneError, match="not the one expected: SHA-256"):
        gguf.joined([b"GG", b"UF"], "0" * 64, lambda _: pytest.fail("used"))
    seen = []
    gguf.joined([b"GG", b"UF"], "", lambda path: seen.append(path.read_bytes()))
    assert seen == [b"GGUF"]


# --- the real decoders


@pytest.mark.parametrize(
    ("name", "model_type", "begins", "parameters"),
    [("gemma3-270m", "gemma3_text", [2], 268_098_176), ("smollm2-135m", "llama", [], 134_515_008)],
)
def test_a_real_decoder_loads_from_its_cache(name, model_type, begins, parameters, monkeypatch):
    if not is_converted(name):
        pytest.skip(f"pypi:{name} is not in the cache: polyprompt backbones --fetch pypi:{name}")
    monkeypatch.setattr(pypi, "_fetch", lambda _: pytest.fail("fetched again"))
    backbone = load_backbone(BackboneSettings(name=f"pypi:{name}", dtype="bfloat16"))
    model = WHEEL_MODELS[name]
    assert backbone._model.config.model_type == model_type == model.model_type
    assert backbone.facts.max_positions == model.max_positions
    assert backbone.facts.parameters == parameters
    assert bool(model.terms) == any("Terms of Use" in note for note in backbone.facts.notes)
    for text in ("Hello world", "मैं हिन्दी", "今天天气很好", "မင်္ဂလာပါ", "مرحبا", "a  b\n\nc 🙂"):
        ids = backbone.tokenizer(text)["input_ids"]
        assert ids[: len(begins)] == begins
        assert backbone.tokenizer.decode(ids[len(begins) :]) == text
    for paper in model.papers:
        assert (converted_folder(name) / Path(paper).name).is_file()


def test_the_terms_of_gemma_are_recorded():
    assert "Gemma Terms of Use" in WHEEL_MODELS["gemma3-270m"].terms
    assert not WHEEL_MODELS["smollm2-135m"].terms


# --- contamination


@pytest.mark.parametrize(
    "name", ["bigscience/bloomz-560m", "bigscience/mt0-small", "/m/BLOOMZ-1b7"]
)
def test_models_that_have_seen_flores_are_marked(name):
    (sentence,) = contamination_of(name)
    assert "FLORES" in sentence
    assert marked(name) == f"{name} ‡"


@pytest.mark.parametrize(
    "name", ["bigscience/bloom-560m", "facebook/xglm-564M", "google/mt5-small"]
)
def test_models_that_have_not_are_not(name):
    assert contamination_of(name) == ()
    assert marked(name) == name


def test_a_folder_remembers_where_it_came_from(tmp_path):
    folder = save("bloom", tmp_path / "mine")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_name_or_path": "x/bloomz-1b"}))
    assert any(
        "FLORES" in note for note in load_backbone(BackboneSettings(name=str(folder))).facts.notes
    )
    shutil.copytree(folder, tmp_path / "bloomz-here")
    assert locate(BackboneSettings(name=str(tmp_path / "bloomz-here"))).notes
