"""Encoders with a decoder: T5 and mT5 against transformers' own forward pass."""

import numpy as np
import polars as pl
import pytest
import torch
from transformers import T5Config

from polyprompt.capabilities import BackboneSettings
from polyprompt.data.corruption import Corruption, whole_length
from polyprompt.data.encoding import Encoder
from polyprompt.data.pieces import vocabulary_of
from polyprompt.engine.cached import CachedEngine
from polyprompt.engine.direct import DirectEngine
from polyprompt.engine.engine import Prompts
from polyprompt.errors import BackboneError, ConfigError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.language_results import language_results
from polyprompt.experiments.plan import plan_study
from polyprompt.experiments.study import run_study, study_folders
from polyprompt.head_settings import LanguageModelSettings, VerbalizerSettings
from polyprompt.heads.language_model import LanguageModelHead
from polyprompt.heads.verbalizer import VerbalizerHead, Words
from polyprompt.models.blocks import lay_out
from polyprompt.models.load import wrap
from polyprompt.models.locate import Location, family_of
from polyprompt.models.tiny import SENTINELS, SEQ2SEQ, tiny_backbone, tiny_model, tiny_tokenizer
from polyprompt.models.values import Part
from polyprompt.records import Example
from polyprompt.seeds import generator
from polyprompt.tasks.layout import parse_layout
from polyprompt.tuning.adapter import BottleneckAdapter
from test_adapters import of_kind, put, stacked
from test_causal import TEXTS, close
from test_languages import language_study

LAYOUTS = {
    "in front": "{task:3}{text}", "behind": "{text} x{task:3}", "decoder": "{text}{decoder}{task:3}",
    "both": "{task:3}{text}{decoder}{other:2}", "none": "{text}",
}  # fmt: skip
CACHEABLE = ("decoder", "none")


def setting(kind, layout, runs, inputs=5):
    backbone = tiny_backbone(kind)
    slots = {name: None for name in ("task", "other") if "{" + name in LAYOUTS[layout]}
    parsed = parse_layout(LAYOUTS[layout], ["text"], slots).with_decoder()
    encoder = Encoder(backbone.tokenizer, parsed, "", 64, start=backbone.start_token)
    encoded = encoder.encode([Example(t, "", {"text": t}) for t in TEXTS[:inputs]])
    draw = torch.Generator().manual_seed(7)
    lengths = tuple(slot.length for slot in parsed.slots)
    vectors = tuple(
        (0.3 * torch.randn(sum(lengths), 32, generator=draw)).requires_grad_() for _ in range(runs)
    )
    return backbone, encoded, Prompts(vectors, (lengths,) * runs)


def by_transformers(backbone, layout, encoded, vectors, behind=()):
    """Logits of what follows each decoder token, by transformers' own pass over one input."""
    table = backbone.model.get_input_embeddings()
    words = [table(torch.from_numpy(run)) for run in encoded.hard]
    in_encoder = LAYOUTS[layout].split("{decoder}")[0]
    read, written = [words[0]], [words[-1], table(torch.tensor(list(behind), dtype=torch.long))]
    if "{task" in in_encoder:
        read += [vectors[:3], words[1]]
    if layout == "decoder":
        written = [vectors, *written]
    if layout == "both":
        written = [vectors[3:], *written]
    return backbone.model(
        inputs_embeds=torch.cat(read)[None], decoder_inputs_embeds=torch.cat(written)[None],
        use_cache=False,
    ).logits[0]  # fmt: skip


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", SEQ2SEQ)
def test_both_engines_equal_transformers_input_by_input_with_gradients(kind, layout, runs):
    backbone, inputs, prompts = setting(kind, layout, runs)
    engines = [DirectEngine(backbone)]
    if layout in CACHEABLE:
        kept = CachedEngine(backbone)
        kept.keep(inputs, prompts.shapes[0])
        engines += [CachedEngine(backbone), kept]
    theirs = torch.stack(
        [
            by_transformers(backbone, layout, one, vectors)[-1]
            for vectors in prompts.vectors
            for one in inputs
        ]
    )
    weights = torch.linspace(-1, 1, theirs.numel()).view_as(theirs)
    expected = ()
    if layout != "none":
        expected = torch.autograd.grad((theirs * weights).sum(), prompts.vectors)
    for engine in engines:
        ours = backbone.unembed(engine.every(inputs, prompts).last)
        close(ours, theirs)
        one_by_one = engine.each(inputs, [runs - 1] * len(inputs), prompts)
        close(backbone.unembed(one_by_one.last), theirs[-len(inputs) :])
        if layout != "none":
            found = torch.autograd.grad((ours * weights).sum(), prompts.vectors)
            for gradient, reference in zip(found, expected, strict=True):
                close(gradient, reference)


