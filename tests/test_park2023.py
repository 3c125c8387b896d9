"""Paper B's arithmetic, configurations and questions of tokenization."""

import string

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, XGLMConfig

from polyprompt.analysis.tokenization import granularity
from polyprompt.engine.direct import DirectEngine
from polyprompt.experiments.analyse import account_of, read_interactions
from polyprompt.experiments.cohort import Request
from polyprompt.experiments.config import build_study, load_study
from polyprompt.experiments.results import gather
from polyprompt.experiments.search import search_studies
from polyprompt.experiments.study import run_study, study_folders
from polyprompt.models.tiny import tiny_backbone, tiny_model
from polyprompt.training.loop import Training, group_losses
from polyprompt.tuning.deep_prompt import DeepPrompt, LayerShape

XGLM_564M = {"d_model": 1024, "ffn_dim": 4096, "num_layers": 24, "attention_heads": 16}


def test_the_share_of_trained_parameters_on_xglm_564m_is_the_papers():
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(XGLMConfig(vocab_size=256008, **XGLM_564M))
    whole = model.num_parameters()
    assert whole == 564_463_616
    layers = [LayerShape(16, 64, 64)] * 24
    shares = {}
    for length in (1, 15, 16):
        prompt = DeepPrompt(length, layers, np.random.default_rng(0))
        numbers = sum(p.numel() for p in prompt.parameters())
        assert numbers == 49_152 * length
        shares[length] = numbers / whole
    assert round(100 * shares[15], 4) == 0.1306  # "at most 0.13 %"
    assert round(100 * shares[16], 2) > 0.13


def test_a_tiny_xglm_counts_its_places_in_the_same_way():
    backbone = tiny_backbone("xglm")
    shapes = [LayerShape(*shape) for shape in backbone.layer_facts.shapes]
    assert shapes == [LayerShape(4, 8, 8)] * 3
    prompt = DeepPrompt(5, shapes, np.random.default_rng(0))
    assert prompt.weight.numel() == 5 * 3 * 2 * 32


def predictions(**columns):
    rows = {
        "run": ["a"] * 4, "baseline": [None] * 4, "language": ["eng_Latn"] * 2 + ["zho_Hans"] * 2,
        "pieces": [10, 6, 20, 12], "words": [8, 4, 2, 2], "characters": [40, 24, 16, 16],
        "singles": [1, 3, 16, 8],
    }  # fmt: skip
    return pl.DataFrame(rows | columns, schema_overrides={"baseline": pl.String})


def test_granularity_is_told_from_the_columns_of_predictions():
    found = granularity(predictions(), ["zho_Hans", "eng_Latn", "deu_Latn"])
    np.testing.assert_allclose(found["pieces"], [16, 8, np.nan])
    np.testing.assert_allclose(
        found["fertility"], [np.nan, 16 / 12, np.nan]
    )  # no spaces in Chinese
    np.testing.assert_allclose(found["characters_per_piece"], [1, 4, np.nan])
    np.testing.assert_allclose(found["singles"], [0.75, 0.25, np.nan])
    tagged = granularity(predictions(metric=["entity_f1"] * 4), ["zho_Hans"])
    np.testing.assert_allclose(tagged["fertility"], [8])
    assert granularity(predictions().drop("pieces"), ["eng_Latn"]) == {}


def test_the_account_has_tokenization_and_what_gains_have_to_do_with_it(toy_study):
    value = toy_study | {
        "arms": {"soft": {}, "deep": {"layout": "{text}", "parts": {"d": {"kind": "deep_prompt", "length": 2}}}},
    }  # fmt: skip
    study = build_study(value, "toy")
    list(run_study(study))
    tables, _ = account_of(gather(study_folders(study)), Request())
    titles = [table.title for table in tables]
    assert "Tokenization of the test items" in titles
    assert any("gain and tokenization" in title for title in titles)


