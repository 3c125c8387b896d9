"""Deep prompts: equal to PEFT and to transformers' own passes, cached = direct = padded."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from peft import PrefixTuningConfig, get_peft_model
from transformers.cache_utils import DynamicCache

from polyprompt.classifier import Classifier
from polyprompt.data.encoding import Encoder
from polyprompt.engine.cached import CachedEngine
from polyprompt.engine.direct import DirectEngine
from polyprompt.engine.engine import Prompts
from polyprompt.errors import ConfigError, DataError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.plan import plan_study
from polyprompt.experiments.study import run_study, study_folders
from polyprompt.families import Attention
from polyprompt.models.tiny import DECODERS, tiny_backbone, tiny_model, tiny_tokenizer
from polyprompt.records import Example
from polyprompt.tasks.layout import parse_layout
from polyprompt.training.member import joined_deep
from polyprompt.tuning.deep_prompt import DeepPrompt, LayerShape, saved_deep_prompt

TEXTS = ("hello world", "x", "the cat sat on the mat", "ab", "one two three four", "yes", "a b c")
RELATIVE_TOLERANCE = 2e-5
WIDE = ("bloom", "xglm", "llama", "gpt2", "qwen3", "opt", "llama_wide")
"""Decoders whose layers all see everything; the last has heads wider than d / heads."""


def close(ours, theirs, tolerance=RELATIVE_TOLERANCE):
    difference = (ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-9)
    assert difference <= tolerance, f"relative difference {difference:.1e}"


def part(backbone, length, position="prefix", seed=0, bound=1.0, **options):
    shapes = [LayerShape(*shape) for shape in backbone.layer_facts.shapes]
    rng = np.random.default_rng(seed)
    return DeepPrompt(length, shapes, rng, position=position, bound=bound, **options)


def encode(backbone, layout, ends=False, **parts):
    parsed = parse_layout(layout, ["text"], parts)
    encoder = Encoder(backbone.tokenizer, parsed, "", 64, ends=ends)
    return encoder.encode([Example(t, "", {"text": t}) for t in TEXTS])


def prompts_of(backbone, deep, lengths=(), end=None, seed=3):
    """One run per list of deep parts, with random soft tokens in each slot."""
    generator = torch.Generator().manual_seed(seed)
    width = backbone.facts.width
    vectors = tuple(
        (0.3 * torch.randn(sum(lengths), width, generator=generator)).requires_grad_() for _ in deep
    )
    made = tuple(joined_deep([(one.position, one()) for one in parts], end) for parts in deep)
    return Prompts(vectors, (tuple(lengths),) * len(deep), made)


def peft_model(model, weight, task):
    """PEFT's prefix tuning with given numbers."""
    named = {}
    if model.config.model_type == "xglm":  # PEFT does not find its heads
        named = {"num_attention_heads": 4, "num_layers": 3, "token_dim": 32}
    config = PrefixTuningConfig(task_type=task, num_virtual_tokens=len(weight), **named)
    made = get_peft_model(model, config)
    with torch.no_grad():
        made.prompt_encoder["default"].embedding.weight.copy_(weight)
    return made.eval()


of_peft = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@of_peft
@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("kind", ["bloom", "xglm", "llama", "gpt2", "qwen3"])
def test_a_prefix_in_a_decoder_equals_peft_with_the_same_tensors(kind, projected):
    backbone = tiny_backbone(kind)
    options = {"width": 32, "hidden": 16} if projected else {}
    deep = part(backbone, 5, **options)
    inputs = encode(backbone, "{text}")
    ours = DirectEngine(backbone).every(inputs, prompts_of(backbone, [[deep]])).last
    peft = peft_model(tiny_model(kind), deep.tensors()["weight"], "CAUSAL_LM")
    with torch.no_grad():
        theirs = torch.stack(
            [peft(input_ids=torch.from_numpy(x.hard[0])[None]).logits[0, -1] for x in inputs]
        )
        close(backbone.unembed(ours), theirs)