@pytest.mark.parametrize("kind", SEQ2SEQ)
@torch.no_grad()
def test_label_words_of_several_pieces_are_read_in_the_decoder(kind):
    backbone, inputs, prompts = setting(kind, "decoder", 2)
    words = Words(((10,), (11, 12, 13), (14, 15)))
    head = VerbalizerHead(backbone, words, VerbalizerSettings(several_pieces="sum"))
    engine = CachedEngine(backbone, branches=words.branches)
    ours = head.scores(engine.every(inputs, prompts))
    rows = [(vectors, one) for vectors in prompts.vectors for one in inputs]
    for row, (vectors, one) in enumerate(rows):
        for label, pieces in enumerate(words.pieces):
            logits = by_transformers(backbone, "decoder", one, vectors, pieces[:-1])
            logs = logits[-len(pieces) :].log_softmax(1)
            total = sum(logs[at, piece] for at, piece in enumerate(pieces))
            close(ours[row, label], total)


def test_the_encoder_is_read_once_where_only_the_decoder_is_trained():
    backbone, inputs, prompts = setting("mt5", "decoder", 1)
    engine = CachedEngine(backbone)
    engine.keep(inputs, prompts.shapes[0])
    before = backbone.work.tokens
    engine.every(inputs, prompts)
    assert backbone.work.tokens - before == len(inputs) * (3 + 1)


def test_a_mean_over_a_text_is_that_of_what_is_read():
    backbone, inputs, prompts = setting("mt5", "decoder", 1, 2)
    states = CachedEngine(backbone).every(inputs, prompts)
    for row, one in enumerate(inputs):
        ids = torch.from_numpy(one.hard[0])
        _, read = backbone.reference(ids, torch.tensor([backbone.start_token]))
        close(states.mean[row], read.mean(0))


@pytest.mark.parametrize("kind", SEQ2SEQ)
@torch.no_grad()
def test_what_the_decoder_has_written_is_kept_for_what_it_writes_next(kind):
    backbone, inputs, _ = setting(kind, "none", 1, 3)
    texts = [torch.from_numpy(one.hard[0]) for one in inputs]
    sizes = [len(text) for text in texts]
    places = np.concatenate([np.arange(size) for size in sizes])
    blocks = lay_out([[size] for size in sizes], places, backbone.device, causal=False)
    frozen = backbone.encode(backbone.embed(torch.cat(texts)), blocks)
    written = torch.tensor([backbone.start_token, 20, 21, 22])
    for step in range(4):
        live = lay_out([[1]] * 3, np.full(3, step), backbone.device, causal=True)
        x = backbone.embed(written[step].expand(3))
        states, frozen = backbone.grow(x, Part(live, frozen))
        for row, text in enumerate(texts):
            theirs, _ = backbone.reference(text, written[: step + 1])
            close(backbone.unembed(states[row : row + 1])[0], theirs[-1])
    half = frozen.rows(torch.tensor([2, 2, 0]))
    assert half.decoded.mask.shape == (3, 4)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("position", ["feed_forward", "both"])
