"""Learning languages from texts: what is hidden, what it costs, and how tasks take the parts up."""

import json

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from datasets import Dataset
from safetensors.torch import load_file, save_file

from polyprompt import Classifier
from polyprompt.classifier import fit_settings
from polyprompt.data.corruption import (
    CorruptedInputs,
    Corruption,
    left_out_spans,
    masked_words,
    next_words,
    noise_mask,
)
from polyprompt.data.encoded import Encoded
from polyprompt.data.encoding import Encoder
from polyprompt.data.pieces import Vocabulary, vocabulary_of
from polyprompt.data.readers import read_task
from polyprompt.engine.direct import DirectEngine
from polyprompt.errors import ConfigError, DataError, StoreError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.estimate import Estimate, estimate_study
from polyprompt.experiments.language_results import language_results, write_language_reports
from polyprompt.experiments.plan import plan_study
from polyprompt.experiments.results import gather
from polyprompt.experiments.study import run_study, study_folders
from polyprompt.families import Attention
from polyprompt.head_settings import LanguageModelSettings
from polyprompt.heads.head import States
from polyprompt.heads.language_model import LanguageModelHead, word_losses
from polyprompt.models.tiny import tiny_backbone, tiny_model, tiny_tokenizer
from polyprompt.records import Example
from polyprompt.seeds import generator
from polyprompt.tasks.card import load_card, parse_card
from polyprompt.tasks.layout import parse_layout
from polyprompt.training.member import word_tensor
from polyprompt.tuning.linear_map import LinearMap
from test_causal import TEXTS, close

SENTINELS = tuple(range(1000, 1100))


def text_of(n, begin=0):
    """N pieces of a text, special tokens in front and behind."""
    own = np.concatenate([np.zeros(begin, bool), np.ones(n, bool), [False]])
    return Encoded((np.arange(len(own)),), 0, n, n, own=(own,))


def spans(n, density=0.15, mean=3.0, seed=0):
    settings = LanguageModelSettings(kind="language_model", density=density, mean_span=mean)
    words = Vocabulary(np.arange(50), None, SENTINELS, 999)
    return left_out_spans(text_of(n), settings, words, generator(seed, "x"))


def test_spans_turn_284_pieces_into_256_read_and_58_written_as_t5_counts_them():
    """With the end token on both sides; Raffel et al. (2020), T5's own lengths."""
    for seed in range(5):
        one = spans(284, seed=seed)
        assert one.tokens == 256
        assert len(one.continuations[0]) == 58


def test_what_is_left_out_stands_behind_its_sentinel_and_nothing_is_lost():
    one = spans(100)
    read, written = one.hard[0].tolist(), list(one.continuations[0])
    assert written[-1] == 999
    places = [i for i, word in enumerate(read) if word in SENTINELS]
    assert [read[i] for i in places] == [w for w in written if w in SENTINELS]
    assert [read[i] for i in places] == list(SENTINELS[: len(places)])
    of_sentinel, current = {}, None
    for word in written[:-1]:
        if word in SENTINELS:
            current = of_sentinel.setdefault(word, [])
        else:
            current.append(word)
    restored = [x for word in read for x in of_sentinel.get(word, [word])]
    assert restored == list(range(101))
    assert sum(map(len, of_sentinel.values())) == 15
    assert one.own[0].sum() == 85


@pytest.mark.parametrize("length", [2, 3, 7, 50, 512])
def test_spans_have_the_density_and_the_mean_length_that_are_asked_for(length):
    draws = [noise_mask(length, 0.15, 3, generator(seed, "spans")) for seed in range(40)]
    counts = {int(mask.sum()) for mask in draws}
    assert counts == {min(max(round(length * 0.15), 1), length - 1)}
    assert not any(mask[0] for mask in draws)
    starts = [int((mask & ~np.r_[False, mask[:-1]]).sum()) for mask in draws]
    assert set(starts) == {max(round(next(iter(counts)) / 3), 1)}


def test_of_the_masked_words_most_are_hidden_some_replaced_and_some_left():
    vocabulary = Vocabulary(np.arange(500, 600), mask=777)
    one = masked_words(text_of(4000, begin=1), 0.15, vocabulary, generator(0, "x"))
    assert len(one.reads) == len(one.targets) == 600
    assert one.reads.min() >= 1
    np.testing.assert_array_equal(one.targets, one.reads)
    shown = one.hard[0][one.reads]
    shares = [(shown == 777).mean(), ((shown >= 500) & (shown < 600)).mean()]
    np.testing.assert_allclose(shares, [0.8, 0.1], atol=0.04)
    still = np.setdiff1d(np.arange(4002), one.reads)
    np.testing.assert_array_equal(one.hard[0][still], still)


