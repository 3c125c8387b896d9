"""The engines agree with each other and with transformers, in outputs and gradients."""

import gc
from concurrent.futures import ThreadPoolExecutor
from weakref import ref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polyprompt.data.encoded import Encoded
from polyprompt.data.encoding import Encoder
from polyprompt.engine.arrangement import Shape
from polyprompt.engine.cached import CachedEngine, groups_of_similar_size
from polyprompt.engine.direct import DirectEngine
from polyprompt.engine.engine import Prompts, choose
from polyprompt.engine.memory import Allowance
from polyprompt.engine.store import Budget, FrozenStore
from polyprompt.errors import BackboneError, ConfigError
from polyprompt.families import Attention
from polyprompt.models.probe import probe_encoder as probe
from polyprompt.models.tiny import tiny_backbone
from polyprompt.part_settings import Reach
from polyprompt.records import Example
from polyprompt.tasks.layout import parse_layout

TOLERANCE = 2e-5
KINDS = ("bert", "xlm-roberta")
LAYOUTS = {
    "after": "{text}{task:4}",
    "before": "{task:4}{text}",
    "between": "a {text}? {task:3} {more}{other:2} end",
}
TEXTS = ("hello world", "x", "the cat sat on the mat", "ab", "one two three four five")


def setting(kind: str, layout: str, runs: int, attention: Attention | None = None):
    backbone = tiny_backbone(kind, attention)
    slots = {name: None for name in ("task", "other") if "{" + name in LAYOUTS[layout]}
    parsed = parse_layout(LAYOUTS[layout], ["text", "more"], slots)
    encoder = Encoder(backbone.tokenizer, parsed, "q: ", 64)
    inputs = encoder.encode([Example(t, "", {"text": t, "more": t[::-1]}) for t in TEXTS])
    generator = torch.Generator().manual_seed(7)
    lengths = tuple(slot.length for slot in parsed.slots)
    vectors = tuple(
        torch.randn(sum(lengths), 32, generator=generator, requires_grad=True) for _ in range(runs)
    )
    return backbone, inputs, Prompts(vectors, (lengths,) * runs)


