"""Decoders: cached = direct = transformers' own unpadded pass, in outputs and gradients."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import PromptTuningConfig, get_peft_model

from polyprompt.data.encoding import Encoder
from polyprompt.engine.cached import CachedEngine
from polyprompt.engine.direct import DirectEngine
from polyprompt.engine.engine import Prompts
from polyprompt.errors import BackboneError
from polyprompt.models.probe import probe_decoder
from polyprompt.models.tiny import DECODERS, tiny_backbone
from polyprompt.records import Example
from polyprompt.tasks.layout import parse_layout

RELATIVE_TOLERANCE = 2e-5
CACHEABLE = {
    "after": "{text}{task:4}",
    "behind words": "a {text}? {task:3} the {other:2} is",
}
WHOLE = {"before": "{task:4}{text}", "around": "{task:3} {text} so{other:2}"}
LAYOUTS = CACHEABLE | WHOLE
TEXTS = (
    "hello world", "x", "the cat sat on the mat", "ab", "one two three four", "yes", "a b c", "long" * 5
)  # fmt: skip


def setting(kind, layout, runs, inputs=8):
    backbone = tiny_backbone(kind)
    slots = {name: None for name in ("task", "other") if "{" + name in LAYOUTS[layout]}
    parsed = parse_layout(LAYOUTS[layout], ["text"], slots)
    encoder = Encoder(backbone.tokenizer, parsed, "", 64, ends=False)
    encoded = encoder.encode([Example(t, "", {"text": t}) for t in TEXTS[:inputs]])
    generator = torch.Generator().manual_seed(7)
    lengths = tuple(slot.length for slot in parsed.slots)
    vectors = tuple(
        (
            0.3 * torch.randn(sum(lengths), backbone.facts.width, generator=generator)
        ).requires_grad_()
        for _ in range(runs)
    )
    return backbone, encoded, Prompts(vectors, (lengths,) * runs)


def close(ours, theirs):
    difference = (ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-9)
    assert difference <= RELATIVE_TOLERANCE, f"relative difference {difference:.1e}"


def embedded(backbone, encoded, vectors, lengths):
    """One sentence with its prompts as transformers' own model takes it, 1 × T × D."""
    table = backbone.model.get_input_embeddings()
    scale = table(torch.tensor([5])).norm() / table.weight[5].norm()
    pieces, at = [table(torch.from_numpy(encoded.hard[0]))], 0
    for length, hard in zip(lengths, encoded.hard[1:], strict=True):
        pieces += [vectors[at : at + length] * scale, table(torch.from_numpy(hard))]
        at += length
    return torch.cat(pieces)[None]


def by_transformers(backbone, encoded, vectors, lengths):
    """Logits of the next word by transformers' own pass over one sentence, nothing padded."""
    x = embedded(backbone, encoded, vectors, lengths)
    return backbone.model(inputs_embeds=x, use_cache=False).logits[0, -1]


@pytest.mark.parametrize("runs", [1, 4])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", DECODERS)
def test_both_engines_equal_transformers_sentence_by_sentence(kind, layout, runs):
    backbone, inputs, prompts = setting(kind, layout, runs)
    engines = [DirectEngine(backbone)]
    if layout in CACHEABLE:
        kept = CachedEngine(backbone)
        kept.keep(inputs, prompts.shapes[0])
        engines += [CachedEngine(backbone), kept]
    theirs = torch.stack(
        [
            by_transformers(backbone, x, vectors, lengths)
            for vectors, lengths in zip(prompts.vectors, prompts.lengths, strict=True)
            for x in inputs
        ]
    )
    gradients = torch.autograd.grad(theirs.sin().sum(), prompts.vectors)
    for engine in engines:
        ours = backbone.unembed(engine.every(inputs, prompts).last)
        close(ours, theirs)
        found = torch.autograd.grad(ours.sin().sum(), prompts.vectors)
        for a, b in zip(found, gradients, strict=True):
            close(a, b)


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("kind", DECODERS)
def test_training_rows_do_not_depend_on_batch_or_company(kind, batch):
    backbone, inputs, prompts = setting(kind, "behind words", 4, batch)
    owners = [(i * 3 + 1) % 4 for i in range(batch)]
    theirs = torch.stack(
        [
            by_transformers(backbone, x, prompts.vectors[o], prompts.lengths[o])
            for x, o in zip(inputs, owners, strict=True)
        ]
    )
    used = sorted(set(owners))
    wanted = torch.autograd.grad(theirs.cos().sum(), [prompts.vectors[o] for o in used])
    for engine in (CachedEngine(backbone), DirectEngine(backbone)):
        ours = backbone.unembed(engine.each(inputs, owners, prompts).last)
        close(ours, theirs)
        found = torch.autograd.grad(ours.cos().sum(), [prompts.vectors[o] for o in used])
        for a, b in zip(found, wanted, strict=True):
            close(a, b)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("kind", DECODERS)