def test_next_words_are_guessed_from_hard_tokens_alone():
    with_begin = next_words(text_of(5, begin=1))
    assert with_begin.reads.tolist() == [0, 1, 2, 3, 4]
    assert with_begin.targets.tolist() == [1, 2, 3, 4, 5]
    behind_a_prompt = Encoded(
        (np.array([1]), np.array([7, 8, 9])), 0, 1, 1, own=(np.zeros(1, bool), np.ones(3, bool))
    )
    assert next_words(behind_a_prompt).targets.tolist() == [8, 9]


def test_a_text_is_hidden_anew_in_every_epoch_and_the_same_again_elsewhere():
    vocabulary = vocabulary_of(tiny_tokenizer(masks=True))
    settings = LanguageModelSettings(kind="language_model", objective="masked_words")
    texts = [text_of(40, begin=1) for _ in range(3)]
    one, other = (
        CorruptedInputs(texts, Corruption(settings, vocabulary), 0, ["a", "b", "c"])
        for _ in range(2)
    )
    assert one.drawn(0, 0).reads.tolist() == other.drawn(0, 0).reads.tolist()
    assert one.drawn(0, 0).reads.tolist() != one.drawn(0, 1).reads.tolist()
    assert one.drawn(0, 0).reads.tolist() != one.drawn(1, 0).reads.tolist()
    assert one[1:3][0].reads.tolist() == one.drawn(1, 0).reads.tolist()


def test_what_the_tokenizer_does_not_have_is_named():
    settings = LanguageModelSettings(kind="language_model", objective="spans")
    with pytest.raises(ConfigError, match="has no sentinels"):
        Corruption(settings, vocabulary_of(tiny_tokenizer()))
    with pytest.raises(ConfigError, match="has no mask"):
        Corruption(
            settings.model_copy(update={"objective": "masked_words"}),
            vocabulary_of(tiny_tokenizer()),
        )


def head_and_inputs(kind, objective, ends):
    backbone = tiny_backbone(kind, Attention.FULL if kind.endswith("masked") else None)
    settings = LanguageModelSettings(kind="language_model", objective=objective)
    encoder = Encoder(
        backbone.tokenizer, parse_layout("{text}", ["text"]), "", 64, ends=ends,
        corruption=Corruption(settings, vocabulary_of(backbone.tokenizer)),
    )  # fmt: skip
    inputs = encoder.encode([Example(t, "eng_Latn", {"text": t}) for t in TEXTS[:5]])
    return backbone, LanguageModelHead(backbone), inputs


@pytest.mark.parametrize("kind", ["llama", "bloom", "xglm", "gemma3_text"])
def test_the_loss_of_next_words_is_transformers_own(kind):
    backbone, head, inputs = head_and_inputs(kind, "next_word", ends=False)
    states = DirectEngine(backbone).bare(inputs)
    ours = head.answers(states, inputs)[:, 0]
    for row, one in enumerate(inputs):
        ids = torch.from_numpy(one.hard[0])[None]
        theirs = backbone.model(input_ids=ids, labels=ids, use_cache=False).loss
        close(-ours[row] / len(one.targets), theirs)


def test_the_loss_of_masked_words_is_transformers_own():
    backbone, head, inputs = head_and_inputs("xlm-roberta-masked", "masked_words", ends=True)
    states = DirectEngine(backbone).bare(inputs)
    ours = head.answers(states, inputs)[:, 0]
    for row, one in enumerate(inputs):
        ids = torch.from_numpy(one.hard[0])[None]
        labels = torch.full_like(ids, -100)
        labels[0, one.reads] = torch.from_numpy(one.targets)
        close(-ours[row] / len(one.targets), backbone.model(input_ids=ids, labels=labels).loss)
    labels = word_tensor(inputs)
    mean = -ours.sum() / sum(len(one.targets) for one in inputs)
    close(head.loss(states, labels), mean)


