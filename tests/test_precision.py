"""Half precision, weights that wait elsewhere, quantised weights."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from polyprompt.capabilities import BackboneSettings
from polyprompt.engine.cached import CachedEngine
from polyprompt.engine.engine import Prompts
from polyprompt.errors import BackboneError
from polyprompt.models.load import load_backbone, wrap
from polyprompt.models.locate import Location
from polyprompt.models.precision import is_faster_in_bfloat16, reading_dtype
from polyprompt.models.tiny import DECODERS, tiny_backbone, tiny_model, tiny_tokenizer
from test_causal import by_transformers, setting

BFLOAT16_BOUND, OF_TRANSFORMERS = 0.05, 1.5
"""Root mean square of the error, relative to the scores', and to transformers' own in bfloat16."""


@pytest.mark.parametrize("runs", [1, 4])
@pytest.mark.parametrize("kind", DECODERS)
def test_bfloat16_stays_within_its_bound(kind, runs):
    whole, inputs, prompts = setting(kind, "after", runs)
    place = Location("folder", kind, "half", "causal", kind)
    half = wrap(tiny_model(kind).bfloat16(), tiny_tokenizer(), BackboneSettings(), place)
    owners = [i % runs for i in range(len(inputs))]
    found = []
    for backbone in (whole, half):
        states = CachedEngine(backbone).each(inputs, owners, prompts).last
        scores = backbone.unembed(states).float()
        found += [scores.detach(), *torch.autograd.grad(scores.sin().sum(), prompts.vectors)]
    exact, gradients = found[0], torch.cat(found[1 : runs + 1])
    rounded, of_half = found[runs + 1], torch.cat(found[runs + 2 :])
    vectors = [v.detach().bfloat16() for v in prompts.vectors]
    theirs = [
        by_transformers(half, x, vectors[o], prompts.lengths[o]).float()
        for x, o in zip(inputs, owners, strict=True)
    ]
    error, their_error = (
        float((exact - other).pow(2).mean().sqrt() / exact.pow(2).mean().sqrt())
        for other in (rounded, torch.stack(theirs).detach())
    )
    assert 0 < error < BFLOAT16_BOUND
    assert error < OF_TRANSFORMERS * their_error
    cosine = torch.nn.functional.cosine_similarity(gradients.flatten(), of_half.flatten(), 0)
    assert cosine > 0.99


def test_short_prompts_keep_their_places_beside_long_ones_in_bfloat16():
    """BLOOM's places are counted from each block's own end: half precision forgets large numbers."""
    whole, inputs, _ = setting("bloom", "after", 1, 2)
    place = Location("folder", "bloom", "half", "causal", "bloom")
    half = wrap(tiny_model("bloom").bfloat16(), tiny_tokenizer(), BackboneSettings(), place)
    generator = torch.Generator().manual_seed(3)
    short, long = (0.3 * torch.randn(n, 32, generator=generator) for n in (2, 900))
    exact = CachedEngine(whole).every(inputs, Prompts((short,), ((2,),))).last
    beside = CachedEngine(half).every(inputs, Prompts((short, long), ((2,), (900,)))).last
    error = (beside[: len(inputs)].float() - exact).pow(2).mean().sqrt() / exact.pow(
        2
    ).mean().sqrt()
    assert error < 0.02


def test_auto_reads_in_bfloat16_where_products_are_faster(monkeypatch):
    settings = BackboneSettings(reading_dtype="auto")
    is_faster_in_bfloat16.cache_clear()
    for factor, wanted in ((3.0, "bfloat16"), (0.5, "float32")):
        is_faster_in_bfloat16.cache_clear()
        monkeypatch.setattr(
            "polyprompt.models.precision.peak_multiplications",
            lambda _, dtype, times, factor=factor: factor if dtype is torch.bfloat16 else 1.0,
        )
        assert reading_dtype(settings) == wanted
    is_faster_in_bfloat16.cache_clear()
    assert reading_dtype(BackboneSettings()) == "float32"


def test_auto_is_not_led_astray_by_what_else_the_machine_does_for_a_moment(monkeypatch):
    calls = []

    def measured(_, dtype, times):
        calls.append(times)
        busy = 0.1 if len(calls) == 1 else 1.0
        return busy * (2.5 if dtype is torch.bfloat16 else 1.0)

    is_faster_in_bfloat16.cache_clear()
    monkeypatch.setattr("polyprompt.models.precision.peak_multiplications", measured)
    assert is_faster_in_bfloat16("cpu")
    is_faster_in_bfloat16.cache_clear()


@pytest.mark.parametrize("kind", ["llama", "bloom", "gemma3_text"])
def test_weights_on_disk_give_the_same_states_and_gradients(kind, tmp_path):
    """accelerate fetches what a device map puts on disk, a layer at a time."""
    plain = tiny_backbone(kind)
    plain.model.save_pretrained(tmp_path)
    plain.tokenizer.save_pretrained(tmp_path)
    settings = BackboneSettings(name=str(tmp_path), family="causal")
    whole = load_backbone(settings)
    names = [n for n, _ in whole.model.named_modules() if n.count(".") == 2 and n[-1].isdigit()]
    places = _places(whole.model, names)
    spread = load_backbone(settings.model_copy(update={"device_map": places}))
    assert any(p.device.type == "meta" for p in spread.model.parameters())
    _, inputs, prompts = setting(kind, "after", 2)
    found = []
    for backbone in (whole, spread):
        vectors = tuple(v.detach().requires_grad_() for v in prompts.vectors)
        states = CachedEngine(backbone).every(inputs, Prompts(vectors, prompts.lengths)).last
        scores = backbone.unembed(states, [5, 6])
        found.append((scores, *torch.autograd.grad(scores.sin().sum(), vectors)))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def _places(model, layers):
    """Put every second layer on disk and all else on the CPU."""
    on_disk = layers[1::2]
    assert on_disk
    places = {}
    for name, _ in model.named_modules():
        if name in on_disk:
            places[name] = "disk"
        elif any(True for _ in model.get_submodule(name).parameters(recurse=False)) and not any(
            name.startswith(layer + ".") for layer in on_disk
        ):
            places[name] = "cpu"
    return places


@pytest.mark.parametrize(("bits", "tolerance"), [("4bit", 2e-5), ("8bit", 5e-2)])
def test_quantised_projections_are_cached_and_trained_through(bits, tolerance, tmp_path):
    pytest.importorskip("bitsandbytes", reason="the extra 'quantized' is not installed")
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    settings = BackboneSettings(name=str(tmp_path), family="causal", quantization=bits)
    backbone = load_backbone(settings)
    stored = backbone.model.model.layers[0].mlp.up_proj.weight
    assert stored.dtype in {torch.uint8, torch.int8}
    assert backbone.projection_weights == 3 * (128 * (128 + 128 + 64 + 64) + 3 * 128 * 256)
    _, inputs, _ = setting("llama", "after", 1)
    vector = (0.1 * torch.randn(4, 128)).requires_grad_()
    prompts = Prompts((vector,), ((4,),))
    states = CachedEngine(backbone).every(inputs, prompts).last
    theirs = torch.stack([by_transformers(backbone, x, vector, (4,)) for x in inputs])
    ours = backbone.unembed(states)
    assert (ours - theirs).abs().max() < tolerance * theirs.abs().max()
    (gradient,) = torch.autograd.grad(ours.sin().sum(), [vector])
    (wanted,) = torch.autograd.grad(theirs.sin().sum(), [vector])
    assert torch.nn.functional.cosine_similarity(gradient.flatten(), wanted.flatten(), 0) > 0.99


def test_quantization_without_its_package_names_the_extra(monkeypatch, tmp_path):
    plain = tiny_backbone("llama")
    plain.model.save_pretrained(tmp_path)
    plain.tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr("polyprompt.models.load.find_spec", lambda name: None)
    settings = BackboneSettings(name=str(tmp_path), family="causal", quantization="4bit")
    with pytest.raises(BackboneError, match=r"polyprompt\[quantized\]"):
        load_backbone(settings)