@pytest.mark.parametrize("kind", SEQ2SEQ)
@torch.no_grad()
def test_adapters_compute_the_formula_of_t5(kind, position, count):
    """h' = h + f + A(h + f); stacked u = f + A1(h + f), h' = h + u + A2(h + u)."""
    backbone, inputs, prompts = setting(kind, "none", 1, 3)
    twin = tiny_backbone(kind).model
    parts = [put(backbone, position, seed=seed) for seed in range(count)]
    ours = DirectEngine(backbone).every(inputs, prompts).last
    sites = 2 if position == "both" else 1

    def by_hand(stack, ids, behind=None):
        hidden, bias = twin.shared(ids)[None], None
        at = 0 if behind is None else len(twin.encoder.block)
        for index, block in enumerate(stack.block, start=at):
            first, *cross, last = block.layer
            f, bias, _ = first.SelfAttention(first.layer_norm(hidden), position_bias=bias)
            some = parts if position == "both" else []
            hidden = stacked(some, sites * index, hidden + f)
            for one in cross:
                normed = one.layer_norm(hidden)
                hidden = hidden + one.EncDecAttention(normed, key_value_states=behind)[0]
            f = last.DenseReluDense(last.layer_norm(hidden))
            hidden = stacked(parts, sites * index + sites - 1, hidden + f)
        return stack.final_layer_norm(hidden)

    for row, one in enumerate(inputs):
        read = by_hand(twin.encoder, torch.from_numpy(one.hard[0]))
        start = torch.tensor([backbone.start_token])
        close(ours[row], by_hand(twin.decoder, start, read)[0, -1])


