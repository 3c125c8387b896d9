"""Words and their pieces, heads that tag them, and studies whose items are tagged sentences."""

import json
import random

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from seqeval.metrics import f1_score as seqeval_f1
from sklearn.metrics import accuracy_score, f1_score
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from polyprompt import Predictor
from polyprompt.analysis.summary import item_values, summarise
from polyprompt.analysis.transfer import accuracy_table
from polyprompt.baselines.text import word_tags
from polyprompt.capabilities import TrainingSettings
from polyprompt.classifier import Classifier
from polyprompt.data.alignment import read_places
from polyprompt.data.encoded import Reading
from polyprompt.data.encoding import Encoder
from polyprompt.data.readers import read_task
from polyprompt.engine.cached import CachedEngine
from polyprompt.engine.direct import DirectEngine
from polyprompt.engine.engine import Prompts
from polyprompt.engine.memory import Allowance
from polyprompt.errors import ConfigError, DataError, StoreError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.plan import plan_study
from polyprompt.experiments.store import RunFolder
from polyprompt.experiments.study import run_study
from polyprompt.families import Attention
from polyprompt.heads.classifier import IGNORED, TaggerHead
from polyprompt.models.tiny import tiny_backbone
from polyprompt.records import Example
from polyprompt.scoring.metrics import METRICS, accuracy, entity_f1, macro_f1, word_accuracy
from polyprompt.scoring.score import score_predictions
from polyprompt.tasks.card import load_card
from polyprompt.tasks.layout import parse_layout
from polyprompt.training.loop import add_gradients
from polyprompt.training.member import Member, label_tensor
from polyprompt.tuning.linear_map import LinearMap
from programs import called

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


@pytest.fixture(scope="module")
def unigram():
    """A unigram tokenizer with metaspaces, as XLM-R's and E5's, that leaves zero-width joiners out."""
    pieces = [
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        "▁",
        "▁the",
        "▁ca",
        "ts",
        "▁s",
        "at",
        "北",
        "京",
        "▁北",
    ]
    pieces += [*"abcdefghijklmnopqrstuvwxyz.,!"]
    vocabulary = [(piece, -float(i) / 10) for i, piece in enumerate(pieces)]
    raw = RawTokenizer(models.Unigram(vocabulary, unk_id=3))
    raw.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace("\u200d", ""), normalizers.Replace("\u200b", "")]
    )
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        unk_token="<unk>",
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
    )


def example(*words, tags=None, identity="1"):
    label = " ".join(tags or ["O"] * len(words))
    return Example(identity, "eng_Latn", {"text": " ".join(words)}, label, words=words)


def read_pieces(tokenizer, words, piece, limit=64, layout="{text}"):
    encoder = Encoder(
        tokenizer, parse_layout(layout, ["text"]), "", limit, reading=Reading(piece=piece)
    )
    (encoded,) = encoder.encode([example(*words)])
    assert len(encoded.reads) == len(words) == encoded.answers
    ids = np.concatenate(encoded.hard)
    return [
        None if at < 0 else tokenizer.convert_ids_to_tokens(int(ids[at])) for at in encoded.reads
    ]


@pytest.mark.parametrize(
    ("words", "first", "last"),
    [
        (("the", "cats", "sat"), ["▁the", "▁ca", "▁s"], ["▁the", "ts", "at"]),
        (("北", "京", "北"), ["▁北", "京", "▁北"], ["▁北", "京", "▁北"]),  # "▁京" is "▁" and "京"
        (("the", "", "cats"), ["▁the", "▁ca", "▁ca"], ["▁the", "ts", "ts"]),
        (("the", "\u200d", "cats"), ["▁the", "▁ca", "▁ca"], ["▁the", "ts", "ts"]),
        (("the", "\u200b\u200d"), ["▁the", "▁the"], ["▁the", "▁the"]),
        (("c\u200dats",), None, ["ts"]),
    ],
)
def test_words_are_read_at_their_own_pieces(unigram, words, first, last):
    if first is not None:
        assert read_pieces(unigram, words, "first") == first
    assert read_pieces(unigram, words, "last") == last


def test_words_that_truncation_took_are_marked_and_others_stay(unigram):
    words = ("the", "cats", "sat", "the", "cats", "sat", "the", "cats")
    whole = read_pieces(unigram, words, "first")
    cut = read_pieces(unigram, words, "first", limit=11)
    kept = sum(piece is not None for piece in cut)
    assert 3 < kept < len(words)
    assert cut[:kept] == whole[:kept]
    assert cut[kept:] == [None] * (len(words) - kept)