def test_losses_and_gradients_in_slices_are_those_of_the_whole():
    draw = torch.Generator().manual_seed(0)
    table = torch.randn(300, 16, generator=draw)
    hidden = torch.randn(290, 16, generator=draw, requires_grad=True)
    words = torch.randint(300, (290,), generator=draw)
    weights = torch.rand(290, generator=draw)
    ours = word_losses(lambda h: h @ table.T, hidden, words)
    (ours * weights).sum().backward()
    gradient, hidden.grad = hidden.grad, None
    theirs = torch.nn.functional.cross_entropy(hidden @ table.T, words, reduction="none")
    (theirs * weights).sum().backward()
    close(ours, theirs)
    close(gradient, hidden.grad)


@pytest.fixture(scope="session")
def decoder_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("languages-llama")
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def language_study(folder, texts_folder, tmp_path, kind="bottleneck_adapter", **changes):
    part = {"kind": kind} | ({"length": 4} if kind == "soft_prompt" else {"reduction": 4})
    return build_study(
        {
            "name": f"language-{kind}",
            "output": str(tmp_path / "runs"),
            "task": "texts",
            "data": str(texts_folder),
            "backbone": {"name": str(folder), "max_tokens": 48},
            "shots": 40,
            "parts": {"language": part},
            "training": {"epochs": 2, "batch_size": 8, "learning_rate": 0.03},
            "grid": {"source": [["eng_Latn"], ["swh_Latn"]]},
        }
        | changes,
        "languages",
    )


@pytest.mark.parametrize("kind", ["bottleneck_adapter", "soft_prompt"])
def test_a_part_per_language_lowers_the_loss_of_held_out_texts(
    decoder_folder, texts_folder, tmp_path, kind
):
    study = language_study(decoder_folder, texts_folder, tmp_path, kind)
    list(run_study(study))
    folders = study_folders(study)
    found = language_results(folders)
    assert [(one.source, one.language) for one in found] == [
        ("eng_Latn", "eng_Latn"), ("swh_Latn", "swh_Latn"),
    ]  # fmt: skip
    for one in found:
        assert (one.texts, one.held_out) == (40, 6)
        assert one.fall.mean > 0.1
        assert one.fall.low <= one.fall.mean <= one.fall.high
        assert one.fall.mean == pytest.approx(one.without - one.loss)
    for folder in folders:
        rows = folder.predictions()
        assert rows["guessed"].min() > 0
        scores = folder.scores().filter(pl.col("baseline").is_null())
        own = rows.filter(pl.col("baseline").is_null())
        mean = (own["loss"] * own["guessed"]).sum() / own["guessed"].sum()
        assert scores["value"][0] == pytest.approx(mean)
    section, paths = write_language_reports(study.folder, "Languages", folders)
    assert "interval lies above 0" in section.headline
    assert "swh_Latn" in paths["table"].read_text()
    again = list(run_study(study))
    assert any("2 runs are complete, skipped" in event.note for event in again)


def test_a_sentence_encoder_learns_a_map_into_its_words_with_the_part(
    tiny_folder, texts_folder, tmp_path
):
    masks = tmp_path / "masks"
    tiny_model("bert-masked").base_model.save_pretrained(masks)
    tiny_tokenizer(masks=True).save_pretrained(masks)
    study = language_study(
        masks, texts_folder, tmp_path, backbone={"name": str(masks), "max_tokens": 48,
        "family": "embedding"},
    )  # fmt: skip
    list(run_study(study))
    (folder, _) = study_folders(study)
    assert {p.stem for p in folder.path.glob("parts/*")} == {"language", "head"}
    assert folder.config()["backbone"]["attention"] == "full"
    assert folder.record()["trained_by_part"]["head"] == 32 * 32 + 32
    assert all(np.isfinite(one.loss) for one in language_results([folder]))
    changed = {"backbone": {"name": str(tiny_folder), "max_tokens": 48}, "name": "none"}
    without = language_study(tiny_folder, texts_folder, tmp_path, **changed)
    with pytest.raises(ConfigError, match="has no mask"):
        list(run_study(without))


@pytest.fixture
def task_on_parts(toy_study, decoder_folder, texts_folder, tmp_path):
    """A toy task whose language parts are there for English and Swahili."""
    list(run_study(language_study(decoder_folder, texts_folder, tmp_path)))
    list(run_study(language_study(decoder_folder, texts_folder, tmp_path, "soft_prompt")))
    del toy_study["layout"]
    return toy_study | {
        "backbone": {"name": str(decoder_folder), "max_tokens": 64},
        "head": {"words": {"sea": "s", "hill": "h", "town": "t"}, "leading_space": False},
        "in_context_tokens": 0,
        "targets": ["eng_Latn", "swh_Latn"],
        "baselines": False,
        "grid": {"seed": [0]},
    }