def compare(engine_a, engine_b, read, vectors):
    """Compare states and the gradients of an arbitrary function of them."""
    results = []
    for engine in (engine_a, engine_b):
        states = read(engine)
        value = states.mean.sin().sum() + states.last.cos().sum()
        results.append((states, torch.autograd.grad(value, vectors)))
    (a, grads_a), (b, grads_b) = results
    torch.testing.assert_close(a.mean, b.mean, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(a.last, b.last, atol=TOLERANCE, rtol=0)
    for x, y in zip(grads_a, grads_b, strict=True):
        scale = max(1.0, float(y.abs().max()))
        torch.testing.assert_close(x, y, atol=TOLERANCE * scale, rtol=0)


@pytest.mark.parametrize("runs", [1, 4])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_cached_equals_direct(kind, layout, runs):
    backbone, inputs, prompts = setting(kind, layout, runs)
    cached, direct = CachedEngine(backbone), DirectEngine(backbone)
    owners = [i % runs for i in range(len(inputs))]
    compare(cached, direct, lambda e: e.each(inputs, owners, prompts), prompts.vectors)
    compare(cached, direct, lambda e: e.every(inputs, prompts), prompts.vectors)
    kept = CachedEngine(backbone)
    kept.keep(inputs, prompts.shapes[0])
    compare(kept, direct, lambda e: e.each(inputs, owners, prompts), prompts.vectors)


@pytest.mark.parametrize("engine_class", [CachedEngine, DirectEngine])
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_does_not_depend_on_batch_padding_or_company(kind, engine_class):
    backbone, inputs, prompts = setting(kind, "after", 3)
    engine = engine_class(backbone)
    together = engine.every(inputs, prompts).mean.view(3, len(inputs), -1)
    for i, one in enumerate(inputs):
        for run in range(3):
            alone = engine.each([one], [0], prompts.only(run)).mean[0]
            torch.testing.assert_close(together[run, i], alone, atol=TOLERANCE, rtol=0)


def test_runs_of_different_lengths_are_read_together():
    backbone, inputs, _ = setting("bert", "after", 1)
    vectors = tuple(torch.randn(n, 32) for n in (1, 5, 2))
    prompts = Prompts(vectors, ((1,), (5,), (2,)))
    owners = [0, 1, 2, 1, 0]
    for read in (lambda e: e.every(inputs, prompts), lambda e: e.each(inputs, owners, prompts)):
        a, b = read(CachedEngine(backbone)), read(DirectEngine(backbone))
        torch.testing.assert_close(a.mean, b.mean, atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(a.last, b.last, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_direct_equals_transformers_one_sentence_at_a_time(kind):
    backbone, inputs, prompts = setting(kind, "after", 1)
    model = backbone.model
    states = DirectEngine(backbone).each(inputs, [0] * len(inputs), prompts)
    offset = 2 if kind == "xlm-roberta" else 0
    for i, encoded in enumerate(inputs):
        ids = torch.from_numpy(encoded.hard[0])[None]
        t, p = ids.shape[1], len(prompts.vectors[0])
        see = torch.zeros(t + p, t + p).masked_fill(
            (torch.arange(t + p)[:, None] < t) & (torch.arange(t + p)[None] >= t), -1e30
        )
        out = model(
            inputs_embeds=torch.cat(
                [model.get_input_embeddings()(ids), prompts.vectors[0][None]], 1
            ),
            attention_mask=see[None, None],
            position_ids=torch.arange(t + p)[None] + offset,
        ).last_hidden_state[0]
        torch.testing.assert_close(states.mean[i], out.mean(0), atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(states.last[i], out[-1], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_full_attention_and_bare_reading_equal_transformers_own_forward(kind):
    backbone, inputs, prompts = setting(kind, "before", 1, Attention.FULL)
    engine, model = DirectEngine(backbone), backbone.model
    states = engine.each(inputs, [0] * len(inputs), prompts)
    bare = engine.bare(inputs)
    table = model.get_input_embeddings()
    for i, encoded in enumerate(inputs):
        ids = torch.from_numpy(encoded.hard[1])[None]
        with_prompt = model(inputs_embeds=torch.cat([prompts.vectors[0][None], table(ids)], 1))
        torch.testing.assert_close(
            states.mean[i], with_prompt.last_hidden_state[0].mean(0), atol=TOLERANCE, rtol=0
        )
        plain = model(input_ids=ids).last_hidden_state[0].mean(0)
        torch.testing.assert_close(bare.mean[i], plain, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("engine_class", [CachedEngine, DirectEngine])
def test_a_bare_reading_is_transformers_mean(engine_class):
    backbone, inputs, _ = setting("bert", "after", 1)
    bare = engine_class(backbone).bare(inputs).mean
    for i, encoded in enumerate(inputs):
        plain = backbone.model(input_ids=torch.from_numpy(encoded.hard[0])[None])
        torch.testing.assert_close(
            bare[i], plain.last_hidden_state[0].mean(0), atol=TOLERANCE, rtol=0
        )


def test_the_cache_does_not_change_what_it_holds():
    backbone, inputs, prompts = setting("bert", "after", 2)
    engine = CachedEngine(backbone)
    engine.keep(inputs, prompts.shapes[0])
    size = dict(engine.store.bytes)
    first = engine.every(inputs, prompts).mean
    first.sum().backward()
    torch.testing.assert_close(engine.every(inputs, prompts).mean, first, atol=0, rtol=0)
    assert engine.store.bytes == size


@pytest.mark.parametrize("budget", [(30_000, 0, 0), (30_000, 0, 40_000), (0, 0, 10**9)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_store_keeps_to_its_budgets_and_the_answers_stay_the_same(kind, budget, tmp_path):
    backbone, inputs, prompts = setting(kind, "after", 2)
    small = CachedEngine(backbone, Budget(*budget, folder=tmp_path))
    small.keep(inputs, prompts.shapes[0])
    store = small.store
    assert len(store) > 0
    assert (len(store) < len(inputs)) == (sum(budget) < 10**6)
    assert all(store.bytes[tier] <= getattr(Budget(*budget), tier) for tier in store.bytes)
    files = list(tmp_path.rglob("*.safetensors"))
    assert bool(files) == bool(budget[2])
    whole = DirectEngine(backbone)
    twice = [*inputs, *inputs[:2]]
    close = {"atol": TOLERANCE, "rtol": 0}
    torch.testing.assert_close(
        small.every(twice, prompts).mean, whole.every(twice, prompts).mean, **close
    )
    states = [e.each(inputs, [0] * len(inputs), prompts).last for e in (small, whole)]
    torch.testing.assert_close(*states, **close)
    del small, store
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_an_empty_store_holds_nothing():
    assert ("model", b"", b"") not in FrozenStore(Budget(0))


def test_the_cached_value_of_another_model_is_not_used():
    a, b = tiny_backbone("bert", seed=0), tiny_backbone("bert", seed=1)
    _, inputs, _ = setting("bert", "after", 1)
    rows = [CachedEngine(m)._key for m in (a, b)]
    from polyprompt.engine.arrangement import arrange

    row = arrange(inputs[0], Shape((4,)), Attention.ONE_WAY)
    assert rows[0](row) != rows[1](row)


@pytest.mark.parametrize(
    ("asked", "attention", "reach", "kind"),
    [
        ("auto", Attention.ONE_WAY, Reach.AFTER_INPUT, "cached"),
        ("auto", Attention.FULL, Reach.WHOLE_SEQUENCE, "direct"),
        ("auto", Attention.CAUSAL, Reach.WHOLE_SEQUENCE, "direct"),
        ("auto", Attention.CAUSAL, Reach.WEIGHTS, "direct"),
        ("direct", Attention.ONE_WAY, Reach.AFTER_INPUT, "direct"),
    ],
)
def test_the_engine_follows_from_reach(asked, attention, reach, kind):
    choice = choose(asked, attention, [reach])
    assert choice.kind == kind
    assert "engine" in choice.reason


def test_a_cached_engine_that_would_not_be_exact_is_refused():
    with pytest.raises(ConfigError, match="would not be exact: with full attention"):
        choose("cached", Attention.FULL, [Reach.WHOLE_SEQUENCE])


def test_the_probe_refuses_a_model_whose_cached_path_differs():
    backbone = tiny_backbone("bert")
    probe(backbone)
    true_extend = backbone.extend
    backbone.extend = lambda *args: true_extend(*args) * 1.01  # type: ignore[method-assign]
    with pytest.raises(BackboneError, match=r"differs from the whole forward pass.*attention=full"):
        probe(backbone)


@pytest.mark.parametrize("kind", ["bert", "llama", "bloom"])
def test_passes_of_several_threads_do_not_disturb_each_other(kind):
    backbone, inputs, prompts = setting(kind, "after", 2)
    engine = CachedEngine(backbone)
    wanted = engine.every(inputs, prompts).last.detach()

    def read(_):
        return engine.every(inputs, prompts).last.detach()

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(read, range(40)):
            torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("kind", ["bert", "llama", "bloom", "xglm"])
def test_a_backbone_that_is_let_go_of_leaves_memory_at_once(kind):
    gc.collect()
    gc.disable()
    try:
        backbone = tiny_backbone(kind)
        held = [ref(p) for p in backbone.model.parameters()]
        del backbone
        assert not [one for one in held if one() is not None]
    finally:
        gc.enable()


def test_unprompted_reading_keeps_to_the_allowance_and_shrinks_it():
    backbone, inputs, _ = setting("llama", "after", 1)
    wanted = CachedEngine(backbone).bare(inputs).last
    engine = CachedEngine(backbone, allowance=Allowance(1000))
    sizes, encode = [], backbone.encode

    def limited(x, blocks):
        sizes.append(len(x))
        if len(x) > 30:
            raise torch.OutOfMemoryError("out of memory")
        return encode(x, blocks)

    backbone.encode = limited
    torch.testing.assert_close(engine.bare(inputs).last, wanted)
    assert engine.allowance.tokens <= 30 * 2
    failed = sum(size > 30 for size in sizes)
    torch.testing.assert_close(engine.bare(inputs).last, wanted)
    assert sum(size > 30 for size in sizes) == failed


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_inputs_without_frozen_tokens_are_read(kind):
    backbone, inputs, prompts = setting(kind, "after", 2)
    empty = Encoded((np.zeros(0, dtype=np.int64),) * 2, 0, 0, 0)
    cached, direct = CachedEngine(backbone), DirectEngine(backbone)
    for some in ([empty, empty], [empty, inputs[0]]):
        owners = [i % 2 for i in range(len(some))]
        a, b = cached.each(some, owners, prompts), direct.each(some, owners, prompts)
        torch.testing.assert_close(a.last, b.last)
        a, b = cached.every(some, prompts), direct.every(some, prompts)
        torch.testing.assert_close(a.mean, b.mean)
        assert cached.bare(some).last[0].abs().max() == 0
    kept = CachedEngine(backbone)
    kept.keep([empty], prompts.shapes[0])
    a = kept.each([empty, empty], [0, 1], prompts)
    torch.testing.assert_close(a.last, direct.each([empty, empty], [0, 1], prompts).last)


def full_disk(*_):
    raise OSError(28, "No space left on device")


def no_memory(*_):
    raise MemoryError


@pytest.mark.parametrize(("name", "failing"), [("save_file", full_disk), ("_row", no_memory)])
def test_a_tier_that_really_runs_out_is_full_and_nothing_more(name, failing, monkeypatch, tmp_path):
    backbone, inputs, prompts = setting("bert", "after", 2)
    wanted = CachedEngine(backbone).every(inputs, prompts).mean.detach()
    monkeypatch.setattr(f"polyprompt.engine.store.{name}", failing)
    engine = CachedEngine(backbone, Budget(0, 0, 10**9, tmp_path))
    tokens = engine.allowance.tokens
    engine.keep(inputs, prompts.shapes[0])
    assert engine.store.is_full
    assert len(engine.store) == 0
    assert engine.allowance.tokens == tokens
    monkeypatch.undo()
    torch.testing.assert_close(engine.every(inputs, prompts).mean.detach(), wanted)


@given(st.lists(st.tuples(st.integers(0, 70), st.integers(0, 200)), min_size=1, max_size=200))
def test_groups_hold_every_row_once_and_pad_live_tokens_to_twice_at_most(sizes):
    groups = groups_of_similar_size(sizes, 16)
    assert sorted(row for group in groups for row in group) == list(range(len(sizes)))
    for group in groups:
        live = [sizes[row][0] for row in group]
        assert len(group) <= 16
        assert max(live) < 2 * max(1, min(live))


@pytest.mark.parametrize("kind", ["bert", "bloom", "mistral"])
def test_runs_of_very_different_lengths_read_as_each_alone(kind):
    """Their rows are computed in several parts of one pass."""
    backbone, inputs, _ = setting(kind, "after", 1)
    inputs = [*inputs, *inputs] * 4
    generator = torch.Generator().manual_seed(1)
    vectors = tuple(
        (0.3 * torch.randn(n, 32, generator=generator)).requires_grad_() for n in (1, 2, 5, 17, 1)
    )
    prompts = Prompts(vectors, tuple((len(v),) for v in vectors))
    owners = [(3 * i) % 5 for i in range(len(inputs))]
    cached, direct = CachedEngine(backbone), DirectEngine(backbone)
    compare(cached, direct, lambda e: e.each(inputs, owners, prompts), vectors)
    compare(cached, direct, lambda e: e.every(inputs[:5], prompts), vectors)