def test_a_sentence_that_stands_twice_is_read_the_second_time(unigram):
    encoder = Encoder(
        unigram, parse_layout("{text} . {text}", ["text"]), "", 64, reading=Reading(piece="first")
    )
    (encoded,) = encoder.encode([example("the", "cats")])
    ids = np.concatenate(encoded.hard)
    first = np.flatnonzero(ids == unigram.convert_tokens_to_ids("▁the"))
    assert encoded.reads[0] == first[1]


def test_alignment_equals_the_tokenizers_own_word_ids_on_random_sentences(unigram):
    rng = random.Random(3)
    alphabet = [*"abcdefghijklmnopqrstuvwxyz.,!", "the", "cats", "sat", "北", "京"]
    for _ in range(200):
        words = [
            "".join(rng.choices(alphabet, k=rng.randint(1, 4))) for _ in range(rng.randint(1, 9))
        ]
        text = " ".join(words)
        out = unigram([text], add_special_tokens=False, return_offsets_mapping=True)
        blank = np.array([p == "▁" for p in unigram.convert_ids_to_tokens(out["input_ids"][0])])
        offsets = np.array(out["offset_mapping"][0])
        starts = np.cumsum([0, *(len(word) + 1 for word in words)])[:-1]
        for which in ("first", "last"):
            found = read_places(words, 0, offsets, blank, which)
            for word, (place, start) in enumerate(zip(found, starts, strict=True)):
                own = [
                    i for i, (a, b) in enumerate(offsets)
                    if a < start + len(words[word]) and b > start and not blank[i]
                ]  # fmt: skip
                assert place == (own[0] if which == "first" else own[-1])


def test_pieces_and_those_of_one_character_are_counted_before_cutting(unigram):
    encoder = Encoder(unigram, parse_layout("{text}", ["text"]), "", 64)
    (encoded,) = encoder.encode([Example("", "", {"text": "the cats 北 z"})])
    # ▁the ▁ca ts ▁北 ▁ z
    assert (encoded.pieces, encoded.singles) == (6, 3)
    short = Encoder(unigram, parse_layout("{text}", ["text"]), "", 12)
    (cut,) = short.encode([Example("", "", {"text": ("the cats " * 9).strip()})])
    assert cut.pieces == 27
    assert cut.dropped == 27 - 10


@pytest.mark.parametrize("layout", ["{task:3}{text}", "{text}{task:2}{text}"])
@pytest.mark.parametrize("kind", ["llama", "bloom", "bert"])
def test_states_of_words_are_transformers_own(kind, layout):
    attention = Attention.FULL if kind == "bert" else None
    backbone = tiny_backbone(kind, attention)
    parsed = parse_layout(layout, ["text"], {"task": None})
    encoder = Encoder(backbone.tokenizer, parsed, "", 64, ends=False, reading=Reading(piece="last"))
    words = [("the", "cat"), ("a",), ("one", "two", "x")]
    inputs = encoder.encode([example(*own) for own in words])
    length = parsed.prompt_length
    vectors = tuple(torch.randn(length, backbone.facts.width) for _ in range(2))
    prompts = Prompts(vectors, ((length,),) * 2)
    states = DirectEngine(backbone).every(inputs, prompts)
    table = backbone.model.get_input_embeddings()
    body = backbone.model if kind == "bert" else backbone.model.base_model
    theirs = []
    for soft in vectors:
        for encoded in inputs:
            front, behind = (table(torch.from_numpy(ids)) for ids in encoded.hard)
            hidden = body(inputs_embeds=torch.cat([front, soft, behind])[None]).last_hidden_state[0]
            hard = [*range(len(front)), *range(len(front) + length, len(hidden))]
            theirs.append(hidden[[hard[at] for at in encoded.reads]])
    torch.testing.assert_close(states.tokens, torch.cat(theirs), atol=5e-5, rtol=1e-4)
    assert states.sizes.tolist() == [2, 1, 3] * 2
    some = states.rows([4, 0])
    torch.testing.assert_close(some.tokens, torch.cat([theirs[4], theirs[0]]), atol=5e-5, rtol=1e-4)


