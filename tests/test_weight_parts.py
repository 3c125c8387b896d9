"""Parts that reach the weights: exact, reversible on disk, alone in memory."""

import gc
import weakref

import numpy as np
import polars as pl
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy

from polyprompt.capabilities import TrainingSettings
from polyprompt.classifier import Classifier, fit_settings
from polyprompt.engine.direct import DirectEngine
from polyprompt.errors import ConfigError, StoreError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.plan import plan_study
from polyprompt.experiments.study import run_study, study_folders
from polyprompt.head_settings import VerbalizerSettings
from polyprompt.heads.verbalizer import VerbalizerHead, Words
from polyprompt.models.tiny import tiny_backbone, tiny_model, tiny_tokenizer
from polyprompt.part_settings import LoraSettings
from polyprompt.seeds import generator
from polyprompt.training.loop import train
from polyprompt.training.member import Member
from polyprompt.tuning.full import Full, apply_full
from polyprompt.tuning.lora import Lora, apply_lora
from polyprompt.tuning.soft_prompt import SoftPrompt
from test_causal import by_transformers, close, setting
from test_training import member

WORDS = [31, 32, 33]
KINDS = ["bloom", "xglm", "llama", "gpt2", "gemma3_text", "opt"]


def decoder_member(kind, part, loss, ids, prompt=True):
    """A member of six sentences with a prompt behind them, and something that trains weights."""
    backbone, inputs, prompts = setting(kind, "after", 1, 6)
    head = VerbalizerHead(
        backbone, Words(tuple((w,) for w in WORDS)), VerbalizerSettings(loss=loss)
    )
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    parts = {"task": SoftPrompt(prompts.vectors[0])} if prompt else {}
    if part == "full":
        parts["model"] = Full(backbone, ids)
    elif part == "lora":
        parts["model"] = Lora(backbone, LoraSettings(kind="lora"), generator(0, "lora"))
    settings = {"learning_rate": 1e-3, "epochs": 3, "batch_size": 6, "select": "last",
                "schedule": "constant", "warmup_share": 0, "clip_norm": None}  # fmt: skip
    made = Member(
        parts, head, inputs, labels, [], labels[:0], TrainingSettings(**settings), 0,
        backbone.facts.width,
    )  # fmt: skip
    return backbone, made


@pytest.mark.parametrize("loss", ["labels", "vocabulary"])
@pytest.mark.parametrize("kind", KINDS)
def test_all_parameters_and_the_prompt_train_as_in_plain_transformers(kind, loss):
    """AdamW over every parameter, the tied table and the prompt included, sentence by sentence."""
    twin, inputs, prompts = setting(kind, "after", 1, 6)
    ids = None
    if loss == "labels":
        ids = [*WORDS, *np.concatenate([x.hard[0] for x in inputs]).tolist()]
    backbone, ours = decoder_member(kind, "full", loss, ids)
    records = [r for r in train(DirectEngine(backbone), [ours]) if r.loss is not None]
    model = twin.model.requires_grad_(requires_grad=True)
    prompt = torch.nn.Parameter(prompts.vectors[0].detach().clone())
    optimiser = torch.optim.AdamW([prompt, *model.parameters()], lr=1e-3, weight_decay=0.0)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    words = torch.tensor(WORDS)
    for record in records:
        order = torch.arange(6)
        logits = torch.stack([
            by_transformers(twin, inputs[i], prompt, prompts.lengths[0]) for i in order
        ])  # fmt: skip
        if loss == "labels":
            plain = cross_entropy(logits[:, words], labels)
        else:
            plain = cross_entropy(logits, words[labels])
        assert record.loss == pytest.approx(plain.item(), rel=2e-3)
        optimiser.zero_grad()
        plain.backward()
        optimiser.step()
    torch.testing.assert_close(ours.parts["task"].weight, prompt, rtol=1e-2, atol=2e-4)


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("part", ["full", "lora", ""])
@pytest.mark.parametrize("kind", ["bloom", "xglm", "llama", "gpt2"])
def test_what_is_trained_moves_and_nothing_else(kind, part, prompt):
    if not part and not prompt:
        pytest.skip("nothing would be trained")
    backbone, one = decoder_member(kind, part, "vocabulary", None, prompt)
    before = {n: p.detach().clone() for n, p in backbone.model.named_parameters()}
    soft = [p.weight.detach().clone() for p in one.prompts]
    list(train(DirectEngine(backbone), [one]))
    moved = {n for n, p in backbone.model.named_parameters() if not torch.equal(p, before[n])}
    trained = {n for n, p in backbone.model.named_parameters() if p.requires_grad}
    if part == "full":
        assert trained == set(before)
        unused = {n for n in before if "position" in n or n.endswith("k_proj.bias")}
        assert moved >= set(before) - unused
    elif part == "lora":
        assert all(".lora_" in name for name in trained)
        assert moved == trained
    else:
        assert moved == set()
    assert all(not torch.equal(a, p.weight) for a, p in zip(soft, one.prompts, strict=True))