def pairs_folder(folder):
    """A tiny model whose tokenizer has pairs of letters, which can be cut in two."""
    letters = list(string.ascii_lowercase)
    pieces = {"<unk>": -9.0, "▁": -4.0} | dict.fromkeys(letters, -5.0)
    pieces |= {a + b: -6.0 for a in letters for b in letters}
    raw = RawTokenizer(models.Unigram(list(pieces.items()), unk_id=0))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", pad_token="<unk>")
    model = tiny_model("bert")
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"name": str(folder), "max_tokens": 64}


def test_settings_that_cut_texts_otherwise_are_not_explained_by_one_anothers_pieces(
    toy_study, tmp_path
):
    """Each by its own; a gain between two that cut otherwise by none."""
    cut = {"segmentation": {"kind": "split", "rate": 0.9}}
    longer = {"layout": "{text}{task:5}"}
    value = toy_study | {
        "backbone": pairs_folder(tmp_path / "pairs"),
        "arms": {"a": {}, "b": longer, "a, cut": cut, "b, cut": cut | longer}, "baselines": False,
        "interactions": {"finer": [["a", "b"], ["a, cut", "b, cut"]], "no": [["a", "b"], ["a", "c"]]},
    }  # fmt: skip
    study = build_study(value, "toy")
    list(run_study(study))
    asked = read_interactions(yaml.safe_load((study.folder / "study.yaml").read_text()))
    for arms in ("a", "a, cut"):  # whichever comes first
        settings = gather(study_folders(study))
        settings = sorted(settings, key=lambda setting: setting.title != arms)
        request = Request(reference="a", interactions=asked)
        tables, notes = account_of(settings, request)
        own = {table.title: table for table in tables}
        fertility = {}
        for title in ("a; b", "a, cut; b, cut"):
            rows = own[f"Tokenization of the test items: {title}"].rows
            fertility[title] = np.mean([float(row[2]) for row in rows if row[2] != "–"])
        assert fertility["a, cut; b, cut"] > 1.2 * fertility["a; b"]
        gains = [title for title in own if "gain and tokenization" in title]
        assert gains == ["b – a: gain and tokenization, families resampled"]
        (row,) = own[
            "Interactions: a gain compared with another, mean over languages (points)"
        ].rows
        assert row[0] == "finer"
        assert row[1].startswith("b – a: ")
        assert any(
            note.startswith("The interaction 'no' is left out: there is no setting 'c'")
            for note in notes
        )
    tables, _ = account_of(settings, Request(reference="a, cut"))
    titles = [table.title for table in tables]
    assert "b, cut – a, cut: gain and tokenization, families resampled" in titles


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_mixed_precision_is_near_the_exact_gradient(kind, toy_training):
    exact, mixed = toy_training(kind, None), toy_training(kind, torch.bfloat16)
    assert torch.nn.functional.cosine_similarity(exact, mixed, dim=0) > 0.98
    assert not torch.equal(exact, mixed)
    assert mixed.dtype == torch.float32


@pytest.fixture
def toy_training():
    from polyprompt.capabilities import TrainingSettings
    from polyprompt.data.encoding import Encoder
    from polyprompt.heads.classifier import ClassifierHead
    from polyprompt.records import Example
    from polyprompt.tasks.layout import parse_layout
    from polyprompt.training.member import Member
    from polyprompt.tuning.linear_map import LinearMap

    def gradient(kind, autocast):
        backbone = tiny_backbone(kind)
        backbone.autocast = autocast
        encoder = Encoder(backbone.tokenizer, parse_layout("{text}", ["text"]), "", 64)
        inputs = encoder.encode([Example(t, "", {"text": t}) for t in ("the cat", "x", "a b c d")])
        shapes = [LayerShape(*shape) for shape in backbone.layer_facts.shapes]
        rng = np.random.default_rng(0)
        deep, weights = DeepPrompt(3, shapes, rng, bound=0.5), LinearMap(32, 2, 0.3, 0.0, rng)
        labels = torch.tensor([0, 1, 0])
        member = Member(
            {"deep": deep, "head": weights}, ClassifierHead(weights, "last"), inputs, labels,
            inputs, labels, TrainingSettings(learning_rate=0.01), 0, backbone.facts.width,
        )  # fmt: skip
        engine = DirectEngine(backbone)
        assert Training(engine, [member]).steps == 20
        losses = group_losses(engine, [member], {0: [0, 1, 2]})
        losses[0].backward()
        return deep.weight.grad.flatten()

    return gradient


