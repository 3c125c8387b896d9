"""Bottleneck adapters: the formulas written out, stacked, frozen, one per language."""

import numpy as np
import pytest
import torch

from polyprompt.capabilities import TrainingSettings
from polyprompt.data.encoded import Sourced
from polyprompt.data.encoding import Encoder
from polyprompt.engine.cached import CachedEngine
from polyprompt.engine.direct import DirectEngine
from polyprompt.engine.engine import Prompts
from polyprompt.errors import BackboneError, ConfigError, DataError
from polyprompt.models.tiny import DECODERS, tiny_backbone
from polyprompt.part_settings import BottleneckAdapterSettings
from polyprompt.records import Example
from polyprompt.seeds import generator
from polyprompt.tasks.layout import parse_layout
from polyprompt.training.loop import train
from polyprompt.tuning.adapter import Bottleneck, BottleneckAdapter, OfLanguages, saved_adapter
from test_causal import TEXTS, close, setting
from test_training import member
from test_weight_parts import decoder_member

NORMS = {
    "bloom": "transformer.ln_f", "gpt2": "transformer.ln_f", "xglm": "model.layer_norm",
    "llama": "model.norm", "gemma3_text": "model.norm", "qwen3": "model.norm",
    "mistral": "model.norm", "opt": "model.decoder.final_layer_norm",
}  # fmt: skip
ENCODERS = ("bert", "xlm-roberta")


def of_kind(position="feed_forward", **settings) -> BottleneckAdapterSettings:
    return BottleneckAdapterSettings(
        kind="bottleneck_adapter", position=position, reduction=4, **settings
    )


def put(backbone, position="feed_forward", seed=0, **settings) -> BottleneckAdapter:
    """An adapter large enough to matter, biases included."""
    part = BottleneckAdapter(backbone, of_kind(position, **settings), generator(seed, "adapter"))
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in part.tensors().values():
            value.copy_(0.4 * torch.randn(value.shape, generator=draw))
    return part


def formula(part: BottleneckAdapter, site: int, z):
    """A(z) = up(ReLU(down(z)))."""
    w = part.tensors()
    return (
        torch.relu(z @ w["down"][site].T + w["down_bias"][site]) @ w["up"][site].T
        + w["up_bias"][site]
    )


def stacked(parts, site, stream, norm=lambda x: x):
    """h + f, then h + f + A1(h + f), then h + u + A2(h + u)."""
    for part in parts:
        stream = stream + formula(part, site, norm(stream))
    return stream


def bare_inputs(kind):
    """A backbone, some texts without prompts, and a fresh twin of transformers' own."""
    backbone, inputs, _ = setting(kind, "after", 1, 4)
    return backbone, inputs, Prompts((), ()).and_bare(backbone), tiny_backbone(kind).model


def layers_and_arguments(model, layers, ids):
    """What enters the first layer, and what else every layer is given."""
    seen = []
    hooks = [
        layer.register_forward_pre_hook(
            lambda _m, args, options: seen.append((args, options)), with_kwargs=True
        )
        for layer in layers
    ]
    model(input_ids=ids[None], use_cache=False)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", DECODERS)
@torch.no_grad()
def test_behind_the_feed_forward_sub_layer_a_decoder_computes_the_formula(kind, count):
    backbone, inputs, bare, twin = bare_inputs(kind)
    parts = [put(backbone, seed=seed) for seed in range(count)]
    ours = DirectEngine(backbone).every(inputs, bare).last
    layers = [m for m in twin.modules() if type(m) in {type(one) for one in backbone.layers}]
    for row, encoded in enumerate(inputs):
        ids = torch.from_numpy(np.concatenate(encoded.hard))
        seen = layers_and_arguments(twin, layers, ids)
        stream = seen[0][0][0]
        for index, (layer, (args, options)) in enumerate(zip(layers, seen, strict=True)):
            out = layer(stream, *args[1:], **options)
            out = out[0] if isinstance(out, tuple) else out
            stream = stacked(parts, index, out)
        states = twin.get_submodule(NORMS[kind])(stream)[0, -1]
        if kind == "opt":
            states = twin.model.decoder.project_out(states)
        close(ours[row], states)


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
@torch.no_grad()
def test_behind_both_sub_layers_a_decoder_computes_the_formula(kind):
    backbone, inputs, bare, twin = bare_inputs(kind)
    parts = [put(backbone, "both", seed=seed) for seed in range(2)]
    ours = DirectEngine(backbone).every(inputs, bare).last
    layers, sandwich = twin.model.layers, kind == "gemma3_text"
    for row, encoded in enumerate(inputs):
        ids = torch.from_numpy(np.concatenate(encoded.hard))
        seen = layers_and_arguments(twin, layers, ids)
        h = seen[0][0][0]
        for index, (layer, (_, options)) in enumerate(zip(layers, seen, strict=True)):
            kept = {k: v for k, v in options.items() if k not in {"hidden_states"}}
            f, _ = layer.self_attn(hidden_states=layer.input_layernorm(h), **kept)
            f = layer.post_attention_layernorm(f) if sandwich else f
            h = stacked(parts, 2 * index, h + f)
            before = layer.pre_feedforward_layernorm if sandwich else layer.post_attention_layernorm
            f = layer.mlp(before(h))
            f = layer.post_feedforward_layernorm(f) if sandwich else f
            h = stacked(parts, 2 * index + 1, h + f)
        close(ours[row], twin.model.norm(h)[0, -1])