def sourced(tmp_path, kind):
    source = str(tmp_path / "runs" / f"language-{kind}" / "{language}")
    return {"kind": kind, "source": source} | (
        {"reduction": 4} if kind == "bottleneck_adapter" else {}
    )


CONFIGURATIONS = {
    "task prompt": (None, {"length": 3}),
    "task adapter": (None, {"kind": "bottleneck_adapter", "reduction": 4}),
    "adapter, prompt": ("bottleneck_adapter", {"length": 3}),
    "adapter, adapter": ("bottleneck_adapter", {"kind": "bottleneck_adapter", "reduction": 4}),
    "prompt, prompt": ("soft_prompt", {"length": 3}),
    "prompt, adapter": ("soft_prompt", {"kind": "bottleneck_adapter", "reduction": 4}),
}


def test_six_configurations_are_lists_of_parts(task_on_parts, tmp_path):
    """Only the task part trains; the language part is the source's in training, then exchanged."""
    arms = {"baseline 0": {"parts": {}, "training.epochs": 0}}
    for arm, (kind, task) in CONFIGURATIONS.items():
        language = {} if kind is None else {"language": sourced(tmp_path, kind)}
        arms[arm] = {"parts": {**language, "task": task}}
    study = build_study(task_on_parts | {"arms": arms}, "six")
    groups = plan_study(study)
    kinds = {run.settings.arm: group.choice.kind for group in groups for run in group.runs}
    assert kinds == {
        "baseline 0": "cached", "task prompt": "cached", "adapter, prompt": "cached",
        "prompt, prompt": "cached", "task adapter": "direct", "adapter, adapter": "direct",
        "prompt, adapter": "direct",
    }  # fmt: skip
    list(run_study(study))
    records = {folder.record()["arm"]: folder for folder in study_folders(study)}
    assert set(records) == set(arms)
    for arm, folder in records.items():
        trained = folder.record()["trained_by_part"]
        assert set(trained) == ({"task"} if arm in CONFIGURATIONS else set())
        parts = {p.stem for p in folder.path.glob("parts/*")} - {"head"}
        assert parts == ({"task"} if arm in CONFIGURATIONS else set())
        kind = CONFIGURATIONS.get(arm, (None,))[0]
        sources = folder.record().get("sourced_parts", {})
        assert set(sources) == ({"language"} if kind else set())
        if kind:
            assert set(sources["language"]) == {"eng_Latn", "swh_Latn"}
    for found in estimate_study(build_study(task_on_parts | {"arms": arms, "name": "six2"}, "x")):
        assert not isinstance(found, Estimate) or found.seconds >= 0
    texts = ["wave abc", "rock xyz"]
    for arm in ("adapter, prompt", "prompt, prompt", "adapter, adapter"):
        path = records[arm].path
        english = Classifier.load(path, "eng_Latn").predict_proba(texts)
        swahili = Classifier.load(path, "swh_Latn").predict_proba(texts)
        assert not np.allclose(english, swahili, atol=1e-4)
        rows = records[arm].predictions().filter(pl.col("language") == "swh_Latn")
        data = pl.read_parquet(f"{task_on_parts['data']}/test.parquet")
        own = data.filter(pl.col("language") == "swh_Latn")
        named = dict(zip(own["id"], own["text"], strict=True))
        again = Classifier.load(path, "swh_Latn").predict_proba([named[i] for i in rows["id"]])
        there = torch.tensor(rows["scores"].to_list()).softmax(1).numpy()
        np.testing.assert_allclose(again, there, atol=2e-5)
        with pytest.raises(
            ConfigError, match="'language' of their language; name it .--language CODE"
        ):
            Classifier.load(path)
        with pytest.raises(ConfigError, match="'fra_Latn' is none of them"):
            Classifier.load(path, "fra_Latn")
    again = list(run_study(study))
    assert any("7 runs are complete, skipped" in event.note for event in again)


