"""What is taken to PEFT, to a plain checkpoint or to a server computes what the run computes."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from polyprompt import Predictor
from polyprompt.errors import ConfigError, DataError
from polyprompt.exchange.peft import is_adapter, read_adapter
from polyprompt.experiments.config import build_study
from polyprompt.experiments.export_tokens import prompt_embeds, to_tokens
from polyprompt.experiments.exporting import to_peft
from polyprompt.experiments.study import run_study, study_folders
from polyprompt.experiments.task_data import task_of
from polyprompt.models.pypi import converted_folder, is_converted
from polyprompt.models.tiny import SENTINELS, tiny_model, tiny_tokenizer
from programs import called

TEXTS = ("wave a", "rock b c d", "bus", "abc", "wave rock bus")
KINDS = ("bloom", "xglm", "llama", "gpt2", "gemma3_text", "qwen3")
of_peft = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`")


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """Folders of tiny decoders."""
    made = {}

    def folder(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            tiny_model(kind, scale=0.4).save_pretrained(made[kind])
            sentinels = SENTINELS if kind == "t5" else 0  # as T5's own, which begins with nothing
            tiny_tokenizer(sentinels=sentinels).save_pretrained(made[kind])
        return made[kind]

    return folder


def finished(toy_study, backbone, **changes):
    """Run a study of one run on a decoder; the run's folder."""
    words = {"sea": "w", "hill": "r", "town": "b"}
    settings = toy_study | {
        "backbone": {"name": str(backbone), "max_tokens": 48}, "grid": {}, "seed": 0,
        "baselines": False, "head": {"kind": "verbalizer", "words": words, "leading_space": False},
        "layout": "{task:3}{text}", "training": {"max_steps": 3, "learning_rate": 0.05},
    }  # fmt: skip
    study = build_study(settings | changes, "toy")
    for _ in run_study(study):
        pass
    return study_folders(study)[0]