def test_the_cached_engine_reads_words_among_frozen_and_live_tokens():
    backbone = tiny_backbone("gpt2")
    parsed = parse_layout("{text}{task:2}{more}", ["text", "more"], {"task": None})
    encoder = Encoder(
        backbone.tokenizer, parsed, "", 64, ends=False, reading=Reading(piece="first")
    )
    items = [
        Example("1", "", {"text": "ab c", "more": "the cat"}, None, words=("the", "cat")),
        Example("2", "", {"text": "abc de", "more": "a b"}, None, words=("a", "b")),
    ]
    inputs = encoder.encode(items)
    inputs = [type(x)(**{**vars(x), "reads": np.array([0, 3, *x.reads])}) for x in inputs]
    prompts = Prompts((torch.randn(2, 32), torch.randn(2, 32)), ((2,), (2,)))
    direct = DirectEngine(backbone).every(inputs, prompts)
    cached = CachedEngine(backbone).every(inputs, prompts)
    torch.testing.assert_close(cached.tokens, direct.tokens, atol=5e-5, rtol=1e-4)


def test_the_taggers_loss_is_the_mean_over_read_words_and_lost_words_get_the_usual_tag():
    backbone = tiny_backbone("llama")
    parsed = parse_layout("{text}", ["text"])
    encoder = Encoder(backbone.tokenizer, parsed, "", 12, ends=False, reading=Reading(piece="last"))
    items = [
        example("the", "cat", tags=["O", "B-PER"]),
        example("abcdefgh", "xy", "z", tags=["O", "I-LOC", "B-LOC"]),
    ]
    inputs = encoder.encode(items)
    assert [int((x.reads < 0).sum()) for x in inputs] == [0, 1]
    labels = label_tensor(items, inputs, TAGS)
    assert labels.tolist() == [[0, 1], [0, 4]]
    weights = LinearMap(32, 5, 0.5, 0.0, np.random.default_rng(0))
    head = TaggerHead(weights, torch.tensor([0.0, -1, -2, -3, -4]))
    states = DirectEngine(backbone).bare(inputs)
    scores = head.scores(states)
    expected = torch.nn.functional.cross_entropy(scores, torch.tensor([0, 1, 0, 4]))
    torch.testing.assert_close(head.loss(states, labels), expected)
    answers = head.answers(states, inputs)
    assert len(answers) == 5
    torch.testing.assert_close(answers[4], head.fallback)
    torch.testing.assert_close(answers[[0, 1, 2, 3]], scores)
    padded = label_tensor([items[0], example("a")], encoder.encode([items[0], example("a")]), TAGS)
    assert padded.tolist() == [[0, 1], [0, IGNORED]]


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_the_gradient_of_a_step_is_the_same_however_many_rows_are_computed_at_once(rows):
    backbone = tiny_backbone("llama")
    parsed = parse_layout("{text}", ["text"])
    encoder = Encoder(backbone.tokenizer, parsed, "", 64, ends=False, reading=Reading(piece="last"))
    items = [
        example(*("ab",) * n, tags=["O", "B-PER", "I-PER", "B-LOC"][:n] + ["O"] * max(0, n - 4))
        for n in (1, 8, 2, 6)
    ]
    inputs = encoder.encode(items)
    found = []
    for most in (None, rows):
        weights = LinearMap(32, 5, 0.5, 0.4, np.random.default_rng(0))
        weights.step = 2
        head = TaggerHead(weights, torch.zeros(5))
        labels = label_tensor(items, inputs, TAGS)
        settings = TrainingSettings(learning_rate=0.1)
        member = Member(
            {"head": weights}, head, inputs, labels, (), labels[:0], settings, 0, 32
        )  # fmt: skip
        engine = DirectEngine(backbone, allowance=Allowance(rows=most))
        losses = add_gradients(engine, [member], {0: [0, 1, 2, 3]})
        found.append((losses[0], weights.weight.grad))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    torch.testing.assert_close(found[1][1], found[0][1], atol=1e-5, rtol=1e-4)


def random_tags(rng, words):
    """Tags as a bad tagger gives them, malformed ones included."""
    return [rng.choice(["O", "O", *TAGS[1:], "B-ORG", "I-ORG"]) for _ in range(words)]


def test_entity_f1_equals_seqeval_on_random_and_malformed_tags():
    rng = random.Random(1)
    for _ in range(300):
        sizes = [rng.randint(1, 12) for _ in range(rng.randint(1, 6))]
        truth = [random_tags(rng, size) for size in sizes]
        found = [
            [tag if rng.random() < 0.6 else other for tag, other in zip(own, random_tags(rng, len(own)), strict=True)]
            for own in truth
        ]  # fmt: skip
        ours = entity_f1([" ".join(t) for t in truth], [" ".join(t) for t in found])
        assert ours.value() == pytest.approx(seqeval_f1(truth, found, zero_division=0), abs=1e-12)
        assert ours.of_items().mean() == pytest.approx(ours.value(), abs=1e-12)


