"""Masked language models: equal to transformers at the mask, cached = direct, and a study."""

import pytest
import torch
from transformers import pipeline

from polyprompt.data.encoding import Encoder
from polyprompt.engine.cached import CachedEngine
from polyprompt.engine.direct import DirectEngine
from polyprompt.engine.engine import Prompts
from polyprompt.errors import BackboneError, ConfigError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.plan import plan_study
from polyprompt.experiments.store import RunFolder
from polyprompt.experiments.study import run_study
from polyprompt.families import Attention
from polyprompt.models.locate import family_of
from polyprompt.models.tiny import MASKED, tiny_backbone, tiny_model, tiny_tokenizer
from polyprompt.records import Example
from polyprompt.tasks.layout import parse_layout

KINDS = (f"bert{MASKED}", f"xlm-roberta{MASKED}")
TEXTS = ("hello world", "x", "the cat sat on the mat", "ab", "one two three four", "yes <mask> no")
TOLERANCE = 2e-5


def inputs_of(backbone, layout, **slots):
    parsed = parse_layout(layout, ["text"], slots)
    encoder = Encoder(backbone.tokenizer, parsed, "", 64)
    return encoder.encode([Example(t, "", {"text": t}) for t in TEXTS])


def prompts_of(backbone, runs, length):
    generator = torch.Generator().manual_seed(3)
    width = backbone.facts.width
    vectors = [torch.randn(length, width, generator=generator) for _ in range(runs)]
    return Prompts(tuple(v.requires_grad_() for v in vectors), ((length,),) * runs)


@pytest.mark.parametrize("attention", [Attention.ONE_WAY, Attention.FULL])
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_prompt_scores_are_transformers_own_at_the_mask(kind, attention):
    backbone = tiny_backbone(kind, attention)
    inputs = inputs_of(backbone, "{text} it is {mask}.")
    states = DirectEngine(backbone).bare(inputs)
    theirs = []
    for encoded in inputs:
        (at,) = encoded.masks
        ids = encoded.hard[0]
        assert ids[at] == backbone.tokenizer.mask_token_id
        theirs.append(backbone.reference(torch.from_numpy(ids), int(at)))
    full = torch.stack(theirs)
    if attention is Attention.FULL:  # one-way, the words do not see the mask
        torch.testing.assert_close(backbone.unembed(states.tokens), full, atol=TOLERANCE, rtol=1e-5)
        some = backbone.unembed(states.tokens, [5, 9, 30])
        torch.testing.assert_close(some, full[:, [5, 9, 30]], atol=TOLERANCE, rtol=1e-5)
    else:
        assert (backbone.unembed(states.tokens) - full).abs().max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_the_pipeline_that_fills_masks_gives_the_same_probabilities(kind):
    backbone = tiny_backbone(kind, Attention.FULL)
    fill = pipeline(
        "fill-mask", model=tiny_model(kind), tokenizer=tiny_tokenizer(masks=True), top_k=75
    )
    text = "the cat is <mask>."
    parsed = parse_layout("{text} is {mask}.", ["text"], {})
    encoded = Encoder(backbone.tokenizer, parsed, "", 64).encode(
        [Example("", "", {"text": "the cat"})]
    )
    ours = backbone.unembed(DirectEngine(backbone).bare(encoded).tokens)[0].softmax(0)
    theirs = {found["token"]: found["score"] for found in fill(text)}
    assert len(theirs) == len(ours)
    for word, score in theirs.items():
        assert score == pytest.approx(float(ours[word]), abs=1e-6)