def asked(model, tokenizer, use, text):
    """The scores of the labels' words behind a text, by transformers alone."""
    line = use["text"].format(text=text)
    begin = [tokenizer.bos_token_id] if use["add_special_tokens"] else []
    ids = begin + tokenizer(line, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
    words = [tokenizer.convert_tokens_to_ids(pieces[0]) for pieces in use["labels"].values()]
    return torch.softmax(logits[words], 0).numpy()


def by_peft(use, folder):
    """The same of all texts, by the model with the adapter that PEFT loads."""
    model = AutoModelForCausalLM.from_pretrained(use["base_model"])
    tokenizer = AutoTokenizer.from_pretrained(use["base_model"])
    model = PeftModel.from_pretrained(model, folder).eval()
    return np.stack([asked(model, tokenizer, use, text) for text in TEXTS])


def ours(run):
    found = Predictor.load(run.path).answer([{"text": text} for text in TEXTS])
    return np.array([one.probabilities for one in found])


@of_peft
@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_in_front_gives_peft_the_same_probabilities(toy_study, folder_of, tmp_path, kind):
    run = finished(toy_study, folder_of(kind))
    use = to_peft(run, tmp_path / "adapter")
    assert use == json.loads((tmp_path / "adapter/polyprompt.json").read_text())
    assert ours(run) == pytest.approx(by_peft(use, tmp_path / "adapter"), abs=2e-5)


@of_peft
def test_words_in_front_of_the_prompt_become_rows_of_it(toy_study, folder_of, tmp_path):
    layout = "a b: {one:2} c {two:1}{text}, d?"
    run = finished(toy_study, folder_of("llama"), layout=layout, parts={"one": {}, "two": {}})
    use = to_peft(run, tmp_path / "adapter")
    assert use["text"] == "{text}, d?"
    assert not use["add_special_tokens"]
    rows = load_file(tmp_path / "adapter/adapter_model.safetensors")["prompt_embeddings"]
    assert len(rows) == len("<a b: ") + 2 + len(" c ") + 1
    assert ours(run) == pytest.approx(by_peft(use, tmp_path / "adapter"), abs=2e-5)


@of_peft
@pytest.mark.parametrize("kind", ["llama", "gpt2", "bloom"])
def test_a_prefix_gives_peft_the_same_probabilities(toy_study, folder_of, tmp_path, kind):
    parts = {"task": {"kind": "deep_prompt", "length": 4}}
    run = finished(toy_study, folder_of(kind), layout="{text}", parts=parts)
    use = to_peft(run, tmp_path / "adapter")
    assert ours(run) == pytest.approx(by_peft(use, tmp_path / "adapter"), abs=2e-5)


@of_peft
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_lora_gives_peft_the_same_probabilities(toy_study, folder_of, tmp_path, kind):
    parts = {"task": {"kind": "lora", "rank": 2}}
    run = finished(toy_study, folder_of(kind), layout="{text}", parts=parts)
    use = to_peft(run, tmp_path / "adapter")
    theirs = by_peft(use, tmp_path / "adapter")
    bare = AutoModelForCausalLM.from_pretrained(use["base_model"]).eval()
    tokenizer = AutoTokenizer.from_pretrained(use["base_model"])
    assert ours(run) == pytest.approx(theirs, abs=2e-5)
    without = np.stack([asked(bare, tokenizer, use, text) for text in TEXTS])
    assert np.abs(without - theirs).max() > 1e-4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layout": "{text}{task:3}"}, "stands behind the text. PEFT would load it without an err"),
        ({"head": {"kind": "classifier"}}, "answers through a classifier head"),
        (
            {"layout": "{text}{one:1}",
             "parts": {"one": {}, "deep": {"kind": "deep_prompt", "length": 2,
                                           "position": "suffix"}}},
            "it has deep_prompt, soft_prompt besides soft tokens",
        ),
        (
            {"layout": "{text}", "parts": {"task": {"kind": "bottleneck_adapter"}}},
            "it has bottleneck_adapter",
        ),
        (
            {"head": {"kind": "verbalizer", "leading_space": False, "calibration": "pmi",
                      "words": {"sea": "w", "hill": "r", "town": "b"}}},
            r"its scores are calibrated \(head.calibration=pmi\)",
        ),
        (
            {"head": {"kind": "verbalizer", "leading_space": False, "several_pieces": "sum",
                      "words": {"sea": "wa", "hill": "wb", "town": "b"}}},
            "the word for 'hill' has several pieces|the word for 'sea' has several pieces",
        ),
    ],
)  # fmt: skip
def test_what_peft_cannot_hold_is_refused_with_the_reason(
    toy_study, folder_of, tmp_path, changes, words
):
    run = finished(toy_study, folder_of("llama"), **changes)
    with pytest.raises(ConfigError, match=words):
        to_peft(run, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_a_one_way_prompt_is_refused_with_the_reason(toy_study, tmp_path):
    study = build_study(toy_study | {"grid": {}, "seed": 0}, "toy")
    for _ in run_study(study):
        pass
    run = study_folders(study)[0]
    with pytest.raises(ConfigError, match="answers through a similarity head"):
        to_peft(run, tmp_path / "adapter")
    with pytest.raises(ConfigError, match="answers through a similarity head"):
        to_tokens(run, tmp_path / "checkpoint")


@pytest.mark.parametrize(
    "layout", ["{task:3}{text}", "a {text}: b{task:3}", "{text}{one:2}c{two:1}"]
)
@pytest.mark.parametrize("kind", ["bloom", "xglm", "gemma3_text", "qwen3"])
def test_a_plain_checkpoint_gives_the_same_probabilities(
    toy_study, folder_of, tmp_path, kind, layout
):
    parts = {"one": {}, "two": {}} if "one" in layout else {"task": {}}
    run = finished(toy_study, folder_of(kind), layout=layout, parts=parts)
    use = to_tokens(run, tmp_path / "checkpoint")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "checkpoint")
    assert len(use["new_words"]) == 3
    assert set(use["new_words"]) <= set(tokenizer.all_special_tokens) | set(tokenizer.get_vocab())
    theirs = np.stack([asked(model, tokenizer, use, text) for text in TEXTS])
    assert ours(run) == pytest.approx(theirs, abs=2e-5)