def test_other_metrics_equal_scikit_learn_and_are_means_of_item_values():
    rng = random.Random(2)
    for _ in range(100):
        truth = [rng.choice("abcd") for _ in range(30)]
        found = [rng.choice("abcde") for _ in range(30)]
        assert accuracy(truth, found).value() == pytest.approx(accuracy_score(truth, found))
        counts = macro_f1(truth, found)
        assert counts.value() == pytest.approx(f1_score(truth, found, average="macro"))
        assert counts.of_items().mean() == pytest.approx(counts.value())
        sentences = [[" ".join(own[i : i + 3]) for i in range(0, 30, 3)] for own in (truth, found)]
        words = word_accuracy(*sentences)
        assert words.value() == pytest.approx(accuracy_score(truth, found))
    assert set(accuracy(truth, found).of_items()) == {0.0, 1.0}


def test_resampled_means_of_item_values_vary_as_f1_of_resampled_items_does():
    rng = random.Random(5)
    truth, found = [], []
    for _ in range(200):
        own = random_tags(rng, rng.randint(3, 12))
        truth.append(" ".join(own))
        found.append(" ".join(t if rng.random() < 0.8 else "O" for t in own))
    values = entity_f1(truth, found).of_items()
    draws = np.random.default_rng(0).integers(200, size=(500, 200))
    real = [entity_f1([truth[i] for i in row], [found[i] for i in row]).value() for row in draws]
    assert np.std(values[draws].mean(1)) == pytest.approx(np.std(real), rel=0.1)


def test_known_words_get_their_commonest_tag():
    pairs = [("Anna", 1), ("anna", 1), ("anna", 0), ("runs", 0), ("runs", 0)]
    scores = word_tags(pairs, 3, ["ANNA", "runs", "other"])
    assert scores.argmax(1).tolist() == [1, 0, 0]
    assert word_tags([], 3, []).shape == (0, 3)


@pytest.fixture
def tagged_task(tmp_path):
    """Sentences of which every word that has an x is a name, and begins a place after the first."""
    rng = random.Random(0)
    folder = tmp_path / "tagged"
    folder.mkdir()
    rows = []
    for split, count, languages in (
        ("train", 40, ["eng_Latn"]),
        ("dev", 8, ["eng_Latn"]),
        ("test", 10, ["eng_Latn", "deu_Latn"]),
    ):
        for language in languages:
            for number in range(count):
                words, tags = [], []
                for _ in range(rng.randint(1, 6)):
                    name = rng.random() < 0.4
                    words.append(
                        ("x" if name else "") + "".join(rng.choices("abcdef", k=rng.randint(1, 4)))
                    )
                    tags.append("B-PER" if name else "O")
                rows.append(
                    {
                        "language": language,
                        "split": split,
                        "id": f"{split}-{number}",
                        "tokens": words,
                        "tags": tags,
                    }
                )
    pl.DataFrame(rows).write_parquet(folder / "tagged.parquet")
    card = {
        "name": "tagged", "title": "Names with an x", "kind": "tagging",
        "local": {"files": dict.fromkeys(("train", "dev", "test"), "tagged.parquet")},
        "columns": {"id": "id", "label": "tags", "fields": {"text": "tokens"}},
        "labels": ["O", "B-PER"], "layout": "{task}{text}", "metric": "entity_f1",
    }  # fmt: skip
    path = tmp_path / "tagged.yaml"
    path.write_text(yaml.safe_dump(card))
    return path, folder


def tagged_study(tagged_task, tiny_folder, tmp_path, **changes):
    card, folder = tagged_task
    value = {
        "name": "tagged", "task": str(card), "data": str(folder), "output": str(tmp_path / "runs"),
        "backbone": {"name": str(tiny_folder), "max_tokens": 64}, "shots": "all",
        "training": {"epochs": 12, "learning_rate": 0.03, "batch_size": 8}, "grid": {"seed": [0, 1]},
    }  # fmt: skip
    return build_study(value | changes, "tagged")