def test_an_adapter_on_mt0_base_has_as_many_numbers_as_the_paper_s():
    """12 + 12 layers, 768 wide, reduction 16: what else the model has does not matter."""
    config = T5Config(
        vocab_size=len(tiny_tokenizer(sentinels=SENTINELS)), d_model=768, d_kv=4, d_ff=4,
        num_heads=2, num_layers=12, decoder_start_token_id=1, pad_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = type(tiny_model("t5"))(config)
    reference = tiny_backbone("t5")
    place = Location("folder", "t5", "x", "seq2seq", "t5")
    backbone = wrap(model, reference.tokenizer, BackboneSettings(name="tiny:t5"), place)
    settings = of_kind().model_copy(update={"reduction": 16.0})
    part = BottleneckAdapter(backbone, settings, generator(0, "x"))
    assert sum(p.numel() for p in part.parameters()) == 1_789_056


@pytest.mark.parametrize("kind", SEQ2SEQ)
def test_the_loss_of_spans_is_transformers_own(kind):
    backbone = tiny_backbone(kind)
    settings = LanguageModelSettings(kind="language_model", objective="spans")
    layout = parse_layout("{text}", ["text"]).with_decoder()
    encoder = Encoder(
        backbone.tokenizer, layout, "", 64, start=backbone.start_token,
        corruption=Corruption(settings, vocabulary_of(backbone.tokenizer)),
    )  # fmt: skip
    inputs = encoder.encode([Example(t, "eng_Latn", {"text": t}) for t in TEXTS[:5]])
    head = LanguageModelHead(backbone)
    ours = head.answers(CachedEngine(backbone).bare(inputs), inputs)[:, 0]
    for row, one in enumerate(inputs):
        assert one.continuations[0][-1] == backbone.tokenizer.eos_token_id
        labels = torch.tensor(one.continuations[0])[None]
        ids = torch.from_numpy(one.hard[0])[None]
        theirs = backbone.model(input_ids=ids, labels=labels).loss
        close(-ours[row] / labels.numel(), theirs)


def test_a_text_is_as_long_as_what_is_left_of_it_allows():
    settings = LanguageModelSettings(kind="language_model", objective="spans")
    assert whole_length(256, settings) == 285
    for most in (16, 64, 128, 512):
        length = whole_length(most, settings) - 1
        noise = round(length * 0.15)
        assert most - 1 <= length - noise + max(round(noise / 3), 1) + 1 <= most


@pytest.fixture(scope="session")
def mt5_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mt5-tiny")
    tiny_model("mt5").save_pretrained(folder)
    tiny_tokenizer(sentinels=SENTINELS).save_pretrained(folder)
    return folder


def test_a_study_on_mt5_trains_prompts_in_encoder_and_decoder_and_adapters(toy_study, mt5_folder):
    del toy_study["layout"]
    study = build_study(
        toy_study
        | {
            "backbone": {"name": str(mt5_folder), "max_tokens": 64},
            "head": {"words": {"sea": "s", "hill": "h", "town": "t"}, "leading_space": False},
            "training": {"epochs": 2, "learning_rate": 0.1, "batch_size": 4},
            "arms": {
                "encoder": {"layout": "{task:3}{text}"},
                "decoder": {"layout": "{text}{decoder}{task:3}"},
                "adapter": {"parts": {"task": {"kind": "bottleneck_adapter", "reduction": 4}}},
                "full": {
                    "parts": {"all": {"kind": "full"}}, "training.learning_rate": 0.001,
                },
            },
            "grid": {"seed": [0, 1]},
        },
        "mt5",
    )  # fmt: skip
    kinds = {g.runs[0].settings.arm: g.choice.kind for g in plan_study(study)}
    assert kinds == {
        "encoder": "direct", "decoder": "cached", "adapter": "direct", "full": "direct",
    }  # fmt: skip
    list(run_study(study))
    for folder in study_folders(study):
        record, scores = folder.record(), folder.scores()
        assert record["attention"] == "encoder_decoder"
        assert set(scores["language"]) == {"eng_Latn", "fra_Latn", "swh_Latn", "zho_Hans"}
        frozen = record["arm"] in {"encoder", "decoder"}
        assert ("zero_shot_instruction" in set(scores["baseline"])) == frozen
        steps = pl.read_ndjson(folder.path / "steps.jsonl")
        assert steps["loss"].drop_nulls().is_finite().all()


@pytest.mark.parametrize("kind", ["bottleneck_adapter", "soft_prompt"])
def test_spans_teach_mt5_a_language_and_the_task_part_stands_on_it(
    mt5_folder,
    texts_folder,
    tmp_path,
    toy_study,
    kind,
):
    rate = 0.05 if kind == "bottleneck_adapter" else 1.0
    changes = {"training": {"epochs": 4, "batch_size": 8, "learning_rate": rate}}
    study = language_study(mt5_folder, texts_folder, tmp_path, kind, **changes)
    list(run_study(study))
    for one in language_results(study_folders(study)):
        assert one.fall.mean > 0.01
        assert one.fall.low > 0
    del toy_study["layout"]
    source = str(study.folder / "{language}")
    task = build_study(
        toy_study
        | {
            "backbone": {"name": str(mt5_folder), "max_tokens": 64},
            "head": {"words": {"sea": "s", "hill": "h", "town": "t"}, "leading_space": False},
            "targets": ["eng_Latn", "swh_Latn"],
            "baselines": False,
            "layout": "{text}{decoder}{task:3}"
            if kind == "bottleneck_adapter"
            else "{language}{text}{decoder}{task:3}",
            "parts": {
                "language": {"kind": kind, "source": source}
                | ({"reduction": 4} if kind == "bottleneck_adapter" else {}),
                "task": {"length": 3},
            },
        },
        "composed",
    )
    (group,) = plan_study(task)
    assert group.choice.kind == "cached"
    list(run_study(task))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layout": "{text}{decoder}so{task:3}"}, "words or texts behind {decoder}"),
        ({"parts": {"task": {"kind": "deep_prompt"}}, "layout": "{text}"}, "no place for a part"),
        ({"head": "tagger"}, "the family 'seq2seq' answers through"),
        ({"engine": {"kind": "cached"}, "layout": "{task:3}{text}"}, "would not be exact"),
        ({"record": "states"}, "of an encoder with a decoder are not recorded"),
    ],
)
def test_what_an_encoder_with_a_decoder_cannot_do_is_said(toy_study, mt5_folder, changes, words):
    value = toy_study | {
        "backbone": {"name": str(mt5_folder), "max_tokens": 64},
        "head": {"words": {"sea": "s", "hill": "h", "town": "t"}, "leading_space": False},
    }
    with pytest.raises(ConfigError, match=words):
        plan_study(build_study(value | changes, "toy"))


def test_a_layout_with_a_decoder_needs_one(toy_study):
    with pytest.raises(ConfigError, match="only an encoder with a decoder"):
        plan_study(build_study(toy_study | {"layout": "{text}{decoder}{task:3}"}, "toy"))


def test_families_are_told_apart():
    assert [family_of({"model_type": kind}, "x") for kind in SEQ2SEQ] == ["seq2seq"] * 2
    with pytest.raises(BackboneError, match="masked or seq2seq"):
        family_of({"model_type": "bart"}, "x")
