"""Decoders at the command line, and paper A's configurations to the letter."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from polyprompt.experiments.config import load_study
from polyprompt.experiments.encoders import build_encoder
from polyprompt.experiments.parts import build_prompts
from polyprompt.experiments.plan import plan_study
from polyprompt.models.load import load_backbone
from polyprompt.models.tiny import tiny_model, tiny_tokenizer
from polyprompt.records import Example
from programs import called

ROOT = Path(__file__).parent.parent
PAPER = sorted((ROOT / "configs" / "philippy2024").glob("*-*.yaml"))
"""One frozen model each."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for kind in ("bloom", "xglm"):
        made[kind] = tmp_path_factory.mktemp(kind)
        model = tiny_model(kind)
        if kind == "xglm":
            model.config.max_position_embeddings = 2048  # its positions are computed, not stored
        model.save_pretrained(made[kind])
        tiny_tokenizer().save_pretrained(made[kind])
    return made


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_paper_a_to_the_letter(path, folders, sib200):
    kind = path.stem.split("-")[0]
    study = load_study(str(path), [f"backbone.name={folders[kind]}", f"data={sib200}"])
    settings = study.runs[0]
    length = {"bloom-560m": 5}.get(path.stem, 10)
    (group,) = plan_study(study)
    plan = group.runs[0]
    assert len(plan.draw.train) == 56
    assert len(plan.draw.dev) == 14
    assert len(settings.targets or ()) == {"bloom": 38, "xglm": 30}[kind]
    assert plan.layout.slots[0].length == length
    head, training = plan.settings.head, plan.settings.training
    assert head is not None
    assert (head.kind, head.loss, head.leading_space) == ("verbalizer", "vocabulary", False)
    words = {"bloom": "science travel government play health fun earth"}.get(
        kind, "science travel politics sports health entertainment earth"
    )
    assert list(head.words.values()) == words.split()
    assert (training.learning_rate, training.epochs, training.batch_size) == (0.1, 20, 8)
    assert (training.warmup_share, training.clip_norm, training.select) == (0.1, 1.0, "dev_loss")
    backbone = load_backbone(plan.settings.backbone)
    (long,) = build_encoder(plan.layout, plan.settings, backbone).encode(
        [Example("", "", {"text": "a" * 500})]
    )
    assert len(long.hard[0]) + length + 1 == 128
    assert long.hard[1].size == 0
    assert long.hard[0][0] == backbone.tokenizer.get_vocab()["a"]
    prompt = build_prompts(plan, group.card, backbone)["task"].weight.detach()
    assert prompt.shape == (length, 32)
    assert 0.4 < float(prompt.abs().max()) <= 0.5


def test_the_configurations_agree_with_the_papers_table(sib200):
    import polars as pl

    table = pl.read_csv(sib200.parent / "reference" / "philippy2024_table3.csv")
    assert len(PAPER) == 4
    for path in PAPER:
        value = yaml.safe_load(path.read_text())
        name = path.stem.replace("bloom-1b1", "bloom-1.1b")
        row = table.filter(
            (pl.col("freeze") == "w/") & (pl.col("model").str.to_lowercase() == name)
        ).to_dicts()[0]
        assert float(row["learning_rate"]) == value["training"]["learning_rate"]
        assert f"{{task:{row['prompt_length']}}}" in value["layout"]


def test_fit_and_predict_with_a_decoder(folders, tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text("text,label\nwave,sea\nwaves,sea\nrock,hill\nrocks,hill\n")
    start = [
        "fit",
        str(table),
        "--backbone",
        str(folders["bloom"]),
        "--output",
        str(tmp_path / "run"),
    ]
    refused = called(*start)
    assert refused.returncode == 1
    assert "the word ' hill' for 'hill' is 5 pieces" in refused.stderr
    assert "head.several_pieces=mean" in refused.stderr
    done = called(*start, "--set", "head.several_pieces=mean", "--set", "training.max_steps=2")
    assert done.returncode == 0, done.stderr
    assert "Fitted 2 labels on 4 examples" in done.stdout
    answers = called("predict", str(tmp_path / "run"), "-", text="wave\nrock\n")
    assert len(re.findall(r"\b(sea|hill)\b", answers.stdout)) >= 2
    wrong = called(*start, "--set", "head.sevral_pieces=mean")
    assert "unknown key. Did you mean 'several_pieces'" in wrong.stderr


def test_backbones_lists_the_decoders_with_their_terms():
    out = " ".join(called("backbones").stdout.split())
    for words in ("pypi:gemma3-270m", "pypi:smollm2-135m", "Terms of Use", "FILE.gguf", "BLOOMZ"):
        assert words in out


def test_probabilities_of_a_decoder_sum_to_one(folders):
    from polyprompt import Classifier

    classifier = Classifier(
        backbone=str(folders["xglm"]),
        head={"words": {"a": "a", "b": "b"}, "leading_space": False},
        training={"max_steps": 2},
    ).fit(["x", "y", "xx", "yy"], ["a", "b", "a", "b"])
    proba = classifier.predict_proba(["xy", "z"])
    np.testing.assert_allclose(proba.sum(1), 1, atol=1e-5)