def test_a_backbone_reads_the_same_whichever_side_is_padded(kind, batch, side):
    backbone, inputs, prompts = setting(kind, "after", 1, batch)
    prompt = prompts.vectors[0]
    sizes = [len(x.hard[0]) for x in inputs]
    width = max(sizes) + 2
    ids = torch.zeros(batch, width, dtype=torch.long)
    mask = torch.zeros(batch, width, dtype=torch.bool)
    for i, x in enumerate(inputs):
        where = slice(width - sizes[i], width) if side == "left" else slice(0, sizes[i])
        ids[i, where], mask[i, where] = torch.from_numpy(x.hard[0]), True
    places = (mask.cumsum(1) - 1).clamp(min=0)
    behind = torch.tensor(sizes)[:, None] + torch.arange(4)
    theirs = torch.stack([by_transformers(backbone, x, prompt, (4,)) for x in inputs])
    x = torch.cat([backbone.embed(ids), prompt.expand(batch, -1, -1)], 1)
    positions = torch.cat([places, behind], 1)
    real = torch.cat([mask, torch.ones(batch, 4).bool()], 1)
    allowed = real[:, None] & (positions[:, :, None] >= positions[:, None])
    close(backbone.unembed(backbone.forward(x, positions, allowed)[:, -1]), theirs)


@pytest.mark.parametrize("runs", [1, 4])
@pytest.mark.parametrize("layout", ["after", "behind words"])
@pytest.mark.parametrize("kind", DECODERS)
def test_packed_passes_equal_their_padded_twin(kind, layout, runs):
    backbone, inputs, prompts = setting(kind, layout, runs)
    assert backbone.packs
    owners = [i % runs for i in range(len(inputs))]
    prefix = torch.cat([torch.from_numpy(np.concatenate(x.hard)) for x in inputs[:1]]).tolist()
    found = []
    for packs in (True, False):
        backbone.packs = packs
        engine = CachedEngine(backbone, branches=[(7, 9), (8,)])
        every, each = engine.every(inputs, prompts), engine.each(inputs, owners, prompts)
        behind = engine.behind(prefix, inputs)
        total = sum(s.sin().sum() for x in (every, each) for s in (x.mean, x.last, x.branches))
        states = [s for x in (every, each, behind) for s in (x.mean, x.last, x.branches)]
        found.append([*states, *torch.autograd.grad(total, prompts.vectors)])
    for a, b in zip(*found, strict=True):
        close(a, b)


@pytest.mark.parametrize("kind", ["bloom", "xglm", "llama"])
def test_the_tokenizers_padding_side_changes_nothing(kind):
    backbone, _, prompts = setting(kind, "after", 1)
    states = []
    for side in ("left", "right"):
        backbone.tokenizer.padding_side = side
        parsed = parse_layout(LAYOUTS["after"], ["text"], {"task": None})
        encoder = Encoder(backbone.tokenizer, parsed, "", 64, ends=False)
        again = encoder.encode([Example(t, "", {"text": t}) for t in TEXTS])
        states.append(CachedEngine(backbone).every(again, prompts).last)
    assert torch.equal(*states)


def test_sliding_windows_are_kept_to_beyond_their_width():
    """Texts here are longer than the tiny models' window of 6, so the tests above cover it."""
    for kind in ("gemma3_text", "mistral"):
        backbone, inputs, _ = setting(kind, "after", 1)
        assert backbone.window == 6
        assert max(len(x.hard[0]) for x in inputs) > 3 * 6
    assert tiny_backbone("qwen3").window is None


@pytest.mark.parametrize("kind", DECODERS)
def test_look_ups_are_scaled_as_the_model_scales_them(kind):
    backbone = tiny_backbone(kind)
    scaled = kind in {"xglm", "gemma3_text"}
    assert float(backbone._scale) == pytest.approx(32**0.5 if scaled else 1.0)