@pytest.mark.parametrize("position", ["feed_forward", "both"])
@pytest.mark.parametrize("kind", ENCODERS)
@torch.no_grad()
def test_where_the_sum_is_normalised_the_adapter_reads_it_and_adds_in_front(kind, position):
    """LN(h + f + A(LN(h + f))), stacked: as the library adapters has it for BERT."""
    backbone, twin = tiny_backbone(kind), tiny_backbone(kind).model
    parts = [put(backbone, position, seed=seed) for seed in range(2)]
    encoder = Encoder(backbone.tokenizer, parse_layout("{text}", ["text"]), "", 64)
    inputs = encoder.encode([Example(t, "", {"text": t}) for t in TEXTS[:4]])
    ours = DirectEngine(backbone).bare(inputs).mean
    for row, encoded in enumerate(inputs):
        ids = torch.from_numpy(encoded.hard[0])
        h = layers_and_arguments(twin, twin.encoder.layer, ids)[0][0][0]
        for index, layer in enumerate(twin.encoder.layer):
            out = layer.attention.output
            site = 2 * index if position == "both" else index
            z = out.dense(layer.attention.self(h, None)[0]) + h
            some = parts if position == "both" else []
            h = out.LayerNorm(stacked(some, site, z, out.LayerNorm))
            z = layer.output.dense(layer.intermediate(h)) + h
            norm = layer.output.LayerNorm
            h = norm(stacked(parts, site + (position == "both"), z, norm))
        close(ours[row], h[0].mean(0))


@pytest.mark.parametrize(
    ("kind", "output"),
    [("bloom", "dense"), ("xglm", "out_proj"), ("gpt2", "c_proj"), ("opt", "out_proj")],
)
@torch.no_grad()
def test_behind_attention_a_constant_is_what_its_last_bias_would_add(kind, output):
    backbone, inputs, bare, twin = bare_inputs(kind)
    before = DirectEngine(backbone).every(inputs, bare).last
    part = put(backbone, "both")
    for name in ("down", "down_bias", "up"):
        part.tensors()[name].zero_()
    part.tensors()["up_bias"][1::2] = 0
    found = [m for n, m in twin.named_modules() if n.endswith(output) and "mlp" not in n]
    own = [m for m in found if m.bias.shape == (32,)]
    for site, module in enumerate(own):
        module.bias += part.tensors()["up_bias"][2 * site]
    ours = DirectEngine(backbone).every(inputs, bare).last
    ids = [torch.from_numpy(np.concatenate(one.hard)) for one in inputs]
    body = twin.base_model
    theirs = [body(input_ids=row[None], use_cache=False).last_hidden_state[0, -1] for row in ids]
    close(ours, torch.stack(theirs))
    part.take_away()
    close(DirectEngine(backbone).every(inputs, bare).last, before)