def test_a_target_without_a_part_is_an_error_or_is_answered_without_it_and_marked(
    task_on_parts, tmp_path
):
    part = sourced(tmp_path, "bottleneck_adapter")
    value = task_on_parts | {
        "targets": ["eng_Latn", "swh_Latn", "fra_Latn"],
        "parts": {"language": part, "task": {"length": 3}},
    }
    with pytest.raises(ConfigError, match=r"for the target languages fra_Latn.*missing=leave_out"):
        plan_study(build_study(value, "toy"))
    value["parts"] = {"language": part | {"missing": "leave_out"}, "task": {"length": 3}}
    study = build_study(value, "toy")
    list(run_study(study))
    (folder,) = study_folders(study)
    assert folder.record()["without_part"] == {"language": ["fra_Latn"]}
    (setting,) = gather([folder])
    assert any(
        "without the part 'language'" in note and "French" in note
        for note in setting.section().notes
    )
    value["source"] = "fra_Latn"
    with pytest.raises(ConfigError, match="for the source language fra_Latn"):
        plan_study(build_study(value, "toy"))


def test_a_part_that_changed_or_is_of_another_backbone_is_found_out(task_on_parts, tmp_path):
    value = task_on_parts | {
        "parts": {"language": sourced(tmp_path, "soft_prompt"), "task": {"length": 3}}
    }
    study = build_study(value, "toy")
    (group,) = plan_study(study)
    before = group.runs[0].name
    list(run_study(study))
    path = next(iter(group.runs[0].sourced.files["language"].values()))
    other = tmp_path / "runs" / "language-soft_prompt"
    run = path.parent.parent
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"backbone_identity": "other"}))
    with pytest.raises(ConfigError, match="trained on .* another backbone"):
        plan_study(study)
    (run / "run.json").write_text(json.dumps(record))
    save_file({"weight": load_file(path)["weight"] + 1}, path)
    (group,) = plan_study(study)
    assert group.runs[0].name != before
    with pytest.raises(StoreError, match="which has changed"):
        Classifier.load(tmp_path / "runs" / "toy" / before, "eng_Latn")
    path.unlink()
    with pytest.raises(ConfigError, match="there is no part of kind soft_prompt"):
        plan_study(study)
    assert other.is_dir()


def test_a_fit_takes_no_parts_of_earlier_runs(tmp_path):
    part = sourced(tmp_path, "soft_prompt")
    with pytest.raises(ConfigError, match="a fit does not take parts of earlier runs"):
        fit_settings(parts={"language": part, "task": {}})


def test_a_part_for_all_languages_reads_texts_of_any(task_on_parts, tmp_path):
    study = build_study(
        task_on_parts
        | {"parts": {"language": sourced(tmp_path, "soft_prompt"), "task": {"length": 3}}},
        "toy",
    )
    (group,) = plan_study(study)
    path = group.runs[0].sourced.files["language"]["swh_Latn"]
    part = {"source": str(path), "length": 4}
    one = build_study(
        task_on_parts | {"name": "one", "parts": {"language": part, "task": {"length": 3}}}, "one"
    )
    list(run_study(one))
    (folder,) = study_folders(one)
    loaded = [Classifier.load(folder.path, code) for code in ("", "eng_Latn", "fra_Latn")]
    found = [one.predict_proba(["wave abc"]) for one in loaded]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_prompts_of_unequal_length_are_refused(task_on_parts, tmp_path):
    part = sourced(tmp_path, "soft_prompt")
    value = task_on_parts | {"parts": {"language": part, "task": {"length": 3}}}
    (group,) = plan_study(build_study(value, "toy"))
    path = group.runs[0].sourced.files["language"]["swh_Latn"]
    save_file({"weight": torch.zeros(7, 32)}, path)
    with pytest.raises(ConfigError, match="has 7 tokens, that of the source language 4"):
        plan_study(build_study(value, "toy"))


def test_runs_that_hide_other_words_or_settle_a_part_otherwise_are_not_one_group(
    decoder_folder, texts_folder, tmp_path, task_on_parts
):
    changes = {"grid": {"source": [["eng_Latn"]], "head.density": [0.15, 0.6]}, "name": "densities"}
    changes["head"] = "language_model"
    study = language_study(decoder_folder, texts_folder, tmp_path, "soft_prompt", **changes)
    assert len(plan_study(study)) == 2
    part = sourced(tmp_path, "bottleneck_adapter")
    value = task_on_parts | {"parts": {"language": part, "task": {"length": 3}}}
    value["grid"] = {"parts.language.activation": ["relu", "tanh"]}
    assert len(plan_study(build_study(value, "toy"))) == 2