@of_peft
@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_a_prefix_in_an_encoder_equals_peft_with_the_same_tensors(kind):
    backbone = tiny_backbone(kind, Attention.FULL)
    deep = part(backbone, 5)
    inputs = encode(backbone, "{text}", ends=True)
    ours = DirectEngine(backbone).every(inputs, prompts_of(backbone, [[deep]]))
    peft = peft_model(tiny_model(kind), deep.tensors()["weight"], "FEATURE_EXTRACTION")
    with torch.no_grad():
        theirs = [peft(input_ids=torch.from_numpy(x.hard[0])[None])[0][0] for x in inputs]
    close(ours.mean, torch.stack([states.mean(0) for states in theirs]))
    close(ours.last, torch.stack([states[-1] for states in theirs]))


def cache_of(layers):
    """transformers' own cache with given keys and values."""
    cache = DynamicCache()
    for index, (keys, values) in enumerate(layers):
        cache.update(keys[None], values[None], index)
    return cache


def behind_text(backbone, encoded, vectors, deep, end):
    """transformers' own passes: the text, then soft tokens behind trained keys and values."""
    model, table = backbone.model, backbone.model.get_input_embeddings()
    scale = table(torch.tensor([5])).norm() / table.weight[5].norm()
    ids = torch.from_numpy(encoded.hard[0])
    start = 0 if end is None else end - len(ids)
    takes = backbone.model.config.model_type != "bloom"
    places = torch.arange(start, start + len(ids))[None]
    options = {"position_ids": places} if takes else {}
    with torch.no_grad():
        text = model(input_ids=ids[None], use_cache=True, **options).past_key_values
    joined = [
        (torch.cat([layer.keys[0], keys], 1), torch.cat([layer.values[0], values], 1))
        for layer, (keys, values) in zip(text.layers, deep.layers, strict=True)
    ]
    before = start + len(ids) + deep.places
    options = {"position_ids": torch.arange(before, before + len(vectors))[None]} if takes else {}
    size = len(ids) + deep.places + len(vectors)
    out = model(
        inputs_embeds=(vectors * scale)[None], past_key_values=cache_of(joined),
        attention_mask=torch.ones(1, size, dtype=torch.long), **options,
    )  # fmt: skip
    return out.logits[0, -1]


@pytest.mark.parametrize("kind", WIDE)
def test_a_suffix_equals_transformers_reading_behind_the_same_keys_and_values(kind):
    backbone = tiny_backbone(kind)
    end = 40 if backbone.layer_facts.is_shift_invariant else None
    deep = [[part(backbone, 5, "suffix", seed)] for seed in range(3)]
    inputs = encode(backbone, "{text}{task:2}", task=None)
    prompts = prompts_of(backbone, deep, (2,), end)
    theirs = torch.stack(
        [
            behind_text(backbone, x, vectors, one, end)
            for vectors, one in zip(prompts.vectors, prompts.deep, strict=True)
            for x in inputs
        ]
    )
    for engine in (CachedEngine(backbone), DirectEngine(backbone)):
        close(backbone.unembed(engine.every(inputs, prompts).last), theirs)


def test_rotary_and_alibi_do_not_depend_on_where_they_begin_and_learned_positions_do():
    invariant = {kind: tiny_backbone(kind).layer_facts.is_shift_invariant for kind in DECODERS}
    assert invariant == {
        "bloom": True, "xglm": False, "llama": True, "gpt2": False, "gemma3_text": True,
        "qwen3": True, "mistral": True, "opt": False,
    }  # fmt: skip


@pytest.mark.parametrize("kind", [*DECODERS, "llama_wide", "bert", "xlm-roberta"])
def test_cached_direct_and_padded_passes_agree_in_outputs_and_gradients(kind):
    backbone = tiny_backbone(kind)
    end = 40 if backbone.layer_facts.is_shift_invariant else None
    shapes = [(4, "suffix"), (7, "suffix"), (2, "suffix")]
    deep = [[part(backbone, n, where, i)] for i, (n, where) in enumerate(shapes)]
    inputs = encode(backbone, "{text}{task:3}", ends=backbone.facts.pooling == "mean", task=None)

    def run(engine, *, packs=True):
        backbone.packs = packs
        try:
            prompts = prompts_of(backbone, deep, (3,), end)
            states = engine.every(inputs, prompts)
            value = states.mean.sin().sum() + states.last.cos().sum()
            trained = [*prompts.vectors, *(one.weight for parts in deep for one in parts)]
            return states, torch.autograd.grad(value, trained)
        finally:
            backbone.packs = True

    kept = CachedEngine(backbone)
    kept.keep(inputs, prompts_of(backbone, deep, (3,), end).shapes[0])
    reference, gradients = run(DirectEngine(backbone))
    variants = [(CachedEngine(backbone), True), (kept, True), (CachedEngine(backbone), False)]
    for engine, packs in [*variants, (DirectEngine(backbone), False)]:
        states, own = run(engine, packs=packs)
        close(states.mean, reference.mean)
        close(states.last, reference.last)
        for ours, theirs in zip(own, gradients, strict=True):
            close(ours, theirs, 1e-4)


