"""Reparameterised prompts: their formulas, folding, going on unfolded, together as apart."""

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import layer_norm

from polyprompt.engine.cached import CachedEngine
from polyprompt.errors import DataError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.study import run_study, study_folders
from polyprompt.models.tiny import tiny_backbone
from polyprompt.seeds import generator
from polyprompt.training.loop import train
from polyprompt.tuning.reparameterisers import REPARAMETERISERS, build_network
from polyprompt.tuning.soft_prompt import SoftPrompt
from test_training import member


def prompt(kind, seed=0, length=3, width=8):
    weight = torch.from_numpy(generator(seed, "w").normal(0, 1, (length, 32))).float()
    network = build_network(kind, 32, width, generator(seed, "n"))
    return SoftPrompt(weight, network=network, kind=kind)


@pytest.mark.parametrize("kind", ["residual_mlp", "normed_mlp"])
def test_the_bottleneck_is_the_formula_of_residual_prompt_tuning(kind):
    """P + LayerNorm(up(ReLU(down(P)))), and the same without P as paper A's code has it."""
    part = prompt(kind)
    network, p = part.network, part.weight
    inner = (p @ network.down.weight.T + network.down.bias).clamp(min=0)
    out = inner @ network.up.weight.T + network.up.bias
    normed = layer_norm(out, (32,), network.norm.weight, network.norm.bias)
    torch.testing.assert_close(part(), p + normed if kind == "residual_mlp" else normed)


def test_the_mlp_is_that_of_prefix_tuning():
    part = prompt("mlp")
    first, _, second = part.network
    inner = torch.tanh(part.weight @ first.weight.T + first.bias)
    torch.testing.assert_close(part(), inner @ second.weight.T + second.bias)


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_networks_over_the_sequence_let_tokens_see_one_another(kind):
    part = prompt(kind)
    before = part().detach()
    with torch.no_grad():
        part.weight[2] += 1
    assert (part().detach()[0] != before[0]).any()


@pytest.mark.parametrize("kind", REPARAMETERISERS)
def test_networks_begin_the_same_and_leave_the_global_generator_alone(kind):
    state = torch.get_rng_state()
    one, two = prompt(kind, seed=4), prompt(kind, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(one(), two(), rtol=0, atol=0)
    assert not torch.equal(one(), prompt(kind, seed=5)())


@pytest.mark.parametrize("kind", REPARAMETERISERS)
def test_what_is_saved_is_folded_and_goes_on_unfolded(kind):
    part, other = prompt(kind, seed=1), prompt(kind, seed=2)
    saved = part.tensors()
    torch.testing.assert_close(saved["weight"], part(), rtol=0, atol=0)
    other.resume(saved, "file")
    torch.testing.assert_close(other(), part(), rtol=0, atol=0)
    torch.testing.assert_close(other.weight, part.weight, rtol=0, atol=0)
    # the folded prompt as the unfolded one would be another prompt altogether
    assert not torch.equal(saved["weight"], part.weight)


def test_another_network_or_none_is_not_taken_up():
    saved = prompt("mlp").tensors()
    with pytest.raises(DataError, match="by the network mlp; a lstm of this size cannot go on"):
        prompt("lstm").resume(saved, "file")
    plain = SoftPrompt(torch.zeros(3, 32)).tensors()
    assert set(plain) == {"weight"}
    with pytest.raises(DataError, match="was saved folded"):
        prompt("mlp").resume(plain, "file")


@pytest.mark.parametrize("kind", REPARAMETERISERS)
def test_networks_train_in_company_as_alone(kind):
    """Two runs with networks and one without, together and each by itself."""
    backbone = tiny_backbone("bert")

    def members():
        made = [member(backbone, seed=s, learning_rate=0.01, select="last") for s in range(3)]
        for index in (0, 1):
            made[index].parts["task"] = prompt(kind, seed=index)
        return made

    together = members()
    list(train(CachedEngine(backbone), together))
    for index, alone in enumerate(members()):
        list(train(CachedEngine(backbone), [alone]))
        torch.testing.assert_close(
            together[index].parts["task"](), alone.parts["task"](), atol=5e-3, rtol=1e-2
        )


@pytest.mark.parametrize("kind", REPARAMETERISERS)
def test_network_and_vectors_both_move(kind):
    backbone = tiny_backbone("bert")
    one = member(backbone, select="last")
    one.parts["task"] = prompt(kind)
    before = {n: p.detach().clone() for n, p in one.parts["task"].named_parameters()}
    list(train(CachedEngine(backbone), [one]))
    still = {n for n, p in one.parts["task"].named_parameters() if torch.equal(p, before[n])}
    # a constant added to all scores of a softmax over keys has no gradient
    assert still <= {n for n in before if "in_proj_bias" in n}


def finish(value):
    study = build_study(value, "toy")
    list(run_study(study))
    return study_folders(study)


def test_a_study_of_networks_saves_folded_prompts_and_a_later_one_goes_on(toy_study):
    value = toy_study | {"parts": {"task": {"reparameteriser": {"kind": "mlp", "width": 8}}}}
    folder = finish(value)[0]
    path = folder.path / "parts" / "task.safetensors"
    saved = load_file(path)
    assert saved["weight"].shape == (3, 32)
    assert "unfolded.mlp.network.0.weight" in saved
    assert folder.record()["trained_parameters"] == 3 * 32 + 2 * 8 * 32 + 8 + 32
    still = {"epochs": 0, "learning_rate": 0.05}
    on = value["parts"]["task"] | {"initial": {"kind": "file", "path": str(path)}}
    again = finish(value | {"name": "on", "parts": {"task": on}, "training": still})[0]
    after = load_file(again.path / "parts" / "task.safetensors")
    assert {n: t.tolist() for n, t in after.items()} == {n: t.tolist() for n, t in saved.items()}
    folded = finish(value | {
        "name": "folded", "parts": {"task": {"initial": on["initial"]}}, "training": still,
    })[0]  # fmt: skip
    plain = load_file(folded.path / "parts" / "task.safetensors")
    assert set(plain) == {"weight"}
    assert plain["weight"].tolist() == saved["weight"].tolist()


def test_runs_of_different_networks_are_one_group(toy_study):
    value = toy_study | {
        "grid": {
            "parts.task.reparameteriser": ["none", {"kind": "residual_mlp", "width": 8}, "lstm"],
            "parts.task.length": [2, 4],
            "shots": [1, 2],
        },
        "layout": "{text}{task}",
    }
    folders = finish(value)
    assert {folder.record()["group_runs"] for folder in folders} == {12}