def test_what_is_recorded_of_layers_is_that_of_the_language_s_adapter(task_on_parts, tmp_path):
    part = sourced(tmp_path, "bottleneck_adapter")
    value = task_on_parts | {"record": ["states"], "record_items": 8}
    value["parts"] = {"language": part, "task": {"length": 3}}
    bare = value | {"name": "bare", "parts": {"task": {"length": 3}}}
    found = []
    for one in (value, bare):
        study = build_study(one, "x")
        list(run_study(study))
        (folder,) = study_folders(study)
        (path,) = (folder.path / "recorded").glob("states*")
        found.append(load_file(path))
    same = [torch.equal(found[0][name], found[1][name]) for name in found[0]]
    assert not all(same)


def test_held_out_texts_for_choosing_can_be_measured_too(tmp_path):
    rows = [{"language": "eng_Latn", "text": f"text {i}"} for i in range(40)]
    pl.DataFrame(rows).write_parquet(tmp_path / "a.parquet")
    data, card = str(tmp_path / "a.parquet"), load_card("texts")
    found = {
        way: read_task(card, data, ["eng_Latn"], None, way).splits
        for way in ("test", "dev", "both")
    }
    assert found["dev"]["test"] == found["test"]["dev"]
    assert found["both"]["test"] == found["test"]["test"]
    assert found["both"]["dev_targets"] == found["test"]["dev"]


def test_settings_of_language_parts_are_not_searched(decoder_folder, texts_folder, tmp_path):
    search = {"search": {"seeds": [100], "grid": {"training.learning_rate": [0.1, 0.2]}}}
    study = language_study(decoder_folder, texts_folder, tmp_path, **search)
    with pytest.raises(ConfigError, match="are not searched"):
        plan_study(study)


def test_losses_of_epochs_are_not_recorded_as_if_they_were_answers(
    decoder_folder, texts_folder, tmp_path
):
    study = language_study(decoder_folder, texts_folder, tmp_path, record=["epochs"])
    with pytest.raises(ConfigError, match="epochs of texts whose own words are guessed"):
        plan_study(study)


def test_all_parameters_and_the_word_table_learn_a_language_as_in_plain_arithmetic(
    texts_folder, tmp_path
):
    """A sentence encoder compares with its own table, which is trained, too."""
    backbone = tiny_backbone("bert", Attention.FULL)
    backbone.model.requires_grad_(requires_grad=True)
    weights = LinearMap.of(torch.eye(32), torch.zeros(32))
    states = torch.randn(6, 32)
    words = torch.tensor([4, 5, 6, 7, 8, 9])
    nothing = np.full(1, 6)
    read = States(states[:1], states[:1], states[:1, None], states, nothing, ((),))
    LanguageModelHead(backbone, weights).loss(read, words[None]).backward()
    ours = backbone.table.grad.clone()
    backbone.model.zero_grad()
    torch.nn.functional.cross_entropy(states @ backbone.table.T, words).backward()
    close(ours, backbone.table.grad)