@pytest.mark.parametrize("kind", ["llama", "bloom", "gpt2", "mistral", "xlm-roberta"])
def test_each_equals_every_and_runs_do_not_see_each_others_prompts(kind):
    backbone = tiny_backbone(kind)
    deep = [[part(backbone, 4, "suffix", 1)], [part(backbone, 9, "suffix", 2)], []]
    inputs = encode(backbone, "{text}{task:3}", task=None)
    prompts = prompts_of(backbone, deep, (3,))
    engine = CachedEngine(backbone)
    together = engine.every(inputs, prompts)
    n = len(inputs)
    for run in range(3):
        alone = engine.every(inputs, prompts.only(run))
        close(together.rows(slice(run * n, (run + 1) * n)).last, alone.last)
        close(engine.each(inputs, [run] * n, prompts).last, alone.last)
    mixed = engine.each(inputs, [i % 3 for i in range(n)], prompts)
    expected = torch.stack([together.last[(i % 3) * n + i] for i in range(n)])
    close(mixed.last, expected)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bloom"])
def test_prefix_and_suffix_together_equal_the_padded_twin(kind):
    backbone = tiny_backbone(kind)
    deep = [[part(backbone, 3, "suffix", 1), part(backbone, 2, "prefix", 2)]]
    inputs = encode(backbone, "{text}{task:3}", task=None)
    prompts = prompts_of(backbone, deep, (3,))
    assert prompts.shapes[0].prefix == 2
    assert prompts.shapes[0].suffix == 3
    packed = DirectEngine(backbone).every(inputs, prompts)
    backbone.packs = False
    padded = DirectEngine(backbone).every(inputs, prompts)
    close(packed.last, padded.last)
    close(packed.mean, padded.mean)


def test_the_text_does_not_see_a_suffix():
    backbone = tiny_backbone("llama")
    inputs = encode(backbone, "{text}{task:3}", task=None)
    inputs = [type(x)(**{**vars(x), "reads": np.arange(x.tokens)}) for x in inputs]
    one, other = (
        DirectEngine(backbone).every(inputs, prompts_of(backbone, [[part(backbone, 4, "suffix", s)]], (3,)))
        for s in (1, 2)
    )  # fmt: skip
    torch.testing.assert_close(one.tokens, other.tokens, rtol=0, atol=0)
    assert not torch.equal(one.last, other.last)


def test_folding_and_going_on():
    backbone = tiny_backbone("llama")
    one = part(backbone, 4, seed=1, width=32, hidden=16, dropout=0.3)
    saved = one.tensors()
    for (keys, values), (k, v) in zip(
        saved_deep_prompt(saved), one_without_gradient(one), strict=True
    ):
        torch.testing.assert_close(keys, k)
        torch.testing.assert_close(values, v)
    other = part(backbone, 4, seed=2, width=32, hidden=16)
    assert not torch.equal(other.tensors()["weight"], saved["weight"])
    other.resume(saved, "there")
    torch.testing.assert_close(other.tensors()["weight"], saved["weight"])
    with pytest.raises(DataError, match="there does not fit.*weight.*shape"):
        part(backbone, 5).resume(saved, "there")


@torch.no_grad()
def one_without_gradient(prompt):
    return prompt()


