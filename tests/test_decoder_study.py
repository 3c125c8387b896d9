"""Studies on decoders, end to end: results, baselines without training, records, classifiers."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file

from polyprompt.capabilities import RunSettings
from polyprompt.classifier import Classifier
from polyprompt.errors import ConfigError, LayoutError, StoreError
from polyprompt.experiments.assemble import build_group, read_on
from polyprompt.experiments.config import apply_overrides, build_study
from polyprompt.experiments.in_context import Instructed
from polyprompt.experiments.plan import plan_study
from polyprompt.experiments.results import gather
from polyprompt.experiments.study import run_study, study_folders
from polyprompt.models.load import load_backbone, load_pair
from polyprompt.models.tiny import tiny_model, tiny_tokenizer
from polyprompt.study_settings import StudySettings

WORDS = {"sea": "s", "hill": "h", "town": "t"}


@pytest.fixture(scope="session")
def decoder_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bloomz-tiny")
    tiny_model("bloom").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def decoder_study(toy_study, decoder_folder):
    return toy_study | {
        "backbone": {"name": str(decoder_folder), "max_tokens": 64},
        "head": {"words": WORDS, "leading_space": False},
        "in_context_tokens": 120,
    }


def finish(value):
    study = build_study(value, "toy")
    list(run_study(study))
    return study_folders(study)


def test_a_decoder_runs_from_yaml_to_scores_with_its_own_baselines(decoder_study):
    folders = finish(decoder_study)
    table = folders[0].predictions()
    assert table["baseline"].unique(maintain_order=True).to_list() == [
        None, "majority", "tfidf_svm", "logistic_regression", "zero_shot_instruction", "in_context"
    ]  # fmt: skip
    record, config = folders[0].record(), folders[0].config()
    assert record["engine"] == "cached"
    assert record["label_words"] == {"sea": ["s"], "hill": ["h"], "town": ["t"]}
    assert "examples fitted into" in record["baselines_note"]
    assert config["backbone"]["family"] == "causal"
    assert config["head"]["words"] == WORDS
    assert config["training"]["learning_rate"] == 0.05
    (setting,) = gather(folders)
    assert "CONTAMINATED" in setting.warnings[0]
    assert "FLORES" in setting.warnings[0]
    assert any(note.startswith("Backbone: ") and "‡" in note for note in setting.section().notes)
    assert any("In-context baseline" in note for note in setting.section().notes)


def test_defaults_of_a_decoder_are_written_out(decoder_study):
    value = decoder_study | {"training": {"epochs": 1}, "head": {"leading_space": False}}
    with pytest.raises(ConfigError, match=r"the word 'sea' for 'sea' is 3 pieces"):
        finish(value)
    run = plan_study(build_study(value, "toy"))[0].runs[0]
    assert run.settings.head.words == {"sea": "sea", "hill": "hill", "town": "town"}
    assert run.settings.training.learning_rate == 0.01
    assert run.settings.backbone.attention == "causal"
    assert run.settings.backbone.reading_dtype == "float32"


@pytest.mark.parametrize(
    "change",
    [
        {"layout": "{task:3}{text}"},
        {"layout": "{task:2}{text} is{other:2}", "parts": {"task": {}, "other": {}}},
        {"head": {"words": {"sea": "sea", "hill": "hil", "town": "t"}, "leading_space": False,
                  "several_pieces": "mean", "calibration": "pmi"}},
        {"head": {"words": WORDS, "leading_space": False, "loss": "vocabulary",
                  "calibration": "contextual"}},
        {"backbone.special_tokens": False},
        {"backbone.dtype": "bfloat16"},
    ],
)  # fmt: skip
def test_every_way_of_setting_a_decoder_up_runs(decoder_study, change):
    value = decoder_study | {"grid": {"seed": [0]}, "training": {"epochs": 1, "batch_size": 4}}
    for key, new in change.items():
        value = apply_overrides(value, [f"{key}={new}"]) if "." in key else value | {key: new}
    (folder,) = finish(value)
    scores = folder.predictions()["scores"].to_list()
    assert np.isfinite(np.array(scores)).all()


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_training_in_float32_is_the_same_whatever_the_texts_are_read_in(
    kind, decoder_study, toy_study
):
    value = {"decoder": decoder_study, "encoder": toy_study}[kind] | {"grid": {"seed": [0]}}
    name = value["backbone"] if isinstance(value["backbone"], dict) else {"name": value["backbone"]}
    (exact,) = finish(value | {"backbone": name})
    (read,) = finish(value | {"backbone": name | {"reading_dtype": "bfloat16"}})
    (half,) = finish(value | {"backbone": name | {"dtype": "bfloat16"}})
    parts = [
        load_file(f.path / "parts" / "task.safetensors")["weight"] for f in (exact, read, half)
    ]
    assert torch.equal(parts[0], parts[1])
    assert not torch.equal(parts[0], parts[2])
    tables = [np.array(f.predictions()["scores"].to_list()) for f in (exact, read)]
    assert not np.array_equal(*tables)
    (plan,) = plan_study(build_study(value | {"backbone": name}, "toy"))
    settings = plan.runs[0].settings.backbone
    trained, same = load_pair(settings)
    assert trained is same
    trained, reader = load_pair(settings.model_copy(update={"reading_dtype": "bfloat16"}))
    moved = read_on(plan, build_group(plan, trained), reader)
    assert moved.engine.backbone is reader
    if kind == "decoder":
        assert moved.members[0].head.backbone is reader
    own = [t[exact.predictions()["baseline"].is_null().to_numpy()] for t in tables]
    assert np.abs(own[0] - own[1]).max() < 0.05 * np.abs(own[0]).max()
    table = read.predictions().filter(pl.col("baseline").is_null())
    saved = Classifier.load(read.path)
    texts = [e.fields["text"] for e in plan_study(build_study(value, "toy"))[0].data.splits["test"]]
    assert saved.predict(texts) == table["prediction"].to_list()


def test_the_cached_and_the_direct_engine_answer_alike(decoder_study):
    results = []
    for kind in ("cached", "direct"):
        (plan,) = plan_study(build_study(decoder_study | {"engine": {"kind": kind}}, "toy"))
        assert plan.choice.kind == kind
        group = build_group(plan, load_backbone(plan.runs[0].settings.backbone))
        from polyprompt.training.loop import train

        losses = [record.loss for record in train(group.engine, group.members) if record.loss]
        results.append((losses, [m.parts["task"].weight.detach() for m in group.members]))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-4)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=0)


def naive_scores(backbone, words, ids):
    """Next-word scores of the label words by transformers over the whole text."""
    return backbone.reference(torch.tensor(ids))[[word[0] for word in words.pieces]]


def test_in_context_answers_are_transformers_own_over_the_whole_text(decoder_study):
    (plan,) = plan_study(build_study(decoder_study, "toy"))
    backbone = load_backbone(plan.runs[0].settings.backbone)
    group = build_group(plan, backbone)
    examples = plan.data.splits["test"][:7]
    instructed = Instructed(plan, group, examples)
    run = plan.runs[0]
    shown = instructed.demonstrations(run)
    assert 0 < shown.used < shown.given == 12
    assert len(shown.prefix) <= 120
    tokens = backbone.tokenizer
    begin = tokenizer_begin(tokens)
    text = tokens.decode(list(shown.prefix)).replace(" ", "")
    assert sum(text.count(f"Label:{word}") for word in WORDS.values()) == shown.used
    for kind, prefix in (("in_context", list(shown.prefix)), ("zero_shot", begin)):
        scores = drain(
            instructed.in_context(run, shown) if kind == "in_context" else instructed.zero_shot(run)
        )
        for row, example in zip(scores, examples, strict=True):
            own = tokens([f"{example.fields['text']}\nLabel:"], add_special_tokens=False)
            expected = naive_scores(backbone, group.words, [*prefix, *own["input_ids"][0]])
            np.testing.assert_allclose(row, expected.numpy(), atol=2e-4)


def test_demonstrations_are_balanced_by_rounds(decoder_study):
    (plan,) = plan_study(build_study(decoder_study | {"in_context_tokens": 80}, "toy"))
    backbone = load_backbone(plan.runs[0].settings.backbone)
    instructed = Instructed(plan, build_group(plan, backbone), plan.data.splits["test"][:3])
    order = [example.label for example, _ in instructed._in_rounds(plan.runs[0])]
    assert all(len(set(order[i : i + 3])) == 3 for i in range(0, 12, 3))
    other = [e.id for e, _ in instructed._in_rounds(plan.runs[1])]
    assert [e.id for e, _ in instructed._in_rounds(plan.runs[0])] != other


def tokenizer_begin(tokenizer):
    return tokenizer("a")["input_ids"][:1]


def drain(generator):
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


def test_one_word_can_be_set_and_the_head_named_shortly(decoder_study):
    value = decoder_study | {"head": {"words": {"hill": "h"}}}
    run = plan_study(build_study(value, "toy"))[0].runs[0]
    assert run.settings.head.words == {"sea": "sea", "hill": "h", "town": "town"}
    for short in ("verbalizer", {}):
        run = plan_study(build_study(decoder_study | {"head": short}, "toy"))[0].runs[0]
        assert run.settings.head.kind == "verbalizer"


@pytest.mark.parametrize("instruction", ["{txt} Topic:", "{text}{task:3}", "Topic:"])
def test_a_wrong_instruction_is_refused_before_anything_loads(decoder_study, tmp_path, instruction):
    card = yaml.safe_load(Path(decoder_study["task"]).read_text())
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(card | {"instruction": instruction}))
    with pytest.raises(LayoutError, match="The card's instruction: Layout"):
        plan_study(build_study(decoder_study | {"task": str(path)}, "toy"))


def test_a_budget_too_small_for_one_example_leaves_the_baseline_out(decoder_study):
    (folder,) = finish(decoder_study | {"in_context_tokens": 3, "grid": {"seed": [0]}})
    assert "in_context" not in folder.predictions()["baseline"].unique()
    assert "not one example fits" in folder.record()["baselines_note"]


def test_label_words_count_among_the_positions(decoder_study, tmp_path):
    tiny_model("gpt2").save_pretrained(tmp_path / "gpt2")
    tiny_tokenizer().save_pretrained(tmp_path / "gpt2")
    head = {"several_pieces": "sum", "leading_space": False}
    backbone = {"name": str(tmp_path / "gpt2"), "max_tokens": 95}
    with pytest.raises(ConfigError, match="has 98. Set backbone.max_tokens=92"):
        finish(decoder_study | {"backbone": backbone, "head": head})


def test_a_changed_model_is_not_taken_for_the_one_trained_on(tmp_path):
    tiny_model("bloom").save_pretrained(tmp_path / "m")
    tiny_tokenizer().save_pretrained(tmp_path / "m")
    Classifier(
        backbone=str(tmp_path / "m"), head={"several_pieces": "sum"}, training={"max_steps": 1}
    ).fit(["a", "b", "c", "d"], ["x", "y", "x", "y"], output=tmp_path / "run")
    tiny_model("bloom", seed=4).save_pretrained(tmp_path / "m")
    with pytest.raises(StoreError, match="is not the model that .* was trained on"):
        Classifier.load(tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"grid": {"seed": [1, 2]}}, "A fit has no setting grid"),
        ({"task": "sib200"}, "A fit has no setting task"),
        ({"training": 5}, "training: Input should be a valid dictionary"),
    ],
)
def test_settings_that_a_fit_has_not_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        Classifier(**settings)


def test_in_context_can_be_left_out(decoder_study):
    folders = finish(decoder_study | {"in_context_tokens": 0, "grid": {"seed": [0]}})
    assert "in_context" not in folders[0].predictions()["baseline"].unique()


def test_a_fitted_decoder_answers_again_after_loading(decoder_folder, tmp_path):
    texts, labels = ["wave", "waves", "rock", "rocks"], ["sea", "sea", "hill", "hill"]
    classifier = Classifier(
        backbone=str(decoder_folder),
        head={"several_pieces": "mean", "leading_space": False, "calibration": "pmi"},
        training={"max_steps": 3},
    ).fit(texts, labels, output=tmp_path / "run")
    proba = classifier.predict_proba(["a wave", "no"])
    again = Classifier.load(tmp_path / "run")
    np.testing.assert_allclose(again.predict_proba(["a wave", "no"]), proba, atol=1e-5)
    config = json.loads(json.dumps(classifier_config(tmp_path / "run")))
    assert config["head"]["words"] == {"hill": "hill", "sea": "sea"}


def classifier_config(folder):
    from polyprompt.experiments.store import RunFolder

    return RunFolder(folder).config()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"head": {"words": {"sea": "s", "hil": "h", "town": "t"}}},
         "there is no label 'hil'. Did you mean 'hill'"),
        ({"head": {"loss": "labels", "temperature": 1}},
         "head.temperature: unknown key. It belongs to another kind of head"),
        ({"head": {"kind": "similarity"}}, "head.kind=similarity: the family 'causal' answers"),
        ({"head": {"kind": "ranker"}}, "there is no such head; expected kind 'similarity'"),
        ({"head": {"kind": "verbalizer", "los": "labels"}},
         "head.los: unknown key. Did you mean 'loss'"),
        ({"head": {"loss": "both"}}, "head.loss: Input should be 'labels' or 'vocabulary'"),
        ({"backbone.attention": "one_way"}, "the family 'causal' offers causal"),
        ({"layout": "{task:3}{text}", "engine": {"kind": "cached"}}, "would not be exact"),
    ],
)  # fmt: skip
def test_what_does_not_fit_a_decoder_is_refused(decoder_study, change, words):
    value = dict(decoder_study)
    for key, new in change.items():
        if "." in key:
            value = apply_overrides(value, [f"{key}={new}"])
        else:
            value[key] = new
    with pytest.raises(ConfigError, match=f"(?s){words}"):
        plan_study(build_study(value, "toy"))


def test_settings_of_either_head_are_recognised():
    for head, kind in (({"temperature": 0.1}, "similarity"), ({"loss": "labels"}, "verbalizer")):
        run = RunSettings.model_validate({"task": "x", "head": head})
        assert run.head is not None
        assert run.head.kind == kind
    assert StudySettings.model_validate({"name": "a", "task": "x"}).head is None