@pytest.mark.parametrize(
    "parts",
    [
        {"task": {"length": 3}},
        {"deep": {"kind": "deep_prompt", "length": 4, "projection": 16, "dropout": 0.1}},
        {},
        {"all": {"kind": "full", "save": False}},
    ],
    ids=["soft", "deep", "probe", "full"],
)
def test_a_study_of_tagged_sentences(tagged_task, tiny_folder, tmp_path, parts):
    rate = 0.003 if "all" in parts else 0.03
    training = {"epochs": 20, "learning_rate": rate, "batch_size": 8}
    study = tagged_study(tagged_task, tiny_folder, tmp_path, parts=parts, training=training)
    for _ in run_study(study):
        pass
    folders = [RunFolder(path) for path in study.folder.iterdir() if (path / "run.json").is_file()]
    assert len(folders) == 2
    table = pl.concat([folder.predictions() for folder in folders])
    assert set(table["metric"]) == {"entity_f1"}
    own = table.filter(pl.col("baseline").is_null())
    for row in own.iter_rows(named=True):
        assert len(row["label"].split()) == len(row["prediction"].split()) == len(row["scores"])
        assert row["words"] == len(row["scores"])
        assert all(0 < score <= 1 for score in row["scores"])
    scores = score_predictions(own)
    assert set(scores["metric"]) == {"entity_f1", "word_accuracy"}
    for (run, language), part in own.group_by("run", "language"):
        theirs = seqeval_f1(
            [x.split() for x in part["label"]], [x.split() for x in part["prediction"]]
        )
        ours = scores.filter(run=run, language=language, metric="entity_f1")["value"][0]
        assert ours == pytest.approx(theirs)
    values = item_values(table, None)
    summary = summarise(table, parallel=False)
    assert summary.metric == "entity_f1"
    assert summary.overall.accuracy.mean == pytest.approx(
        np.mean([v.mean() for v in values.values()])
    )
    assert set(table["baseline"].drop_nulls()) == {"majority", "word_tags"}
    steps = [
        json.loads(line) for line in (folders[0].path / "steps.jsonl").read_text().splitlines()
    ]
    losses = [step["loss"] for step in steps if step["loss"] is not None]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    if {"all", "deep"} & set(
        parts
    ):  # the others leave what a random model computes nearly as it is
        assert summary.overall.accuracy.mean > 0.8
    if "all" in parts:  # its weights are not kept
        return
    with pytest.raises(StoreError, match=r"tags words.*polyprompt\.Predictor"):
        Classifier.load(folders[0].path)
    mine = own.filter(run=folders[0].name)
    texts = pl.read_parquet(tagged_task[1] / "tagged.parquet").filter(split="test")
    rows = mine.join(texts, on=["id", "language"], maintain_order="left")
    answers = Predictor.load(folders[0].path).answer(
        [{"text": " ".join(words)} for words in rows["tokens_right"]]
    )
    assert [one.prediction for one in answers] == rows["prediction"].to_list()
    for one, scores_ in zip(answers, rows["scores"], strict=True):
        assert one.probabilities == pytest.approx(scores_.to_list(), abs=1e-4)
    lines = "\n".join(" ".join(words) for words in rows["tokens_right"][:2])
    done = called("predict", str(folders[0].path), "-", text=lines)
    assert done.returncode == 0, done.stderr
    told = pl.read_csv(done.stdout.encode())
    assert told.columns == ["text", "prediction", "probabilities"]
    assert told["prediction"].to_list() == rows["prediction"][:2].to_list()


def test_what_does_not_go_with_tagging_is_refused(tagged_task, tiny_folder, tmp_path, toy_study):
    def planned(**changes):
        changes = {"parts": {"task": {"length": 3}}} | changes
        return plan_study(tagged_study(tagged_task, tiny_folder, tmp_path, **changes))

    with pytest.raises(ConfigError, match="the words that are tagged do not see it"):
        planned(backbone={"name": str(tiny_folder), "max_tokens": 64, "attention": "one_way"})
    with pytest.raises(
        ConfigError, match="cannot answer the tagging task.*Set head.kind to tagger"
    ):
        planned(head="classifier")
    with pytest.raises(ConfigError, match="cannot answer the classification task"):
        plan_study(build_study(toy_study | {"head": "tagger"}, "toy"))
    with pytest.raises(ConfigError, match="'tsk' is no part or head that is trained.*task"):
        planned(training={"learning_rates": {"tsk": 0.1}})
    (group,) = planned(shots=3)
    assert [len(run.draw.train) for run in group.runs] == [3, 3]
    assert group.runs[0].draw.note.startswith("3 sentences from eng_Latn")
    assert group.runs[0].settings.backbone.attention is Attention.FULL