def test_an_encoder_trains_whole_too():
    backbone = tiny_backbone("xlm-roberta")
    one = member(backbone, layout="{text}{task}", epochs=1, select="last")
    one.parts["model"] = Full(backbone)
    before = {n: p.detach().clone() for n, p in backbone.model.named_parameters()}
    list(train(DirectEngine(backbone), [one]))
    still = {n for n, p in backbone.model.named_parameters() if torch.equal(p, before[n])}
    assert still <= {"embeddings.token_type_embeddings.weight"} | {
        n for n in before if n.endswith("key.bias")
    }


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_occur_train_like_the_whole_table(kind):
    """Loss over the label words, no weight decay: all other rows have no gradient."""
    results = []
    for whole in (True, False):
        _, inputs, _ = setting(kind, "after", 1, 6)
        ids = [*WORDS, *np.concatenate([x.hard[0] for x in inputs]).tolist()]
        backbone, one = decoder_member(kind, "full", "labels", None if whole else ids)
        list(train(DirectEngine(backbone), [one]))
        one.parts["model"].finish()
        results.append(backbone.table.detach().clone())
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
@pytest.mark.filterwarnings("ignore:fan_in_fan_out:UserWarning")
@pytest.mark.parametrize("kind", ["bloom", "llama", "gpt2"])
def test_lora_computes_what_peft_computes(kind):
    backbone, inputs, prompts = setting(kind, "after", 1, 6)
    rng = generator(0, "lora")
    part = Lora(backbone, LoraSettings(kind="lora", rank=4, alpha=8), rng)
    values = {n: torch.randn_like(t) * 0.2 for n, t in part.tensors().items()}
    with torch.no_grad():
        for name, parameter in part.tensors().items():
            parameter.copy_(values[name])
    ours = DirectEngine(backbone).each(inputs, [0] * 6, prompts).last
    theirs = tiny_backbone(kind)
    names = {name.rsplit(".", 3)[0].rsplit(".", 1)[-1] for name in values}
    wrapped = get_peft_model(
        theirs.model, LoraConfig(r=4, lora_alpha=8, target_modules=sorted(names), lora_dropout=0.0)
    )
    own = dict(wrapped.base_model.model.named_parameters())
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value)
    expected = [by_transformers(theirs, x, prompts.vectors[0], prompts.lengths[0]) for x in inputs]
    close(backbone.unembed(ours), torch.stack(expected).detach())


@pytest.mark.parametrize("part", ["full", "lora"])
def test_another_copy_gets_what_was_trained(part):
    _, inputs, _ = setting("llama", "after", 1, 6)
    ids = [*WORDS, *np.concatenate([x.hard[0] for x in inputs]).tolist()]
    backbone, one = decoder_member("llama", part, "labels", ids)
    list(train(DirectEngine(backbone), [one]))
    weights = one.parts["model"]
    weights.finish()
    prompts = setting("llama", "after", 1, 6)[2]
    trained = DirectEngine(backbone).each(inputs, [0] * 6, prompts).last
    copy, fresh = tiny_backbone("llama"), tiny_backbone("llama")
    weights.copy_to(copy)
    close(DirectEngine(copy).each(inputs, [0] * 6, prompts).last, trained.detach())
    if part == "full":
        apply_full(fresh, weights.tensors())
    else:
        apply_lora(fresh, weights.tensors(), LoraSettings(kind="lora"))
    close(DirectEngine(fresh).each(inputs, [0] * 6, prompts).last, trained.detach())
    assert not any(p.requires_grad for p in copy.model.parameters())


def test_lora_names_the_projections_there_are():
    with pytest.raises(ConfigError, match="no projection that ends with wrong.*q_proj"):
        Lora(
            tiny_backbone("llama"), LoraSettings(kind="lora", targets=("wrong",)), generator(0, "x")
        )


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama-tiny")
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def arms(toy_study, llama_folder):
    return toy_study | {
        "backbone": {"name": str(llama_folder), "max_tokens": 64},
        "head": {"words": {"sea": "s", "hill": "h", "town": "t"}, "leading_space": False},
        "in_context_tokens": 0,
        "parts": {"task": {}},
        "arms": {
            "frozen": {},
            "full": {"parts.model": {"kind": "full"}, "training.learning_rate": 1e-3},
            "alone": {"parts": {"model": {"kind": "full"}}, "layout": "{text}"},
            "lora": {"parts.model": {"kind": "lora"}},
        },
        "grid": {"seed": [0, 1]},
    }


def finish(value):
    study = build_study(value, "toy")
    list(run_study(study))
    return study_folders(study)