@pytest.mark.parametrize("kind", ["bloom", "xglm", "llama", "gpt2", "gemma3_text"])
def test_what_is_trained_moves_and_nothing_else(kind):
    backbone, one = decoder_member(kind, "", "vocabulary", None)
    one.parts["adapter"] = put(backbone)
    frozen = put(backbone, trained=False, seed=3)
    one.parts["frozen"] = frozen
    one.__post_init__()
    before = {n: p.detach().clone() for n, p in backbone.model.named_parameters()}
    own = {n: p.detach().clone() for n, p in one.parts["adapter"].tensors().items()}
    still = {n: p.detach().clone() for n, p in frozen.tensors().items()}
    list(train(DirectEngine(backbone), [one]))
    assert all(torch.equal(p, before[n]) for n, p in backbone.model.named_parameters())
    assert all(torch.equal(p, still[n]) for n, p in frozen.tensors().items())
    assert all(not torch.equal(p, own[n]) for n, p in one.parts["adapter"].tensors().items())


def test_gradients_are_those_of_the_padded_path():
    results = []
    for packs in (True, False):
        backbone, one = decoder_member("llama", "", "vocabulary", None)
        one.parts["adapter"] = put(backbone)
        backbone.packs = packs
        engine = DirectEngine(backbone)
        states = engine.each(one.train, [0] * 6, Prompts(tuple(p() for p in one.prompts), ((3,),)))
        one.head.loss(states, one.train_labels).backward()
        results.append([p.grad.clone() for p in one.parts["adapter"].parameters()])
    for packed, padded in zip(*results, strict=True):
        close(packed, padded)


def test_checkpointing_computes_the_same_gradients():
    results = []
    for checkpointing in (True, False):
        backbone = tiny_backbone("bert")
        one = member(backbone, layout="{text}{task}", epochs=1, select="last")
        one.parts["adapter"] = put(backbone)
        backbone.checkpointing = checkpointing
        list(train(DirectEngine(backbone), [one]))
        results.append([p.detach().clone() for p in one.parts["adapter"].parameters()])
    for kept, repeated in zip(*results, strict=True):
        torch.testing.assert_close(kept, repeated, rtol=1e-4, atol=1e-6)


def two_languages(backbone, encode):
    """The same texts in two languages, one of which has a frozen adapter."""
    english = encode([Example(t, "eng_Latn", {"text": t}) for t in TEXTS[:4]])
    swahili = encode([Example(t, "swh_Latn", {"text": t}) for t in TEXTS[:4]])
    return [pair for pairs in zip(english, swahili, strict=True) for pair in pairs]


@pytest.mark.parametrize("engine", [CachedEngine, DirectEngine])
@pytest.mark.parametrize("kind", ["llama", "bert"])
@torch.no_grad()
def test_texts_of_several_languages_are_read_with_their_own_adapters_in_one_pass(kind, engine):
    backbone = tiny_backbone(kind)
    source = put(tiny_backbone(kind), seed=1)
    weights = {name: value.detach() for name, value in source.tensors().items()}
    attachment = OfLanguages(backbone, {"swh_Latn": Bottleneck(weights, of_kind())})
    layout = parse_layout("{text}{task:2}", ["text"], {"task": 2})
    sourced = Sourced({}, frozenset({"swh_Latn"}))
    ends = kind == "bert"
    encoder = Encoder(backbone.tokenizer, layout, "", 64, ends=ends, sourced=sourced)
    inputs = two_languages(backbone, encoder.encode)
    prompts = Prompts(tuple(0.3 * torch.randn(2, 32) for _ in range(3)), ((2,),) * 3)
    bare = engine(backbone)
    plain = bare.every(inputs, prompts)
    backbone.attachments.put(attachment)
    kept = engine(backbone)
    kept.keep(inputs, prompts.shapes[0])
    found = kept.every(inputs, prompts)
    one_by_one = kept.each(inputs, [1] * len(inputs), prompts)
    everywhere = tiny_backbone(kind)
    everywhere.attachments.put(Bottleneck(weights, of_kind()))
    adapted = engine(everywhere).every(inputs, prompts)
    n = len(inputs)
    for run in range(3):
        for row in range(n):
            theirs = adapted if row % 2 else plain
            close(found.last[run * n + row], theirs.last[run * n + row])
            close(found.mean[run * n + row], theirs.mean[run * n + row])
    close(one_by_one.last, found.last[n : 2 * n])
    backbone.attachments.take_away(attachment)
    close(engine(backbone).every(inputs, prompts).last, plain.last)