@pytest.mark.parametrize(
    ("tokens", "tags", "message"),
    [
        (["a", "b"], ["O"], "row 2: 2 words and 1 tags"),
        ([], [], "row 2: there are no words"),
        (["a"], ["B-PRE"], "row 2: unknown label 'B-PRE'. Did you mean 'B-PER'"),
    ],
)
def test_bad_rows_are_named(tagged_task, tiny_folder, tmp_path, tokens, tags, message):
    _, folder = tagged_task
    path = folder / "tagged.parquet"
    rows = pl.read_parquet(path).to_dicts()
    rows[1] |= {"tokens": tokens, "tags": tags}
    pl.DataFrame(rows).write_parquet(path)
    with pytest.raises(DataError, match=message):
        plan_study(tagged_study(tagged_task, tiny_folder, tmp_path, parts={}))


def test_at_most_so_many_items_are_answered_and_the_same_in_all_languages(toy_study):
    value = toy_study | {"test_items": 5, "targets": "all"}
    (group,) = plan_study(build_study(value, "toy"))
    ids = {}
    for item in group.data.splits["test"]:
        ids.setdefault(item.language, []).append(item.id)
    assert {len(own) for own in ids.values()} == {5}
    assert len({tuple(own) for own in ids.values()}) == 1


def test_every_metric_has_a_title():
    from polyprompt.scoring.metrics import TITLES, title_of

    assert set(TITLES) == {*METRICS, "answer_f1", "exact_match"}
    assert title_of("f1:yes") == "F1 of 'yes'"


def test_the_tags_of_words_have_no_entities_where_they_are_none():
    table = pl.DataFrame(
        {
            "run": ["a"], "baseline": [None], "task": ["t"], "language": ["eng_Latn"], "id": ["1"],
            "label": ["NOUN VERB DET"], "prediction": ["NOUN NOUN DET"], "metric": ["word_accuracy"],
        },
        schema_overrides={"baseline": pl.String},
    )  # fmt: skip
    assert score_predictions(table)["metric"].to_list() == ["word_accuracy"]
    values, _ = accuracy_table(table, ["eng_Latn"])
    assert values[0, 0] == pytest.approx(2 / 3)


def test_the_same_items_of_parallel_languages_are_answered_in_any_order(toy_study, toy_task):
    _, data = toy_task
    path = data / "test.parquet"
    table = pl.read_parquet(path)
    mixed = pl.concat(
        [
            t.sample(fraction=1, shuffle=True, seed=i)
            for i, t in enumerate(table.partition_by("language"))
        ]
    )
    mixed.write_parquet(path)
    (group,) = plan_study(build_study(toy_study | {"test_items": 4}, "toy"))
    ids = {}
    for item in group.data.splits["test"]:
        ids.setdefault(item.language, set()).add(item.id)
    assert len({frozenset(own) for own in ids.values()}) == 1
    assert {len(own) for own in ids.values()} == {4}


@pytest.mark.shared
def test_a_missing_column_is_named_with_the_file_that_all_splits_share(tmp_path, sib200):
    """And a folder that is missing is asked for each file once."""
    table = pl.read_parquet(sib200.parent / "tasks" / "panx" / "panx.parquet")
    table.rename({"tokens": "words"}).write_parquet(tmp_path / "panx.parquet")
    card = load_card("panx")
    with pytest.raises(DataError, match=r"panx\.parquet \(split train\) has no column 'tokens'"):
        read_task(card, str(tmp_path), ["eng_Latn"], None)
    tests = table.with_row_index("n").filter(split="test")
    wrong = pl.when(pl.col("n") == tests["n"][4]).then(pl.lit(["X"])).otherwise(pl.col("tags"))
    tokens = pl.when(pl.col("n") == tests["n"][4]).then(pl.lit(["x"])).otherwise(pl.col("tokens"))
    spoilt = table.with_row_index("n").with_columns(tags=wrong, tokens=tokens).drop("n")
    spoilt.write_parquet(tmp_path / "panx.parquet")
    with pytest.raises(DataError, match=r"panx\.parquet \(split test\), row 5: unknown label 'X'"):
        read_task(card, str(tmp_path), ["eng_Latn"], None)
    with pytest.raises(DataError, match=r"should hold: panx\.parquet$"):
        read_task(card, str(tmp_path / "nowhere"), ["eng_Latn"], None)