@pytest.mark.parametrize("kind", DECODERS)
def test_only_the_rows_asked_for_are_computed_and_equal_the_whole_head(kind):
    backbone = tiny_backbone(kind)
    hidden = torch.randn(5, backbone.facts.width)
    close(backbone.unembed(hidden, [7, 3]), backbone.unembed(hidden)[:, [7, 3]])


@pytest.mark.parametrize("layout", CACHEABLE)
@pytest.mark.parametrize("kind", DECODERS)
def test_continuations_are_read_from_one_state_as_if_each_stood_alone(kind, layout):
    backbone, inputs, prompts = setting(kind, layout, 3)
    branches = [(5, 9), (7,), (5, 11, 4)]
    cached, direct = CachedEngine(backbone, branches=branches), DirectEngine(backbone, branches)
    a, b = cached.every(inputs, prompts), direct.every(inputs, prompts)
    assert a.branches.shape == (3 * len(inputs), 6, backbone.facts.width)
    close(a.branches, b.branches)
    close(a.last, b.last)
    close(a.mean, b.mean)
    for x, y in zip(
        torch.autograd.grad(a.branches.sin().sum(), prompts.vectors),
        torch.autograd.grad(b.branches.sin().sum(), prompts.vectors),
        strict=True,
    ):
        close(x, y)
    plain = CachedEngine(backbone).every(inputs, prompts)
    close(a.last, plain.last)
    *front, end = inputs[2].hard
    longer = replace(inputs[2], hard=(*front, np.concatenate([end, [5, 11]])))
    theirs = by_transformers(backbone, longer, prompts.vectors[1], prompts.lengths[1])
    close(backbone.unembed(a.branches[len(inputs) + 2, 4:5])[0], theirs)


@pytest.mark.parametrize("kind", DECODERS)
def test_inputs_behind_a_common_prefix_equal_the_whole_read_anew(kind):
    backbone, inputs, _ = setting(kind, "after", 1)
    prefix = [0, 5, 9, 30, 12, 8, 8, 41]
    branches = [(5, 9)]
    cached, direct = CachedEngine(backbone, branches=branches), DirectEngine(backbone, branches)
    a, b = cached.behind(prefix, inputs), direct.behind(prefix, inputs)
    close(a.last, b.last)
    close(a.branches, b.branches)
    ids = torch.tensor([*prefix, *inputs[0].hard[0]])
    close(backbone.unembed(a.last[:1])[0], backbone.reference(ids))
    close(cached.behind([], inputs).last, direct.bare(inputs).last)


@pytest.mark.parametrize("engine_class", [CachedEngine, DirectEngine])
def test_an_input_without_a_token_gives_numbers(engine_class):
    backbone = tiny_backbone("llama")
    parsed = parse_layout("{text}", ["text"])
    encoder = Encoder(backbone.tokenizer, parsed, "", 64, begins=False, ends=False)
    empty, one = encoder.encode([Example("", "", {"text": t}) for t in ("", "ab")])
    assert empty.tokens == 0
    for inputs in ([empty], [empty, one]):
        states = engine_class(backbone).bare(inputs)
        assert torch.isfinite(states.mean).all()


@pytest.mark.parametrize("kind", DECODERS)
def test_float16_reads_a_prompt_without_a_text(kind):
    backbone = tiny_backbone(kind)
    backbone.model.to(torch.float16)
    parsed = parse_layout("{text}{task:2}", ["text"], {"task": None})
    encoder = Encoder(backbone.tokenizer, parsed, "", 64, begins=False, ends=False)
    inputs = encoder.encode([Example("", "", {"text": t}) for t in ("", "abc")])
    prompts = Prompts((torch.randn(2, backbone.facts.width),), ((2,),))
    assert torch.isfinite(CachedEngine(backbone).every(inputs, prompts).last).all()


def test_the_probe_refuses_a_decoder_whose_cached_path_differs():
    backbone = tiny_backbone("llama")
    probe_decoder(backbone)
    true_extend = backbone.extend
    backbone.extend = lambda *args: true_extend(*args) + 0.01
    with pytest.raises(BackboneError, match="differs from the whole forward pass"):
        probe_decoder(backbone)