def test_the_other_words_of_a_plain_checkpoint_are_as_they_were(toy_study, folder_of, tmp_path):
    run = finished(toy_study, folder_of("llama"))
    use = to_tokens(run, tmp_path / "checkpoint")
    before = AutoModelForCausalLM.from_pretrained(use["made_from"])
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint")
    old = before.get_input_embeddings().weight
    assert torch.equal(after.get_input_embeddings().weight[: len(old)], old)
    ids = torch.tensor([[0, 40, 41, 42]])
    logits = before(input_ids=ids).logits, after(input_ids=ids).logits
    assert torch.allclose(logits[0], logits[1][..., : len(old)], atol=1e-6)
    assert "decode" not in AutoTokenizer.from_pretrained(tmp_path / "checkpoint").decode(
        [len(old)], skip_special_tokens=True
    )


@pytest.mark.parametrize("kind", ["xglm", "llama"])
def test_embeddings_of_whole_inputs_give_the_same_probabilities(toy_study, folder_of, kind):
    run = finished(toy_study, folder_of(kind), layout="{text}: {task:3}")
    model = AutoModelForCausalLM.from_pretrained(folder_of(kind)).eval()
    words = [pieces[0] for pieces in run.record()["label_words"].values()]
    ids = tiny_tokenizer().convert_tokens_to_ids(words)
    theirs = []
    for x in prompt_embeds(run, [{"text": text} for text in TEXTS]):
        with torch.no_grad():
            logits = model(inputs_embeds=x[None]).logits[0, -1]
        theirs.append(torch.softmax(logits[ids], 0).numpy())
    assert ours(run) == pytest.approx(np.stack(theirs), abs=2e-5)