def test_dropout_depends_on_seed_and_step_alone():
    backbone = tiny_backbone("llama")
    one, same, other = (part(backbone, 4, seed=n, dropout=0.5) for n in (1, 1, 2))
    assert not (one()[0][0] == 0).any()  # no step of training
    one.step = same.step = other.step = 3
    first = one()[0][0]
    torch.randn(5)  # the global generator plays no part, nor does how often it is computed
    torch.testing.assert_close(one()[0][0], first, rtol=0, atol=0)
    torch.testing.assert_close(same()[0][0], first, rtol=0, atol=0)
    assert not torch.equal(other()[0][0] == 0, first == 0)
    same.step = 4
    assert not torch.equal(same()[0][0] == 0, first == 0)
    assert 0.3 < float((first == 0).float().mean()) < 0.7
    with torch.no_grad():
        assert not (one()[0][0] == 0).any()


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_a_runs_company_and_its_passes_change_nothing_of_dropout(kind, toy_study, tmp_path):
    folder = tmp_path / "backbone"
    tiny_model(kind).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    deep = {"kind": "deep_prompt", "dropout": 0.4}
    value = toy_study | {
        "backbone": {"name": str(folder), "max_tokens": 48}, "layout": "{text}", "head": "classifier",
        "grid": {"parts.task.length": [2, 5]}, "parts": {"task": deep}, "baselines": False,
    }  # fmt: skip
    value["head"] = {"kind": "classifier", "dropout": 0.3}

    def scores(name, **changes):
        study = build_study(value | changes | {"output": str(tmp_path / name)}, "toy")
        list(run_study(study))
        found = {f.record()["trained_parameters"]: f.predictions() for f in study_folders(study)}
        return {size: np.array(table["scores"].to_list()) for size, table in found.items()}

    together = scores("together")
    assert len(together) == 2
    chunks = scores("chunks", engine={"rows_per_pass": 3})
    alone = scores("alone", grid={"parts.task.length": [5]})
    for size, own in together.items():
        np.testing.assert_allclose(chunks[size], own, atol=5e-4)
        if size in alone:
            np.testing.assert_allclose(alone[size], own, atol=5e-4)


def test_nothing_is_dropped_once_training_is_over(toy_study, tmp_path):
    folder = tmp_path / "backbone"
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    value = toy_study | {
        "backbone": {"name": str(folder), "max_tokens": 48}, "layout": "{text}", "grid": {"seed": [0]},
        "head": {"kind": "classifier", "dropout": 0.5}, "baselines": False,
        "parts": {"task": {"kind": "deep_prompt", "length": 4, "dropout": 0.5}},
    }  # fmt: skip
    study = build_study(value, "toy")
    list(run_study(study))
    (run,) = study_folders(study)
    texts = pl.read_parquet(Path(value["data"]) / "test.parquet")["text"].to_list()
    theirs = torch.tensor(run.predictions()["scores"].to_list()).softmax(1).numpy()
    np.testing.assert_allclose(Classifier.load(run.path).predict_proba(texts), theirs, atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "mistral", "gpt2"])
@pytest.mark.parametrize("position", ["prefix", "suffix"])
def test_a_run_that_reads_in_half_precision_answers_as_it_did(kind, position, toy_study, tmp_path):
    folder = tmp_path / "backbone"
    tiny_model(kind).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    suffix = {"layout": "{text}{read}"} if position == "suffix" else {"layout": "{text}"}
    parts = {"deep": {"kind": "deep_prompt", "length": 3, "position": position}}
    parts |= {"read": {"length": 1}} if position == "suffix" else {}
    value = toy_study | suffix | {
        "backbone": {"name": str(folder), "max_tokens": 48, "reading_dtype": "bfloat16"},
        "head": "classifier", "parts": parts, "baselines": False, "grid": {"seed": [0]},
    }  # fmt: skip
    study = build_study(value, "toy")
    list(run_study(study))
    (run,) = study_folders(study)
    table = run.predictions()
    texts = pl.read_parquet(Path(value["data"]) / "test.parquet")["text"].to_list()
    ours = Classifier.load(run.path).predict_proba(texts)
    theirs = torch.tensor(table["scores"].to_list()).softmax(1).numpy()
    np.testing.assert_allclose(ours, theirs, atol=0.02)


def test_a_part_whose_name_begins_like_a_fields_stands_in_no_slot(toy_study):
    """``{text}`` does not name the part ``t``; ``{t:4}`` would."""
    parts = {"task": {"length": 1}, "t": {"kind": "deep_prompt", "position": "suffix"}}
    value = toy_study | {"parts": parts, "layout": "{text}{task}"}
    assert plan_study(build_study(value, "toy"))
    with pytest.raises(ConfigError, match="'t' is a part of kind deep_prompt and stands in no"):
        plan_study(build_study(value | {"layout": "{text}{task}{t:4}"}, "toy"))