def test_the_probe_refuses_wrong_positions():
    """A model that ignored where its tokens stand is found out by comparing with transformers."""
    backbone = tiny_backbone("gpt2")
    true_extend = backbone.extend
    backbone.extend = lambda x, parts: true_extend(
        x, [replace(p, blocks=replace(p.blocks, positions=p.blocks.positions + 1)) for p in parts]
    )
    with pytest.raises(BackboneError, match="differs from the whole forward pass"):
        probe_decoder(backbone)


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("granite", {"logits_scaling": 4.0, "embedding_multiplier": 3.0, "num_hidden_layers": 2}),
        ("cohere", {"logit_scale": 0.25, "num_hidden_layers": 2}),
        ("gemma2", {"final_logit_softcapping": 2.0, "num_hidden_layers": 2, "head_dim": 8}),
    ],
)
def test_decoders_that_scale_or_cap_their_scores_pass_the_probe(kind, sizes):
    from transformers import AutoConfig, AutoModelForCausalLM

    from polyprompt.capabilities import BackboneSettings
    from polyprompt.models.load import wrap
    from polyprompt.models.locate import Location
    from polyprompt.models.tiny import tiny_tokenizer

    sizes = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48} | sizes
    config = AutoConfig.for_model(
        kind, vocab_size=74, num_key_value_heads=2, initializer_range=0.3, pad_token_id=1,
        bos_token_id=0, eos_token_id=2, **sizes,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    place = Location("folder", kind, kind, "causal", kind)
    backbone = wrap(model, tiny_tokenizer(), BackboneSettings(name=kind), place)
    ids = torch.tensor([4, 9, 13])
    close(backbone.unembed(backbone.reference_state(ids)[None])[0], backbone.reference(ids))


@pytest.mark.parametrize("kind", ["mpt", "gpt_neo"])
def test_decoders_that_cannot_be_cached_exactly_are_refused(kind):
    from transformers import AutoConfig, AutoModelForCausalLM

    from polyprompt.capabilities import BackboneSettings
    from polyprompt.models.load import wrap
    from polyprompt.models.locate import Location
    from polyprompt.models.tiny import tiny_tokenizer

    sizes = {
        "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2},
        "gpt_neo": {
            "hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]
        },
    }[kind]  # fmt: skip
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, vocab_size=72, **sizes))
    place = Location("folder", kind, kind, "causal", kind)
    words = "takes no position_ids" if kind == "mpt" else "window_size"
    with pytest.raises(BackboneError, match=words):
        wrap(model, tiny_tokenizer(), BackboneSettings(name=kind), place)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
@pytest.mark.parametrize("kind", ["bloom", "xglm", "llama", "gpt2", "gemma3_text", "qwen3"])
def test_peft_prompt_tuning_with_the_same_vectors_gives_the_same_logits(kind):
    """Prefix layout, no padding. PEFT's vectors stand behind the look-up's scale, ours before it.

    With padding PEFT is another matter: it puts the prompt in front of left padding and drops
    position_ids, so the logits of a padded row move. Ours do not.
    """
    backbone, inputs, prompts = setting(kind, "before", 1)
    vectors = prompts.vectors[0].detach()
    heads = 4
    config = PromptTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=4, num_layers=3, num_attention_heads=heads,
        token_dim=backbone.facts.width, num_transformer_submodules=1,
    )  # fmt: skip
    model = get_peft_model(backbone.model, config)
    weight = model.prompt_encoder["default"].embedding.weight
    weight.data.copy_(vectors * backbone._scale)
    model.requires_grad_(requires_grad=False)
    ours = backbone.unembed(DirectEngine(backbone).each(inputs, [0] * 8, prompts).last).detach()
    for row, x in zip(ours, inputs, strict=True):
        ids = torch.from_numpy(x.hard[1])[None]
        close(row, model(input_ids=ids).logits[0, -1])
    ids = torch.from_numpy(inputs[1].hard[1])
    padded = torch.cat([torch.ones(6, dtype=torch.long), ids])[None]
    mask = (torch.arange(padded.shape[1]) >= 6).long()[None]
    theirs = model(input_ids=padded, attention_mask=mask).logits[0, -1]
    moved = float((theirs - ours[1]).abs().max() / ours[1].abs().max())
    if kind in {"xglm", "gpt2", "llama", "qwen3", "gemma3_text"}:
        assert moved > 1e-3, f"PEFT's left padding no longer changes {kind}: {moved:.1e}"
