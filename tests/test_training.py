"""Training moves what is trained and nothing else, alone as in company, like a naive loop."""

import copy
import math

import pytest
import torch
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from polyprompt.capabilities import TrainingSettings
from polyprompt.data.encoding import Encoder
from polyprompt.engine.cached import CachedEngine
from polyprompt.engine.direct import DirectEngine
from polyprompt.engine.memory import Allowance
from polyprompt.families import Attention
from polyprompt.heads.similarity import SimilarityHead
from polyprompt.models.tiny import tiny_backbone
from polyprompt.records import Example
from polyprompt.seeds import generator
from polyprompt.tasks.layout import parse_layout
from polyprompt.training.loop import group_losses, train
from polyprompt.training.member import Member, label_tensor
from polyprompt.training.schedules import rate_factor
from polyprompt.tuning.soft_prompt import SoftPrompt

LABELS = ["a", "b", "c"]
TEXTS = [
    "wave on the sea",
    "rock of hills",
    "bus to town",
    "the sea",
    "stone",
    "tram",
    "w",
    "tall rock",
]


def member(
    backbone, seed=0, n=8, length=3, trained=True, layout="{text}{task}", **settings
) -> Member:
    parsed = parse_layout(layout, ["text"], {"task": length})
    encoder = Encoder(backbone.tokenizer, parsed, "", 64)
    examples = [Example(str(i), "e", {"text": t}, LABELS[i % 3]) for i, t in enumerate(TEXTS[:n])]
    weight = torch.from_numpy(generator(seed, "w").normal(0, 1, (length, 32))).float()
    described = torch.from_numpy(generator(99, "d").normal(0, 1, (3, 32))).float()
    inputs = encoder.encode(examples)
    labels = label_tensor(examples, inputs, LABELS)
    options = {"learning_rate": 0.05, "epochs": 4, "batch_size": 3} | settings
    return Member(
        {"task": SoftPrompt(weight, trained=trained)},
        SimilarityHead(described, 0.2),
        inputs, labels, inputs[:3], labels[:3],
        TrainingSettings(**options), seed, backbone.facts.width,
    )  # fmt: skip


def run(engine, members):
    return list(train(engine, members))


@pytest.mark.parametrize("attention", [Attention.ONE_WAY, Attention.FULL])
@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_all_of_the_trained_moves_and_nothing_else(kind, attention):
    backbone = tiny_backbone(kind, attention)
    engine = CachedEngine(backbone) if attention is Attention.ONE_WAY else DirectEngine(backbone)
    before = copy.deepcopy(backbone.model.state_dict())
    moving = member(backbone, seed=1, max_steps=3, select="last")
    still = member(backbone, seed=2, max_steps=3, select="last", trained=False)
    both = Member(
        {"task": moving.parts["task"], "other": still.parts["task"]},
        moving.head, moving.train, moving.train_labels, [], moving.dev_labels[:0],
        moving.settings, 1, backbone.facts.width,
    )  # fmt: skip
    parsed = parse_layout("{text}{task}{other}", ["text"], {"task": 3, "other": 3})
    encoder = Encoder(backbone.tokenizer, parsed, "", 64)
    both.train = encoder.encode([Example("", "", {"text": t}, "a") for t in TEXTS])
    start = {slot: part.weight.detach().clone() for slot, part in both.parts.items()}
    run(engine, [both])
    assert bool((both.parts["task"].weight != start["task"]).any(dim=1).all())
    assert torch.equal(both.parts["other"].weight, start["other"])
    for name, value in backbone.model.state_dict().items():
        assert torch.equal(value, before[name]), name
        assert (
            not dict(backbone.model.named_parameters())[name].requires_grad
            if name in dict(backbone.model.named_parameters())
            else True
        )


def test_runs_together_learn_what_they_learn_apart():
    backbone = tiny_backbone("bert")
    changes = [
        {"learning_rate": 0.05},
        {"learning_rate": 0.01, "n": 5},
        {"length": 6, "epochs": 2, "schedule": "constant", "select": "last"},
        {"epochs": 1, "schedule": "cosine", "select": "last"},
    ]
    together = [member(backbone, seed=s, **c) for s, c in enumerate(changes)]
    apart = [member(backbone, seed=s, **c) for s, c in enumerate(changes)]
    records = run(CachedEngine(backbone), together)
    for index, alone in enumerate(apart):
        own = run(CachedEngine(backbone), [alone])
        torch.testing.assert_close(
            together[index].parts["task"].weight, alone.parts["task"].weight, atol=2e-3, rtol=0
        )
        company = [r for r in records if r.run == index]
        assert [r.step for r in company] == [r.step for r in own]
        for a, b in zip(company, own, strict=True):
            assert a.learning_rate == b.learning_rate
            assert a.loss == pytest.approx(b.loss, abs=1e-3)
            assert a.dev_loss == pytest.approx(b.dev_loss, abs=1e-3)


def test_a_groups_gradient_is_each_runs_own():
    backbone = tiny_backbone("bert")
    members = [member(backbone, seed=s) for s in range(3)]
    rows = {0: [0, 1], 1: [2], 2: [3, 4, 5]}
    engine = CachedEngine(backbone)
    torch.stack(list(group_losses(engine, members, rows).values())).sum().backward()
    for index, one in enumerate(members):
        alone = member(backbone, seed=index)
        group_losses(engine, [alone], {0: rows[index]})[0].backward()
        torch.testing.assert_close(
            one.parts["task"].weight.grad, alone.parts["task"].weight.grad, atol=2e-5, rtol=0
        )