def test_a_frozen_prompt_is_read_like_words_and_cached_with_the_text():
    """The layout [language][text][task]: the frozen prompt equals one that stands in a slot."""
    backbone = tiny_backbone("llama")
    given = 0.3 * torch.randn(4, 32)
    ids = backbone.add_words(given)
    assert backbone.add_words(given.clone()) == ids
    task = 0.3 * torch.randn(2, 32)
    lengths = {"language": 4, "task": 2}
    layout = parse_layout("{language}{text}{task}", ["text"], lengths)
    sourced = Sourced({"language": {"swh_Latn": ids}})
    read_like_words = Encoder(
        backbone.tokenizer, layout.with_given(["language"]), "", 64, ends=False, sourced=sourced
    )
    in_slots = Encoder(backbone.tokenizer, layout, "", 64, ends=False)
    examples = [Example(t, "swh_Latn", {"text": t}) for t in TEXTS[:4]]
    words, slots = read_like_words.encode(examples), in_slots.encode(examples)
    assert [one.given for one in words] == [4] * 4
    cached = CachedEngine(backbone)
    ours = cached.every(words, Prompts((task,), ((2,),)))
    assert cached.backbone.work.tokens
    theirs = DirectEngine(backbone).every(slots, Prompts((torch.cat([given, task]),), ((4, 2),)))
    close(ours.last, theirs.last)
    alone = read_like_words.encode([Example("x", "fra_Latn", {"text": TEXTS[0]})])
    assert alone[0].given == 0


def test_a_frozen_prompt_takes_no_room_from_the_text():
    backbone = tiny_backbone("bert")
    ids = backbone.add_words(torch.ones(20, 32))
    layout = parse_layout("{language}{text}", ["text"], {"language": 20}).with_given(["language"])
    encoder = Encoder(
        backbone.tokenizer, layout, "", 24, sourced=Sourced({"language": {"eng_Latn": ids}})
    )
    (one,) = encoder.encode([Example("x", "eng_Latn", {"text": "abcdefgh" * 5})])
    assert (one.tokens, one.given, one.dropped) == (44, 20, 18)
    assert one.hard[0][:20].tolist() == list(ids)
    assert one.hard[0][20] == backbone.tokenizer.bos_token_id
    assert one.own[0].sum() == 22


def test_two_copies_read_the_same_added_words_under_the_same_ids():
    one, other = tiny_backbone("bert"), tiny_backbone("bert")
    first = one.add_words(torch.ones(2, 32))
    second = one.add_words(torch.full((3, 32), 2.0))
    one.share_words(other)
    ids = torch.tensor([5, *first, *second])
    torch.testing.assert_close(other.embed(ids), one.embed(ids))
    assert other.embed(ids)[3].unique().tolist() == [2.0]


def test_a_saved_adapter_of_another_size_or_kind_says_what_does_not_fit():
    backbone = tiny_backbone("llama")
    part = put(backbone)
    tensors, facts = part.tensors(), part.facts()
    again = saved_adapter(tensors, facts, of_kind(), backbone, "a.safetensors")
    assert torch.equal(again.weights["up"], tensors["up"])
    with pytest.raises(DataError, match=r"'down' has shape \(3, 8, 32\), expected \(6, 8, 32\)"):
        saved_adapter(tensors, {}, of_kind("both"), backbone, "a.safetensors")
    with pytest.raises(ConfigError, match="has activation 'relu', the settings say 'gelu'"):
        saved_adapter(tensors, facts, of_kind(activation="gelu"), backbone, "a.safetensors")
    with pytest.raises(DataError, match="no bottleneck adapter: it has no 'down'"):
        saved_adapter({"weight": torch.ones(1)}, {}, of_kind(), backbone, "a.safetensors")


def test_a_model_whose_attention_is_not_found_says_which_position_works():
    backbone = tiny_backbone("llama")
    backbone.attachments.positions = ("feed_forward",)
    with pytest.raises(BackboneError, match="position=feed_forward"):
        put(backbone, "both")


def test_adapters_count_as_few_numbers_as_the_formula_says():
    backbone = tiny_backbone("llama")
    one = member(tiny_backbone("bert"), layout="{text}{task}")
    one.parts = {"adapter": put(backbone)}
    sites, width, narrow = 3, 32, 8
    one.trained_by_part = {}
    one.__post_init__()
    assert one.trained_count == sites * (2 * width * narrow + narrow + width)
    assert TrainingSettings().select == "dev_loss"