def test_arms_run_and_every_run_answers_again_from_its_folder(arms):
    folders = finish(arms)
    assert len(folders) == 8
    trained = {}
    for folder in folders:
        record = folder.record()
        trained[record["arm"]] = record["trained_parameters"]
        own = folder.predictions().filter(
            pl.col("baseline").is_null(), pl.col("language") == "eng_Latn"
        )
        data = pl.read_parquet(f"{arms['data']}/test.parquet").filter(
            pl.col("language") == "eng_Latn"
        )
        texts = dict(zip(data["id"], data["text"], strict=True))
        again = Classifier.load(folder.path).predict_proba([texts[i] for i in own["id"]])
        scores = torch.tensor(own["scores"].to_list()).softmax(1).numpy()
        np.testing.assert_allclose(again, scores, atol=2e-5)
        frozen = record["arm"] == "frozen"
        assert (record["engine"], record["group_runs"]) == (
            ("cached", 2) if frozen else ("direct", 1)
        )
        assert ("frozen backbone are left out" in record["baselines_note"]) == (not frozen)
        used = record["accounting"]
        assert used["trained_share"] == pytest.approx(
            record["trained_parameters"] / record["backbone_parameters"]
        )
        assert used["stored_bytes"] > 4 * record["trained_parameters"]
        assert used["stages"]["train"]["tokens"] > 0
        assert used["peak_memory_bytes"]["host"] > 2**20
    assert trained["frozen"] == 3 * 32
    assert trained["frozen"] < trained["lora"] < trained["alone"]
    assert trained["full"] == trained["alone"] + 3 * 32


def test_a_seed_of_an_arm_does_not_depend_on_what_ran_before(arms):
    """Every run that trains weights begins with the untouched model."""
    both = finish(arms)
    only = finish(
        arms | {"name": "only", "arms": {"full": arms["arms"]["full"]}, "grid": {"seed": [1]}}
    )
    (there,) = [f for f in both if f.name == only[0].name]
    assert there.predictions()["scores"].to_list() == only[0].predictions()["scores"].to_list()


def test_no_more_than_two_copies_of_a_model_are_ever_alive(arms, monkeypatch):
    """Counted whenever one is loaded; reading in half precision takes a copy of its own."""
    from polyprompt.models import load

    alive, counts = [], []
    own = load._load_model

    def counted(*args):
        gc.collect()
        model = own(*args)
        alive.append(weakref.ref(model))
        counts.append(sum(one() is not None for one in alive))
        return model

    monkeypatch.setattr(load, "_load_model", counted)
    finish(arms | {"backbone": arms["backbone"] | {"reading_dtype": "bfloat16"}})
    assert len(counts) == 2 * 7
    assert max(counts) == 2


def test_weights_that_were_not_kept_are_missed_with_a_reason(arms):
    arms["arms"] = {"full": {"parts.model": {"kind": "full", "save": False}}}
    folder = finish(arms)[0]
    assert {p.name for p in (folder.path / "parts").iterdir()} == {
        "task.safetensors", "head.safetensors",
    }  # fmt: skip
    with pytest.raises(StoreError, match="did not keep its weights"):
        Classifier.load(folder.path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parts": {"task": {}, "a": {"kind": "full"}, "b": {"kind": "lora"}}}, "a, b all train"),
        ({"parts": {"a": {"kind": "full"}}, "backbone.quantization": "8bit"}, "cannot be trained"),
        ({"parts": {"a": {"kind": "full"}}, "backbone.device_map": "auto"}, "are not trained"),
        ({"engine": {"kind": "cached"}, "parts": {"task": {}, "a": {"kind": "full"}}}, "weights"),
        (
            {"parts": {"task": {"kind": "fulll"}}},
            "expected kind 'soft_prompt', 'deep_prompt', 'bottleneck_adapter', 'full' or 'lora'",
        ),
        ({"parts": {"task": {}, "full": {"kind": "full", "sav": 1}}}, "parts.full.sav: unknown"),
        (
            {"parts": {"task": {"trained": False, "reparameteriser": "mlp"}}},
            "Nothing is trained",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_loads(arms, changes, words):
    value = {k: v for k, v in arms.items() if k != "arms"}
    if "task" not in changes.get("parts", {"task": 0}):
        value["layout"] = "{text}"
    value["backbone"] = value["backbone"] | {
        k.split(".")[1]: v for k, v in changes.items() if k.startswith("backbone.")
    }
    value |= {k: v for k, v in changes.items() if not k.startswith("backbone.")}
    with pytest.raises(ConfigError, match=words):
        plan_study(build_study(value, "toy"))


def test_a_fit_does_not_train_weights():
    with pytest.raises(ConfigError, match="folds share one frozen model"):
        fit_settings(parts={"task": {}, "model": {"kind": "lora"}})