@pytest.mark.parametrize("engine_class", [CachedEngine, DirectEngine])
def test_twenty_steps_equal_a_naive_loop_over_transformers(engine_class):
    backbone = tiny_backbone("bert")
    ours = member(backbone, seed=3, epochs=7, max_steps=20, select="last", weight_decay=0.01)
    naive = member(backbone, seed=3, epochs=7, max_steps=20, select="last", weight_decay=0.01)
    run(engine_class(backbone), [ours])

    model = backbone.model
    prompt = naive.parts["task"].weight.detach().clone().requires_grad_()
    optimiser = torch.optim.AdamW([prompt], lr=0.05, weight_decay=0.01)
    schedule = get_linear_schedule_with_warmup(optimiser, 2, 20)
    targets = torch.nn.functional.normalize(naive.head.descriptions, dim=-1)
    for batch in naive.batches():
        losses = []
        for row in batch:
            ids = torch.from_numpy(naive.train[row].hard[0])[None]
            t = ids.shape[1]
            x = torch.cat([model.get_input_embeddings()(ids), prompt[None]], 1)
            mask = torch.zeros(t + 3, t + 3)
            mask[:t, t:] = -1e30
            hidden = model(inputs_embeds=x, attention_mask=mask[None, None]).last_hidden_state[0]
            vector = torch.nn.functional.normalize(hidden.mean(0), dim=-1)
            logits = targets @ vector / 0.2
            losses.append(torch.nn.functional.cross_entropy(logits, naive.train_labels[row]))
        optimiser.zero_grad()
        torch.stack(losses).mean().backward()
        torch.nn.utils.clip_grad_norm_([prompt], 1.0)
        optimiser.step()
        schedule.step()
    torch.testing.assert_close(ours.parts["task"].weight, prompt, atol=2e-3, rtol=0)
    start = member(backbone, seed=3).parts["task"].weight
    assert float((prompt - start).detach().abs().max()) > 0.1


def test_the_same_run_twice_is_the_same_run():
    backbone = tiny_backbone("bert")
    weights = []
    for _ in range(2):
        one = member(backbone, seed=0)
        run(CachedEngine(backbone), [one])
        weights.append(one.parts["task"].weight)
    assert torch.equal(weights[0], weights[1])


def test_seed_zero_orders_rows_in_its_own_way():
    backbone = tiny_backbone("bert")
    orders = [list(member(backbone, seed=s).batches()) for s in (0, 1)]
    assert orders[0] != orders[1]
    assert orders[0][0] != list(range(3))


def test_the_state_with_the_least_dev_loss_is_kept():
    backbone = tiny_backbone("bert")
    one = member(backbone, learning_rate=3.0, epochs=6)
    engine = CachedEngine(backbone)
    records = run(engine, [one])
    losses = [r.dev_loss for r in records if r.dev_loss is not None]
    again = next(iter(train(engine, [one]))).dev_loss
    assert again == pytest.approx(min(losses), abs=1e-4)


def test_training_starts_at_step_zero_and_the_loss_falls():
    one = member(tiny_backbone("bert"), epochs=60, length=12, learning_rate=0.1, n=3)
    records = run(CachedEngine(tiny_backbone("bert")), [one])
    assert (records[0].step, records[0].loss) == (0, None)
    assert records[-1].step == one.steps == 60
    assert records[-1].loss < 0.7 * records[1].loss


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("linear", get_linear_schedule_with_warmup),
        ("cosine", get_cosine_schedule_with_warmup),
        ("constant", lambda o, w, _: get_constant_schedule_with_warmup(o, w)),
    ],
)
def test_schedules_are_those_of_transformers(name, build):
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = build(optimiser, math.ceil(0.1 * 37), 37)
    for step in range(37):
        assert rate_factor(name, step, 37, 0.1) == pytest.approx(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_gradients_of_small_passes_add_up_to_the_steps(rows):
    results = []
    for allowance in (Allowance(), Allowance(rows=rows)):
        backbone = tiny_backbone("bert")
        members = [member(backbone, seed=s, length=2 + s, batch_size=3 + s) for s in range(2)]
        records = run(CachedEngine(backbone, allowance=allowance), members)
        results.append((records, members))
    (whole, ours), (parts, theirs) = results
    for a, b in zip(whole, parts, strict=True):
        assert (a.loss or 0.0) == pytest.approx(b.loss or 0.0, rel=1e-4, abs=1e-6)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(
            a.parts["task"].weight, b.parts["task"].weight, atol=1e-4, rtol=0
        )


def test_a_step_for_which_memory_runs_out_is_taken_in_parts():
    results = []
    for limit in (99, 2):
        backbone = tiny_backbone("bert")
        engine = CachedEngine(backbone)
        true_each = engine.each

        def each(inputs, runs, prompts, limit=limit, true_each=true_each):
            if torch.is_grad_enabled() and len(inputs) > limit:
                raise torch.OutOfMemoryError
            return true_each(inputs, runs, prompts)

        engine.each = each
        one = member(backbone)
        run(engine, [one])
        results.append(one.parts["task"].weight.detach())
    assert engine.allowance.rows <= 2
    torch.testing.assert_close(*results, atol=1e-4, rtol=0)