def test_several_runs_of_one_language_are_ambiguous(task_on_parts, texts_folder, tmp_path):
    folder = task_on_parts["backbone"]["name"]
    grid = {"source": [["eng_Latn"]], "shots": [16]}
    changes = {"grid": grid, "name": "language-soft_prompt"}
    list(run_study(language_study(folder, texts_folder, tmp_path, "soft_prompt", **changes)))
    value = task_on_parts | {
        "parts": {"language": sourced(tmp_path, "soft_prompt"), "task": {"length": 3}}
    }
    with pytest.raises(ConfigError, match="2 runs learnt from eng_Latn"):
        plan_study(build_study(value, "toy"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parts": {"language": {"length": 5, "source": "SOURCE"}, "task": {}}}, "has 4 tokens"),
        ({"parts": {"language": {"source": "nowhere/{language}"}, "task": {}}}, "no part of kind"),
        ({"parts": {"language": {"source": "SOURCE"}}, "layout": "{language}{text}"}, "is trained"),
        (
            {"parts": {"language": {"source": "SOURCE"}, "task": {}},
             "training": {"learning_rates": {"language": 0.1}}},
            "'language' is no part or head that is trained",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_a_source_is_refused_before_anything_loads(
    task_on_parts, tmp_path, changes, words
):
    source = sourced(tmp_path, "soft_prompt")["source"]
    value = yaml.safe_load(yaml.safe_dump(changes).replace("SOURCE", source))
    with pytest.raises(ConfigError, match=words):
        plan_study(build_study(task_on_parts | {"layout": "{language}{text}{task:3}"} | value, "x"))


def test_texts_are_read_from_files_tables_and_folders(tmp_path):
    card = load_card("texts")
    rows = [
        {"language": language, "text": f"{language} text number {i}"}
        for language in ("eng_Latn", "fra_Latn")
        for i in range(40)
    ]
    pl.DataFrame([*rows, rows[0]]).write_parquet(tmp_path / "a.parquet")
    (tmp_path / "eng_Latn.txt").write_text("\n".join(f"line {i}" for i in range(20)))
    data = f"{tmp_path / 'a.parquet'}\n{tmp_path / 'eng_Latn.txt'}"
    found = read_task(card, data, ["eng_Latn"], ["fra_Latn"], test_items=3)
    counts = {split: len(own) for split, own in found.splits.items()}
    assert counts == {"train": 48, "dev": 6, "test": 3}
    assert {e.language for e in found.splits["test"]} == {"fra_Latn"}
    kept = {e.fields["text"] for split in ("train", "dev") for e in found.splits[split]}
    assert len(kept) == 54
    folder = read_task(card, str(tmp_path), ["eng_Latn"], None)
    assert len(folder.splits["test"]) == 6
    with pytest.raises(ConfigError, match="swh_Latn"):
        read_task(card, data, ["swh_Latn"], None)
    with pytest.raises(DataError, match="no file or folder"):
        read_task(card, str(tmp_path / "none"), ["eng_Latn"], None)
    (tmp_path / "fra_Latn.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match="There are 2 texts in fra_Latn"):
        read_task(card, str(tmp_path / "fra_Latn.txt"), ["fra_Latn"], None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no texts"):
        read_task(card, str(tmp_path / "empty"), ["eng_Latn"], None)
    (tmp_path / "deu_Latn.txt").write_text("")
    with pytest.raises(DataError, match="it is empty"):
        read_task(card, str(tmp_path / "deu_Latn.txt"), ["deu_Latn"], None)
    (tmp_path / "plain.txt").write_text("one\n" * 40)
    with pytest.raises(DataError, match="does not say which language it is in"):
        read_task(card, str(tmp_path / "plain.txt"), ["fra_Latn"], None)
    pl.DataFrame({"text": ["x"]}).write_csv(tmp_path / "c.csv")
    with pytest.raises(DataError, match="Name it LANGUAGE.csv"):
        read_task(card, str(tmp_path / "c.csv"), ["fra_Latn"], None)
    pl.DataFrame({"sentence": ["x"]}).write_csv(tmp_path / "b.csv")
    with pytest.raises(DataError, match="no column 'text'"):
        read_task(card, str(tmp_path / "b.csv"), ["eng_Latn"], None)


def test_a_data_set_of_the_hub_is_streamed_no_further_than_needed(tmp_path, monkeypatch):
    """A local folder laid out as the Hub's Wikipedia: a folder of parquet files per language."""
    articles = [
        {"text": f"Title {i}\n\nA first paragraph {i}.\nAnother one {i}."} for i in range(90)
    ]
    (tmp_path / "wiki" / "20231101.sw").mkdir(parents=True)
    Dataset.from_list(articles).to_parquet(tmp_path / "wiki" / "20231101.sw" / "train.parquet")
    text = yaml.safe_dump(
        {
            "name": "wiki", "title": "W", "kind": "language", "metric": "loss",
            "columns": {"fields": {"text": "text"}},
            "hub": {"path": str(tmp_path / "wiki"), "config": "20231101.{language}",
                    "codes": {"swh_Latn": "sw"}},
        }
    )  # fmt: skip
    found = read_task(parse_card(text, "x"), None, ["swh_Latn"], None, test_items=5, shots=40)
    assert len(found.splits["train"]) == 40
    assert len(found.splits["test"]) == 5
    assert found.splits["train"][0].fields["text"] == "A first paragraph 0."
    with pytest.raises(DataError, match="Say how many texts"):
        read_task(parse_card(text, "x"), None, ["swh_Latn"], None)
    with pytest.raises(DataError, match="no language 'fra_Latn'"):
        read_task(parse_card(text, "x"), None, ["fra_Latn"], None, shots=40)