@pytest.mark.parametrize("layout", ["{text} is {mask}{task:3}", "{text} {task:3} {mask} so"])
@pytest.mark.parametrize("kind", KINDS)
def test_cached_equals_direct_with_prompts_in_outputs_and_gradients(kind, layout):
    backbone = tiny_backbone(kind)
    inputs = inputs_of(backbone, layout, task=None)
    found = []
    for engine in (DirectEngine(backbone), CachedEngine(backbone)):
        prompts = prompts_of(backbone, 3, 3)
        states = engine.every(inputs, prompts)
        gradients = torch.autograd.grad(states.tokens.sin().sum(), prompts.vectors)
        found.append((states.tokens, states.mean, *gradients))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_full_attention_with_a_prompt_equals_transformers_on_the_same_embeddings(kind):
    backbone = tiny_backbone(kind, Attention.FULL)
    inputs = inputs_of(backbone, "{text} is {mask}{task:3}", task=None)
    prompts = prompts_of(backbone, 1, 3)
    ours = backbone.unembed(DirectEngine(backbone).every(inputs, prompts).tokens)
    table = backbone.model.get_input_embeddings()
    for scores, encoded in zip(ours, inputs, strict=True):
        front, behind = (table(torch.from_numpy(ids)) for ids in encoded.hard)
        x = torch.cat([front, prompts.vectors[0], behind])[None]
        theirs = backbone.model(inputs_embeds=x).logits[0, encoded.masks[0]]
        torch.testing.assert_close(scores, theirs, atol=TOLERANCE, rtol=1e-4)


def test_a_configuration_says_whether_a_model_guesses_words():
    assert family_of({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "x") == "masked"
    assert family_of({"model_type": "bert", "architectures": ["BertModel"]}, "x") == "embedding"
    assert family_of({"model_type": "xlm-roberta"}, "x") == "embedding"


def test_a_tokenizer_without_a_mask_is_refused():
    from polyprompt.capabilities import BackboneSettings
    from polyprompt.models.load import wrap
    from polyprompt.models.locate import Location

    kind = KINDS[0]
    place = Location("folder", kind, "tiny", "masked", kind)
    with pytest.raises(BackboneError, match="no mask in its tokenizer.*family=embedding"):
        wrap(tiny_model(kind), tiny_tokenizer(), BackboneSettings(name="tiny"), place)


@pytest.fixture
def masked_folder(tmp_path):
    folder = tmp_path / "mlm"
    tiny_model(KINDS[1]).save_pretrained(folder)
    tiny_tokenizer(masks=True).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("attention", ["one_way", "full"])
def test_a_study_on_a_masked_model_from_a_folder(toy_study, masked_folder, attention):
    backbone = {"name": str(masked_folder), "attention": attention, "max_tokens": 64}
    value = toy_study | {"backbone": backbone}
    value["head"] = {"words": {"sea": "s", "hill": "h", "town": "t"}, "leading_space": False}
    value.pop("layout", None)
    value["parts"] = {"task": {"length": 3}}
    study = build_study(value, "toy")
    (group,) = plan_study(study)
    assert group.choice.kind == ("cached" if attention == "one_way" else "direct")
    assert group.runs[0].settings.backbone.family == "masked"
    assert group.runs[0].layout.masks == 1
    for _ in run_study(study):
        pass
    folder = RunFolder(study.folder / group.runs[0].name)
    scores = folder.scores()
    assert set(scores["baseline"].drop_nulls()) >= {"majority", "zero_shot_instruction"}
    assert "in_context" not in set(scores["baseline"].drop_nulls())
    steps = (folder.path / "steps.jsonl").read_text().splitlines()
    assert len(steps) > 3


def test_masks_are_asked_for_where_they_are_read_and_only_there(toy_study, masked_folder):
    words = {"words": {"sea": "s", "hill": "h", "town": "t"}, "leading_space": False}
    of_masks = toy_study | {
        "backbone": {"name": str(masked_folder), "max_tokens": 64},
        "head": words,
    }
    with pytest.raises(ConfigError, match="The layout has 0 masks.*layout="):
        plan_study(build_study(of_masks | {"layout": "{text}{task:3}"}, "toy"))
    with pytest.raises(ConfigError, match="which only a verbalizer over a masked"):
        plan_study(build_study(toy_study | {"layout": "{text} {mask}{task:3}"}, "toy"))
    with pytest.raises(ConfigError, match="there is one mask.*several_pieces=refuse"):
        plan_study(build_study(of_masks | {"head": words | {"several_pieces": "mean"}}, "toy"))