@of_peft
def test_what_peft_has_saved_is_read_as_it_was_written(toy_study, folder_of, tmp_path):
    run = finished(toy_study, folder_of("xglm"))
    to_peft(run, tmp_path / "ours")
    model = AutoModelForCausalLM.from_pretrained(folder_of("xglm"))
    PeftModel.from_pretrained(model, tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    one, other = read_adapter(tmp_path / "ours"), read_adapter(tmp_path / "theirs")
    assert one.kind == other.kind == "PROMPT_TUNING"
    assert torch.equal(one.tensors["weight"], other.tensors["weight"])
    assert is_adapter(tmp_path / "theirs")
    assert not is_adapter(tmp_path)


def test_a_broken_adapter_says_what_is_expected(tmp_path):
    with pytest.raises(DataError, match="Expected adapter_config.json"):
        read_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    save_file({"x": torch.zeros(1)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(DataError, match="of the kind IA3; read are PROMPT_TUNING"):
        read_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "PROMPT_TUNING"}')
    with pytest.raises(DataError, match="no matrix 'prompt_embeddings'"):
        read_adapter(tmp_path)


def test_export_is_a_command(toy_study, folder_of, tmp_path):
    run = finished(toy_study, folder_of("llama"))
    done = called("export", str(run.path), str(tmp_path / "a"))
    assert done.returncode == 0, done.stderr
    assert is_adapter(tmp_path / "a")
    assert "Input: '{text}'" in done.stdout
    again = called("export", str(run.path), str(tmp_path / "a"))
    assert "is not empty. Name a new folder" in again.stderr
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "wave"}\n{"text": "rock"}\n')
    args = ("export", str(run.path), str(tmp_path / "e"), "--format", "embeds")
    assert "needs --rows" in called(*args).stderr
    done = called(*args, "--rows", str(rows))
    assert done.returncode == 0, done.stderr
    assert len(load_file(tmp_path / "e/prompt_embeds.safetensors")) == 2


@of_peft
@pytest.mark.parametrize("kind", ["xglm", "llama"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_run_begins_with_what_peft_has_trained(toy_study, folder_of, tmp_path, kind, deep):
    layout, part = "{task:3}{text}", {"kind": "soft_prompt"}
    if deep:
        layout, part = "{text}", {"kind": "deep_prompt", "length": 3}
    run = finished(toy_study, folder_of(kind), layout=layout, parts={"task": part})
    to_peft(run, tmp_path / "adapter")
    path = str(tmp_path / "adapter/adapter_model.safetensors")
    parts = {"task": part | {"initial": {"kind": "file", "path": path}}}
    training = {"epochs": 0, "select": "last"}
    again = finished(
        toy_study, folder_of(kind), name="b", layout=layout, parts=parts, training=training
    )
    assert ours(again) == pytest.approx(ours(run), abs=2e-5)


@of_peft
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_run_begins_with_low_rank_additions_that_peft_has_trained(
    toy_study, folder_of, tmp_path, kind
):
    model = AutoModelForCausalLM.from_pretrained(folder_of(kind))
    target = "attn.c_attn" if kind == "gpt2" else "q_proj"
    config = LoraConfig(
        r=2, lora_alpha=6, target_modules=[target], task_type="CAUSAL_LM",
        fan_in_fan_out=kind == "gpt2",
    )  # fmt: skip
    theirs = get_peft_model(model, config)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, own in theirs.named_parameters():
            if ".lora_" in name:
                own.copy_(0.3 * torch.randn(own.shape))
    theirs.save_pretrained(tmp_path / "adapter")
    part = {"kind": "lora", "rank": 2, "alpha": 6, "targets": [target]}
    path = str(tmp_path / "adapter")
    for number, place in enumerate((path, f"{path}/adapter_model.safetensors")):
        parts = {"task": part | {"initial": {"kind": "file", "path": place}}}
        training = {"epochs": 0, "select": "last"}
        run = finished(
            toy_study, folder_of(kind), name=f"x{number}", layout="{text}", parts=parts,
            training=training,
        )  # fmt: skip
        use = to_peft(run, tmp_path / f"back{number}")
        assert ours(run) == pytest.approx(by_peft(use, tmp_path / "adapter"), abs=2e-5)
        assert ours(run) == pytest.approx(by_peft(use, tmp_path / f"back{number}"), abs=2e-5)
    initial = {"kind": "file", "path": path}
    for changes, words in (
        ({"alpha": 4}, "have alpha 6, the settings say 4. Set alpha: 6"),
        ({"rank": 3}, "do not fit: at .* expected .*Set rank and targets"),
        ({"targets": ["mlp.c_fc" if kind == "gpt2" else "v_proj"]}, "Set rank and targets"),
        ({"initial": initial | {"path": "none"}}, "there is no file 'none'"),
    ):
        parts = {"task": part | {"initial": initial} | changes}
        with pytest.raises((ConfigError, DataError), match=words):
            finished(toy_study, folder_of(kind), name="y", layout="{text}", parts=parts)


@of_peft
@pytest.mark.parametrize(
    "variant",
    [
        {"use_rslora": True}, {"use_dora": True}, {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"}, {"alora_invocation_tokens": [5, 6]},
        {"rank_pattern": {"layers.0.self_attn.q_proj": 1}}, {"bias": "all"},
        {"modules_to_save": ["v_proj"]},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_plain_lora_is_not_taken_for_it(toy_study, folder_of, tmp_path, variant):
    model = AutoModelForCausalLM.from_pretrained(folder_of("llama"))
    config = LoraConfig(
        r=2, lora_alpha=2, target_modules=["q_proj"], task_type="CAUSAL_LM", **variant
    )
    get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    initial = {"kind": "file", "path": str(tmp_path / "adapter")}
    part = {"kind": "lora", "rank": 2, "alpha": 2, "targets": ["q_proj"], "initial": initial}
    with pytest.raises(DataError, match=f"is no plain LoRA: PEFT has {next(iter(variant))}="):
        finished(toy_study, folder_of("llama"), layout="{text}", parts={"task": part})


def test_additions_whose_scale_is_not_known_are_refused(toy_study, folder_of, tmp_path):
    parts = {"task": {"kind": "lora", "rank": 2}}
    run = finished(toy_study, folder_of("llama"), layout="{text}", parts=parts)
    again = {"task": parts["task"] | {"initial": {"kind": "file", "path": str(run.path)}}}
    training = {"epochs": 0, "select": "last"}
    second = finished(
        toy_study, folder_of("llama"), name="b", layout="{text}", parts=again, training=training
    )
    assert ours(second) == pytest.approx(ours(run), abs=1e-6)
    save_file(load_file(run.path / "parts/task.safetensors"), tmp_path / "bare.safetensors")
    initial = {"kind": "file", "path": str(tmp_path / "bare.safetensors")}
    parts = {"task": parts["task"] | {"initial": initial}}
    with pytest.raises(DataError, match="does not say by how much its additions are scaled"):
        finished(toy_study, folder_of("llama"), name="c", layout="{text}", parts=parts)
    parts = {"task": parts["task"] | {"initial": {"path": str(tmp_path / "bare.safetensors")}}}
    with pytest.raises(ConfigError, match="kind is 'zero': set kind to 'file'"):
        finished(toy_study, folder_of("llama"), name="d", layout="{text}", parts=parts)


@of_peft
@pytest.mark.parametrize("kind", ["t5", "mt5"])
@pytest.mark.parametrize("layout", ["{task:3}{text}", "a {one:2} b{two:1}{text} c", "{text}"])
def test_an_encoder_with_a_decoder_gives_peft_the_same_probabilities(
    toy_study, folder_of, tmp_path, kind, layout
):
    parts = {"one": {}, "two": {}} if "one" in layout else {"task": {}}
    if layout == "{text}":
        parts = {"task": {"kind": "lora", "rank": 2}}
    run = finished(toy_study, folder_of(kind), layout=layout, parts=parts)
    use = to_peft(run, tmp_path / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(folder_of(kind))
    model = AutoModelForSeq2SeqLM.from_pretrained(folder_of(kind))
    model = PeftModel.from_pretrained(model, tmp_path / "adapter").eval()
    words = [tokenizer.convert_tokens_to_ids(pieces[0]) for pieces in use["labels"].values()]
    start = torch.tensor([[model.config.decoder_start_token_id]])
    theirs = []
    for text in TEXTS:
        line, special = use["text"].format(text=text), use["add_special_tokens"]
        ids = tokenizer(line, add_special_tokens=special, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = model(input_ids=ids, decoder_input_ids=start).logits[0, 0]
        theirs.append(torch.softmax(logits[words], 0).numpy())
    assert ours(run) == pytest.approx(np.stack(theirs), abs=2e-5)


def test_a_prompt_in_the_decoder_is_refused(toy_study, folder_of, tmp_path):
    run = finished(toy_study, folder_of("t5"), layout="{text}{decoder}{task:3}")
    with pytest.raises(ConfigError, match="it has words or a prompt in the decoder"):
        to_peft(run, tmp_path / "adapter")


@of_peft
@pytest.mark.real
def test_smollm2_gives_the_same_labels_through_peft(tmp_path):
    """Sentences of six languages, 210 in all."""
    if not is_converted("smollm2-135m"):
        pytest.skip("pypi:smollm2-135m is not in the cache; 'make test' fetches it first")
    languages = ["eng_Latn", "deu_Latn", "fra_Latn", "spa_Latn", "swh_Latn", "rus_Cyrl"]
    settings = {
        "name": "topics", "task": "sample_topics", "output": str(tmp_path), "shots": 2,
        "backbone": "pypi:smollm2-135m", "targets": languages, "baselines": False,
        "layout": "{task:10}{text}", "head": "verbalizer",
        "training": {"max_steps": 2, "batch_size": 7, "select": "last"},
    }  # fmt: skip
    study = build_study(settings, "topics")
    for _ in run_study(study):
        pass
    (run,) = study_folders(study)
    use = to_peft(run, tmp_path / "adapter", str(converted_folder("smollm2-135m")))
    model = AutoModelForCausalLM.from_pretrained(use["base_model"], dtype=torch.float32)
    model = PeftModel.from_pretrained(model, tmp_path / "adapter").eval()
    tokenizer = AutoTokenizer.from_pretrained(use["base_model"])
    _, data = task_of(study.runs[0])
    texts = {(one.language, one.id): one.fields["text"] for one in data.splits["test"]}
    told = run.predictions().filter(pl.col("baseline").is_null())
    labels = list(use["labels"])
    assert told.height == 210
    for row in told.iter_rows(named=True):
        text = texts[row["language"], row["id"]]
        theirs = asked(model, tokenizer, use, text)
        assert labels[int(theirs.argmax())] == row["prediction"]
