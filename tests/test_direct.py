"""The direct engine: shared prefixes, layers computed again, all parameters trained."""

import time

import numpy as np
import pytest
import torch

from polyprompt.engine.compiling import compile_where_it_pays
from polyprompt.engine.direct import DirectEngine
from polyprompt.engine.engine import Prompts
from polyprompt.models.tiny import DECODERS, tiny_backbone
from test_causal import by_transformers as reference
from test_causal import close, setting

BRANCHES = [(7, 9), (8,)]


@pytest.mark.parametrize("layout", ["before", "around", "after"])
@pytest.mark.parametrize("kind", DECODERS)
def test_a_common_beginning_is_computed_once_and_read_the_same(kind, layout):
    backbone, inputs, prompts = setting(kind, layout, 2)
    engine = DirectEngine(backbone, BRANCHES)
    whole = engine.every(inputs, prompts)
    before = backbone.work.tokens
    with torch.no_grad():
        shared = engine.every(inputs, prompts)
    tokens = backbone.work.tokens - before
    for name in ("mean", "last", "branches"):
        close(getattr(shared, name), getattr(whole, name).detach())
    theirs = [
        reference(backbone, x, vectors, lengths)
        for vectors, lengths in zip(prompts.vectors, prompts.lengths, strict=True)
        for x in inputs
    ]
    close(backbone.unembed(shared.last), torch.stack(theirs).detach())
    each = sum(x.tokens + 3 for x in inputs)
    common = {"before": 4, "around": 3, "after": 0}[layout]
    saved = 2 * (len(inputs) - 1) * common
    assert tokens <= 2 * each + 2 * len(inputs) * sum(prompts.lengths[0]) - saved


def test_a_common_beginning_leaves_the_last_token_over():
    backbone, _, _ = setting("llama", "after", 1, 1)
    engine, nothing = DirectEngine(backbone), Prompts((), ()).and_bare(backbone)
    backbone, inputs, _ = setting("llama", "after", 1, 3)
    same = [inputs[0]] * 3
    with torch.no_grad():
        shared = engine.every(same, nothing).last
    close(shared, engine.every(same, nothing).last.detach())


@pytest.mark.parametrize("layout", ["before", "after"])
@pytest.mark.parametrize("kind", [*DECODERS, "xlm-roberta"])
def test_layers_computed_again_give_the_same_gradients(kind, layout):
    if kind == "xlm-roberta":
        _, inputs, prompts = setting("llama", layout, 2)
        backbone = tiny_backbone(kind)
        width = backbone.facts.width
        vectors = tuple(v[:, :width].detach().requires_grad_() for v in prompts.vectors)
        prompts = Prompts(vectors, prompts.lengths)
    else:
        backbone, inputs, prompts = setting(kind, layout, 2)
    owners = [i % 2 for i in range(len(inputs))]
    found = []
    for again in (False, True):
        backbone.checkpointing = again
        states = DirectEngine(backbone).each(inputs, owners, prompts)
        found.append((states.last, *torch.autograd.grad(states.last.sin().sum(), prompts.vectors)))
    for kept, computed_again in zip(*found, strict=True):
        torch.testing.assert_close(computed_again, kept)


def test_layers_computed_again_save_memory():
    """What autograd keeps shrinks to what enters the layers."""
    backbone, inputs, prompts = setting("llama", "before", 2)
    kept = []
    for again in (False, True):
        backbone.checkpointing = again
        bytes_kept = 0

        def note(tensor):
            nonlocal bytes_kept
            bytes_kept += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            DirectEngine(backbone).each(inputs, [0] * len(inputs), prompts)
        kept.append(bytes_kept)
    assert kept[1] < kept[0] / 2


@pytest.mark.parametrize("kind", ["bloom", "llama", "gpt2", "gemma3_text"])
def test_training_all_parameters_equals_plain_transformers(kind):
    """AdamW without decay over every parameter, the whole table included, sentence by sentence."""
    backbone, inputs, _ = setting(kind, "after", 1, 6)
    twin, _, _ = setting(kind, "after", 1, 6)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    words = [31, 32, 33]
    ids = [*words, *np.concatenate([x.hard[0] for x in inputs]).tolist()]
    parameters = list(backbone.unfreeze(ids).parameters.values())
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0, eps=1e-3)
    model = twin.model.requires_grad_(requires_grad=True)
    theirs = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, eps=1e-3)
    engine, nothing = DirectEngine(backbone), Prompts((), ()).and_bare(backbone)
    for _ in range(3):
        states = engine.each(inputs, [0] * len(inputs), nothing)
        loss = torch.nn.functional.cross_entropy(backbone.unembed(states.last, words), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rows = [model(input_ids=torch.from_numpy(x.hard[0])[None]).logits[0, -1] for x in inputs]
        plain = torch.nn.functional.cross_entropy(torch.stack(rows)[:, words], labels)
        theirs.zero_grad()
        plain.backward()
        theirs.step()
        assert loss.item() == pytest.approx(plain.item(), rel=1e-4)
    backbone.freeze()
    assert not any(p.requires_grad for p in backbone.model.parameters())
    moved = 0.0
    untrained = tiny_backbone(kind).model.state_dict()
    for (name, ours), other in zip(
        backbone.model.named_parameters(), model.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: n + m)
        moved = max(moved, float((ours - untrained[name]).detach().abs().max()))
    assert moved > 1e-3


@pytest.mark.parametrize(("pause", "kept"), [(0.0, False), (0.02, True)])
def test_compiled_layers_are_kept_where_they_are_faster(monkeypatch, pause, kept):
    """A compiler that takes away the pause in every layer pays; one that adds a pause does not."""
    backbone, _, _ = setting("llama", "after", 1)
    quick = [layer.forward for layer in backbone.layers]
    for layer, forward in zip(backbone.layers, quick, strict=True):
        layer.forward = _paused(forward, pause)
    before = [layer.forward for layer in backbone.layers]
    compiled = iter(quick if kept else [_paused(forward, 0.02) for forward in quick])
    monkeypatch.setattr(torch, "compile", lambda forward, dynamic: next(compiled))
    gain = compile_where_it_pays(backbone)
    assert (gain > 1.1) is kept
    now = [layer.forward for layer in backbone.layers]
    assert now == (quick if kept else before)
    assert compile_where_it_pays(backbone) == gain


def _paused(forward, seconds):
    def paused(*args, **options):
        time.sleep(seconds)
        return forward(*args, **options)

    return paused