ARMS = {
    "xnli": {"soft", "soft, not frozen", "deep prefix", "deep suffix", "lora", "full"},
    "pawsx": {"soft", "deep prefix", "deep suffix", "full"},
    "panx": {"soft", "soft, not frozen", "deep prefix", "full"},  # words do not see a suffix
    "udpos": {"soft", "deep prefix, 8", "deep prefix, 15", "deep prefix, 20", "full"},
}


@pytest.mark.parametrize("name", list(ARMS))
def test_the_studies_on_e5_have_their_arms(name, shared):
    path = f"configs/studies/park_e5_{name}.yaml"
    study = load_study(path, [f"data={shared}/data/tasks/{name}"])
    assert {run.arm for run in study.runs} == ARMS[name]
    assert {run.seed for run in study.runs} == {0, 1, 2}
    assert all(run.training.epochs <= 10 for run in study.runs)


@pytest.fixture
def shared():
    from pathlib import Path

    folder = Path("..", "shared").resolve()
    if not (folder / "data" / "tasks").is_dir():
        pytest.skip("the project's shared data is not beside the checkout")
    return folder


@pytest.mark.parametrize("name", ["xnli", "pawsx", "panx", "masakhaner", "udpos"])
def test_cards_read_the_real_data(name, shared):
    from polyprompt.data.readers import read_task
    from polyprompt.tasks.card import load_card

    card = load_card(name)
    folder = shared / "data" / "tasks" / {"masakhaner": "masakhaner2"}.get(name, name)
    data = read_task(card, str(folder), ["eng_Latn"], None)
    assert len(data.splits["train"]) in {999, 1000}
    assert 100 <= len(data.splits["dev"]) <= 200
    counts = {"xnli": 18, "pawsx": 7, "panx": 47, "masakhaner": 20, "udpos": 29}
    assert len(data.languages("test")) == counts[name]
    labels = {
        tag for e in data.splits["test"] for tag in (e.tags if card.tags_words else [e.label])
    }
    assert labels == set(card.labels)


def test_every_language_of_a_hub_card_is_in_the_catalogue():
    from polyprompt.languages.catalogue import catalogue
    from polyprompt.tasks.card import load_card, shipped_cards

    unknown = {"bbj_Latn", "pcm_Latn"}  # not in SIB-200: no facts of them are known
    for name in shipped_cards():
        hub = load_card(name).hub
        codes = set(hub.codes if hub else ())
        assert codes <= set(catalogue()) | unknown, name


def test_yes_and_no_are_words_in_the_card_of_xnli():
    from polyprompt.tasks.card import load_card

    assert load_card("xnli").words_for("llama") == {
        "entailment": "yes", "neutral": "maybe", "contradiction": "no",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["xnli", "pawsx", "panx", "udpos", "peft_methods"])
def test_the_papers_protocol_has_three_seeds_and_searches_on_english_dev_alone(name):
    study = load_study(f"configs/park2023/{name}.yaml")
    assert {run.seed for run in study.runs} == {0, 1, 2}
    assert all(run.source == ("eng_Latn",) and run.shots == "all" for run in study.runs)
    search = study.settings.search
    assert search is not None
    assert not set(search.seeds) & {run.seed for run in study.runs}
    first = next(search_studies(study))
    assert {(run.evaluate, run.targets) for run in first.runs} == {("dev", ("eng_Latn",))}
    kinds = {tuple(sorted(part.kind for part in run.parts.values())) for run in study.runs}
    assert {("deep_prompt",), ("full",)} <= kinds
    assert (("lora",) in kinds) == (name == "peft_methods")
