"""Answers that are written: how they are learnt, asked in windows, read and measured."""

import json
import math
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score as seqeval_f1
from sklearn.metrics import f1_score
from torchmetrics.functional.text import squad

from polyprompt.classifier import fit_settings
from polyprompt.data import rows as rows_module
from polyprompt.data.encoded import Reading
from polyprompt.data.encoding import Encoder
from polyprompt.data.readers import read_task
from polyprompt.data.windows import NEXT_WINDOW, Windowing, asked, windows_of, with_answers
from polyprompt.engine.direct import DirectEngine
from polyprompt.engine.engine import Prompts
from polyprompt.engine.writing import Written
from polyprompt.errors import ConfigError, DataError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.estimate import Estimate, estimate_study
from polyprompt.experiments.plan import plan_study
from polyprompt.experiments.search import choices, search_table
from polyprompt.experiments.store import RunFolder
from polyprompt.experiments.study import run_study, study_folders
from polyprompt.heads.generator import GeneratorHead
from polyprompt.models.tiny import SENTINELS, tiny_backbone, tiny_model, tiny_tokenizer
from polyprompt.prediction.written import AnswerReader, as_scores
from polyprompt.records import Example, Writing
from polyprompt.scoring.answers import (
    answer_words,
    best_f1,
    entity_text,
    is_exact,
    kept_entities,
    listed_entities,
)
from polyprompt.scoring.entities import entities
from polyprompt.scoring.metrics import counts_of, f1_of, span_f1
from polyprompt.tasks.card import load_card
from polyprompt.tasks.layout import parse_layout
from polyprompt.training.member import word_tensor
from programs import called

WORDS = [
    "the",
    "a",
    "cat,",
    "dog",
    "Dog.",
    "ran",
    "(far)",
    "away;",
    "an",
    "12",
    "1/2",
    "it's",
    "x-y",
    "$5",
    "A",
    "The",
]


def table(truth, predicted, language="eng_Latn"):
    columns = {"language": [language] * len(truth), "label": truth, "prediction": predicted}
    return pl.DataFrame(columns)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_f1_and_exact_match_of_english_answers_are_squads(seed):
    rng = random.Random(seed)

    def text():
        return " ".join(rng.choices(WORDS, k=rng.randint(1, 5)))

    truth = [[text() for _ in range(rng.randint(1, 3))] for _ in range(7)]
    predicted = [rng.choice([text(), own[0], own[0].upper() + "!"]) for own in truth]
    rows = table(["\n".join(own) for own in truth], predicted)
    expected = squad(
        [{"prediction_text": one, "id": str(i)} for i, one in enumerate(predicted)],
        [
            {"answers": {"text": own, "answer_start": [0] * len(own)}, "id": str(i)}
            for i, own in enumerate(truth)
        ],
    )
    known = np.array([any(answer_words(one, "eng_Latn") for one in own) for own in truth])
    if known.all():  # two answers without a word: 0 there, and the same here
        assert 100 * counts_of("answer_f1", rows).value() == pytest.approx(
            float(expected["f1"]), abs=1e-3
        )
    assert 100 * counts_of("exact_match", rows).value() == pytest.approx(
        float(expected["exact_match"]), abs=1e-3
    )


@pytest.mark.parametrize(
    ("language", "label", "answer", "f1"),
    [
        ("zho_Hans", "北京市", "北京", 0.8),
        ("jpn_Jpan", "1964年に東京で", "東京", 0.5),  # 1964 is one word, 年 に 東 京 で five
        ("tha_Thai", "กรุงเทพ", "กรุงเทพ", 1.0),
        ("hin_Deva", "नई दिल्ली।", "नई दिल्ली", 1.0),
        ("arb_Arab", "القاهرة؟", "القاهرة", 1.0),
        ("por_Latn", "a casa", "casa", 2 / 3),  # an article of English alone is left out
        ("eng_Latn", "a house", "house", 1.0),
        ("eng_Latn", "house\nbig house", "the big house", 1.0),
        ("kor_Hang", "서울 특별시", "서울", 2 / 3),
        ("deu_Latn", "", "", 1.0),
        ("deu_Latn", "", "etwas", 0.0),
    ],
)
def test_answers_are_compared_as_their_script_asks(language, label, answer, f1):
    assert best_f1(label, answer, language) == pytest.approx(f1)
    assert is_exact(label, answer, language) == (f1 == 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_f1_of_written_entities_is_that_of_tags_where_names_are_different(seed):
    rng = random.Random(seed)
    kinds = ("PER", "ORG", "LOC")
    truth, predicted, written, guessed = [], [], [], []
    for _ in range(6):
        words = [f"w{i}" for i in range(rng.randint(2, 9))]
        both = []
        for _ in range(2):
            tags = ["O"] * len(words)
            for kind in kinds:
                first = rng.randrange(len(words))
                size = rng.randint(1, 2)
                for i in range(first, min(first + size, len(words))):
                    tags[i] = ("B-" if i == first else "I-") + kind
            both.append(tags)
        truth.append(both[0])
        predicted.append(both[1])
        written.append(entity_text(words, [*entities(both[0])]))
        guessed.append(entity_text(words, [*entities(both[1])]))
    expected = seqeval_f1(truth, predicted)
    assert span_f1(written, guessed).value() == pytest.approx(expected)


def test_entities_are_counted_as_often_as_they_are():
    text = entity_text(["Ada", "L.", "met", "Ada", "L."], [("PER", 3, 4), ("PER", 0, 1)])
    assert text == "PER: Ada L.$$PER: Ada L."
    assert listed_entities(text) == Counter({("PER", "Ada L."): 2})
    assert span_f1([text], ["PER:Ada  L.$$LOC: Ada L."]).value() == pytest.approx(0.5)
    assert listed_entities("nonsense$$ $$: x") == Counter({("nonsense", ""): 1, ("", "x"): 1})
    assert listed_entities("") == Counter()


def test_f1_of_one_label_is_scikit_learns():
    rng = np.random.default_rng(0)
    truth, predicted = (rng.choice(["yes", "no", ""], 50).tolist() for _ in range(2))
    expected = f1_score(truth, predicted, labels=["yes"], average="macro")
    assert f1_of("yes", truth, predicted).value() == pytest.approx(expected)
    assert counts_of("f1:yes", table(truth, predicted)).value() == pytest.approx(expected)


# What is learnt


def learning(kind, layout="{task:2}{text}"):
    backbone = tiny_backbone(kind)
    seq2seq = backbone.start_token is not None
    parsed = parse_layout(layout, ["text"], {"task": 2})
    parsed = parsed.with_decoder() if seq2seq else parsed
    reading = Reading(continued=9, target=lambda one: one.label, end=2, leading_space=False)
    encoder = Encoder(
        backbone.tokenizer, parsed, "", 64, ends=seq2seq, reading=reading,
        start=backbone.start_token,
    )  # fmt: skip
    labels = ("abc", "", "defghijklmnop", "x")
    texts = ("the cat", "one two", "q", "some more words")
    examples = [Example(t, "", {"text": t}, own) for t, own in zip(texts, labels, strict=True)]
    inputs = encoder.encode(examples)
    vectors = 0.3 * torch.randn(2, 32, generator=torch.Generator().manual_seed(3))
    return backbone, inputs, Prompts((vectors,), ((2,),))


@torch.no_grad()
def test_the_loss_is_that_of_transformers_over_the_pieces_and_the_end():
    backbone, inputs, prompts = learning("mt5")
    head = GeneratorHead(backbone, Writing(9, (2,)))
    states = DirectEngine(backbone).each(inputs, [0] * len(inputs), prompts)
    labels = word_tensor(inputs)
    assert [len(one.continuations[0]) for one in inputs] == [4, 1, 9, 2]  # cut to nine
    table_ = backbone.model.get_input_embeddings()
    losses, counts, right = [], [], 0
    for one in inputs:
        words = table_(torch.from_numpy(one.hard[1]))
        out = backbone.model(
            inputs_embeds=torch.cat([prompts.vectors[0], words])[None],
            labels=torch.tensor([one.continuations[0]]),
        )
        counts.append(len(one.continuations[0]))
        losses.append(float(out.loss) * counts[-1])
        right += int((out.logits[0].argmax(1) == torch.tensor(one.continuations[0])).sum())
    assert float(head.loss(states, labels)) == pytest.approx(sum(losses) / sum(counts), abs=1e-5)
    assert head.accuracy(states, labels) == pytest.approx(right / sum(counts))
    assert head.answered(labels) == sum(counts)


def test_a_decoder_learns_the_pieces_behind_the_text():
    backbone, inputs, prompts = learning("llama")
    head = GeneratorHead(backbone, Writing(9, (2,)))
    vectors = prompts.vectors[0].requires_grad_()
    states = DirectEngine(backbone).each(inputs, [0] * len(inputs), prompts)
    loss = head.loss(states, word_tensor(inputs))
    (gradient,) = torch.autograd.grad(loss, vectors)
    table_ = backbone.model.get_input_embeddings()
    total, count = torch.zeros(()), 0
    for one in inputs:
        answer = torch.tensor(one.continuations[0])
        x = torch.cat([
            table_(torch.from_numpy(one.hard[0])), vectors,
            table_(torch.from_numpy(one.hard[1])), table_(answer),
        ])[None]  # fmt: skip
        ignored = torch.full((x.shape[1] - len(answer),), -100)
        own = backbone.model(inputs_embeds=x, labels=torch.cat([ignored, answer])[None]).loss
        total, count = total + own * len(answer), count + len(answer)
    (expected,) = torch.autograd.grad(total / count, vectors)
    assert float(loss.detach()) == pytest.approx(float((total / count).detach()), abs=1e-5)
    assert torch.allclose(gradient, expected, atol=1e-6)


# Windows


def encoder_of(most=24, layout="{question}? {context}"):
    parsed = parse_layout(layout, ["question", "context"])
    return Encoder(tiny_tokenizer(), parsed, "", most)


def question(context, label="zz", q="why"):
    return Example("1", "", {"question": q, "context": context}, label, is_open=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(20, 200), st.integers(0, 30))
def test_windows_fit_and_cover_the_whole_text(length, stride):
    encoder = encoder_of()
    text = "".join(chr(0x4E00 + i) for i in range(length))  # no letter stands there twice
    found = windows_of(encoder, question(text), stride)
    assert not any(one.dropped for one in encoder.encode(found))
    end, first = 0, found[0].fields["context"]
    for window in found:
        part = window.fields["context"]
        assert window.fields["question"] == "why"
        at = text.index(part)
        assert at == max(0, end - min(stride, len(first) // 2))  # neighbours share so much
        end = at + len(part)
    assert end == len(text)


def test_a_text_that_fits_is_one_window_and_without_a_stride_it_is_cut():
    encoder = encoder_of()
    assert windows_of(encoder, question("short"), 4) == [question("short")]
    long = question("a b c d e f g h i j k l m n o p q r s t u v w x y z" * 2)
    assert windows_of(encoder, long, None) == [long]
    endless = question("c" * 31, q="w" * 30)
    assert windows_of(encoder, endless, 4) == [endless]  # the question alone is too long


def test_a_field_that_is_not_read_is_not_cut_into_windows():
    encoder = encoder_of(layout="{question}?")
    asked_long = question("x" * 200, q="".join(chr(0x4E00 + i) for i in range(60)))
    found = windows_of(encoder, asked_long, 4)
    assert len(found) > 2
    assert {one.fields["context"] for one in found} == {"x" * 200}


def test_what_is_learnt_from_is_the_first_window_with_the_answer():
    encoder = encoder_of()
    text = "a b c d e f g h i j k l m n zz o p q r s t zz u v"
    (chosen,) = with_answers(encoder, [question(text)], Windowing(4))
    windows = windows_of(encoder, question(text), 4)
    having = [one for one in windows if "zz" in one.fields["context"]]
    assert chosen == having[0] != windows[0]
    nowhere = question(text, label="not there")
    assert with_answers(encoder, [nowhere], Windowing(4)) == [nowhere]
    late = text.rindex("zz")  # where the data says it is, not where its letters are first
    (chosen,) = with_answers(encoder, [replace(question(text), answer_start=late)], Windowing(4))
    starts = [text.index(own.fields["context"]) for own in windows]
    known = [
        s <= late <= s + len(w.fields["context"]) - 2 for s, w in zip(starts, windows, strict=True)
    ]
    assert chosen.fields == windows[known.index(True)].fields != having[0].fields
    for place in (3, 10**6):  # no answer stands there
        wrong = replace(question(text), answer_start=place)
        assert with_answers(encoder, [wrong], Windowing(4))[0].fields == having[0].fields
    spaced = text[:late] + "z\n  q" + text[late + 2 :]
    example = replace(question(spaced, label="z q"), answer_start=late - 1)  # at the space before
    (chosen,) = with_answers(encoder, [example], Windowing(4))
    assert "z\n  q" in chosen.fields["context"]
    assert chosen != example


def test_of_a_list_the_first_window_is_learnt_with_what_is_in_it():
    encoder = encoder_of()
    text = "Ada a b c d e f g h i j k l m n o p q r s t u v Bo"
    example = question(text, label="PER: Ada$$PER: Bo")
    (chosen,) = with_answers(encoder, [example], Windowing(4, lists=True))
    assert chosen.fields == windows_of(encoder, example, 4)[0].fields
    assert chosen.label == "PER: Ada"
    for label, beginning, kept in (
        ("PER: Ana$$PER: Ana$$LOC: Al", "Ana met Also", "PER: Ana"),
        ("PER: Li$$LOC: Bo", "Lisbon is Bo", ""),
        ("PER: Ana$$LOC: Rio de$$PER: Ana", "Ana in Rio de x Ana y", None),
    ):
        assert kept_entities(label, beginning) == (label if kept is None else kept)


class Halves:
    """Cuts every piece of a field in two."""

    def applies_to(self, language):
        return True

    def apply(self, ids, offsets, own, rng):
        times = np.where(own, 2, 1)
        return ids.repeat(times), offsets.repeat(times, axis=0)


@pytest.mark.parametrize("length", [30, 60, 200])
def test_windows_fit_a_text_that_is_cut_more_finely(length):
    layout = parse_layout("{question}? {context}", ["question", "context"])
    encoder = Encoder(tiny_tokenizer(), layout, "", 24, segmentation=Halves())
    text = "".join(chr(0x4E00 + i) for i in range(length))
    found = windows_of(encoder, question(text), 2)
    assert len(found) > 1
    assert not any(one.dropped for one in encoder.encode(found))
    assert found[-1].fields["context"].endswith(text[-1])


def test_the_likeliest_window_answers():
    encoder = encoder_of()
    items = [question("short"), question("a b c d e f g " * 6), question("other")]
    read = asked(encoder, items, Windowing(4))
    count = len(read.inputs) - 2
    assert count > 2
    assert read.starts.tolist() == [0, 1, 1 + count, 2 + count]
    assert [one.dropped for one in read.items] == [0, 0, 0]
    scores = np.zeros((2, len(read.inputs), 3), dtype=np.float32)
    scores[:, :, 1] = np.arange(len(read.inputs))
    scores[:, :, 0] = -1
    scores[0, 2, 0], scores[1, 1, 0] = -0.5, -0.1
    best = read.answers(scores)
    assert best[:, :, 1].tolist() == [[0, 2, 1 + count], [0, 1, 1 + count]]
    plain = asked(encoder, items, None)
    assert (plain.answers(scores[:, :3]) == scores[:, :3]).all()
    assert plain.items[1].dropped > 0


def test_lists_that_were_written_for_windows_of_a_text_are_united():
    tokenizer, encoder = tiny_tokenizer(), encoder_of()
    tokenizer.add_tokens(["$"])
    read = asked(encoder, [question("a b c d e f g " * 3), question("x")], Windowing(4, lists=True))
    count = len(read.inputs) - 1
    assert count > 2
    lists = ["A: b$$A: c$$A: b", "A: b$$D: e", *[""] * (count - 2), "F: g"]
    pieces = [tokenizer([text], add_special_tokens=False)["input_ids"][0] for text in lists]
    written = [Written(tuple(own), -float(i)) for i, own in enumerate(pieces)]
    table_ = as_scores(written, 1 + max(map(len, pieces)))[None]
    joined = read.answers(table_)[0]
    assert (joined == NEXT_WINDOW).sum(1).tolist() == [count - 1, 0]
    assert joined[:, 0].tolist() == [pytest.approx(np.mean(range(0, -count, -1))), -count]
    texts = AnswerReader(tokenizer).texts(joined)
    assert texts == ["A: b$$A: b$$A: c$$D: e", "F: g"]


def test_labels_are_read_without_capitals_and_punctuation():
    words = {"entailment": "Yes", "neutral": "Maybe", "contradiction": "No"}
    reader = AnswerReader(tiny_tokenizer(), words, "neutral")
    found = {
        text: reader.answer(text) for text in ("yes.", " NO", "Maybe!", "perhaps", "", "yes no")
    }
    assert found == {
        "yes.": "entailment", " NO": "contradiction", "Maybe!": "neutral",
        "perhaps": "neutral", "": "neutral", "yes no": "neutral",
    }  # fmt: skip
    assert [reader.can_read(text) for text in ("yes.", "Maybe!", "perhaps")] == [True, True, False]
    assert AnswerReader(tiny_tokenizer(), words).answer("perhaps") == ""
    assert AnswerReader(tiny_tokenizer()).answer("Any text.") == "Any text."


# Studies


@pytest.fixture(scope="session")
def mt5_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mt5-writes")
    tiny_model("mt5").save_pretrained(folder)
    tiny_tokenizer(sentinels=SENTINELS).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama-writes")
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def squad_rows(split, languages, count):
    rng = random.Random(split)
    rows = []
    for language in languages:
        for i in range(count):
            words = ["".join(rng.choices("abcdefgh", k=2)) for _ in range(8 + 12 * (i == 1))]
            answer = words[rng.randrange(8)]
            rows.append(
                {
                    "id": f"{split}-{i}", "language": language, "question": f"which {i}",
                    "context": " ".join(words),
                    "answers": {"text": [answer], "answer_start": [0]},
                }
            )  # fmt: skip
    return rows


@pytest.fixture
def questions(tmp_path):
    folder = tmp_path / "questions"
    folder.mkdir()
    for split, languages in (
        ("train", ["eng_Latn"]),
        ("dev", ["eng_Latn"]),
        ("test", ["eng_Latn", "swh_Latn"]),
    ):
        rows = squad_rows(split, languages, 6)
        pl.DataFrame(rows).write_parquet(folder / f"{split}.parquet")
    card = {
        "name": "questions", "title": "Questions", "kind": "question_answering",
        "columns": {
            "id": "id", "label": "answers",
            "fields": {"question": "question", "context": "context"},
        },
        "written": {"layout": "{task}question: {question} context: {context}", "max_pieces": 6},
        "metric": "answer_f1",
    }  # fmt: skip
    path = tmp_path / "questions.yaml"
    path.write_text(yaml.safe_dump(card))
    return path, folder


def study_of(task, backbone, output, **changes):
    card, data = task
    value = {
        "name": "written", "task": str(card), "data": str(data), "output": str(output),
        "backbone": {"name": str(backbone), "max_tokens": 64}, "shots": 4,
        "parts": {"task": {"length": 3}}, "grid": {"seed": [0, 1]},
        "training": {"epochs": 2, "learning_rate": 0.05, "batch_size": 2},
    }  # fmt: skip
    return build_study(value | changes, "written")


def finished(study):
    for _ in run_study(study):
        pass
    names = [run.name for group in plan_study(study) for run in group.runs]
    return [RunFolder(study.folder / name) for name in names]


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("family", ["mt5", "llama"])
def test_a_study_of_questions(questions, mt5_folder, llama_folder, tmp_path, family, beams):
    folder = {"mt5": mt5_folder, "llama": llama_folder}[family]
    head = {"kind": "generator", "beams": beams, "stride": 8}
    runs = finished(study_of(questions, folder, tmp_path / "runs", head=head))
    for run in runs:
        record, found = run.record(), run.predictions()
        assert (record["kind"], record["metric"]) == ("text", "answer_f1")
        own = found.filter(pl.col("baseline").is_null())
        assert len(own) == 12  # windows are joined
        assert own["truncated"].sum() == 0
        assert (own["prediction"] == own["answer"]).all()
        assert own["scores"].list.len().unique().to_list() == [1]
        assert set(found["baseline"].drop_nulls()) == {"without_parts"}
        assert set(run.scores()["metric"]) == {"answer_f1", "exact_match"}
        steps = [json.loads(line) for line in (run.path / "steps.jsonl").read_text().splitlines()]
        assert steps[-1]["dev_loss"] < steps[0]["dev_loss"]
        assert all(math.isfinite(step["loss"]) for step in steps[1:])


def test_what_is_written_is_what_generate_writes(questions, llama_folder, tmp_path):
    from transformers import AutoModelForCausalLM

    run, _ = finished(study_of(questions, llama_folder, tmp_path / "runs"))
    model = AutoModelForCausalLM.from_pretrained(llama_folder)
    table_, words = model.get_input_embeddings(), tiny_tokenizer()
    found = run.predictions().filter(baseline="without_parts")
    data = pl.read_parquet(questions[1] / "test.parquet")
    compared = 0
    for row, answer in zip(data.iter_rows(named=True), found.iter_rows(named=True), strict=True):
        text = f"question: {row['question']} context: {row['context']}"
        ids = words([text])["input_ids"][0]
        assert (ids[0], ids[-1]) == (0, 2)
        if len(ids) - 1 > 64:
            continue  # read in windows
        out = model.generate(
            inputs_embeds=table_(torch.tensor([ids[:-1]])), max_new_tokens=6, do_sample=False,
            eos_token_id=2, pad_token_id=1, attention_mask=torch.ones(1, len(ids) - 1),
        )[0].tolist()  # fmt: skip
        written = words.decode([i for i in out if i not in (1, 2)], skip_special_tokens=True)
        assert " ".join(written.split()) == answer["answer"]
        compared += 1
    assert compared == 10


def test_entities_are_written_by_a_model_that_writes(mt5_folder, tmp_path):
    folder = tmp_path / "ner"
    folder.mkdir()
    sentences = [("Ana", "met", "Bo"), ("x", "y"), ("Rio", "de", "Ana"), ("Ana",) * 40]
    tags = [("B-PER", "O", "B-PER"), ("O", "O"), ("B-LOC", "I-LOC", "B-PER"), ("B-PER",) * 40]
    rows = [
        {"id": str(i), "language": language, "tokens": s, "tags": t}
        for language in ("eng_Latn", "swh_Latn")
        for i, (s, t) in enumerate(zip(sentences, tags, strict=True))
    ]
    for split in ("train", "dev", "test"):
        chosen = [row for row in rows if split == "test" or row["language"] == "eng_Latn"]
        pl.DataFrame(chosen).write_parquet(folder / f"{split}.parquet")
    card = {
        "name": "ner", "title": "Names", "kind": "tagging", "metric": "entity_f1",
        "columns": {"id": "id", "label": "tags", "fields": {"text": "tokens"}},
        "labels": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"], "layout": "{task}{text}",
        "written": {"layout": "{task}tag: {text}", "max_pieces": 12},
    }  # fmt: skip
    path = tmp_path / "ner.yaml"
    path.write_text(yaml.safe_dump(card))
    study = study_of((path, folder), mt5_folder, tmp_path / "runs", head="generator", shots="all")
    run, _ = finished(study)
    own = run.predictions().filter(pl.col("baseline").is_null(), language="swh_Latn")
    *short, long = own["label"]
    assert short == ["PER: Ana$$PER: Bo", "", "LOC: Rio de$$PER: Ana"]
    assert long == "$$".join(["PER: Ana"] * 40)  # read in windows: nothing is cut off
    assert own["truncated"].to_list() == [0, 0, 0, 0]
    assert run.record()["metric"] == "span_f1"


def test_labels_are_written_and_what_is_none_counts_as_the_fallback(toy_study, mt5_folder):
    toy_study |= {
        "backbone": {"name": str(mt5_folder), "max_tokens": 64}, "layout": "{task:3}{text}",
        "head": {
            "kind": "generator", "max_pieces": 5, "fallback": "hill", "leading_space": False,
            "words": {"sea": "Sea", "hill": "hill", "town": "town"},
        },
    }  # fmt: skip
    run, _ = finished(build_study(toy_study, "toy"))
    found = run.predictions()
    own = found.filter(pl.col("baseline").is_null())
    unread = own.filter(pl.col("unread"))
    assert len(unread)
    assert set(unread["prediction"]) == {"hill"}
    majority = found.filter(baseline="majority")
    assert set(majority["prediction"]) <= {"sea", "hill", "town"}
    assert not majority["unread"].any()
    called("report", str(run.path.parent))
    told = (run.path.parent / "table.md").read_text()
    assert "of what it wrote is none of the labels' words" in told
    assert "it counts as 'hill'" in told
    assert set(run.scores()["metric"]) == {"accuracy", "macro_f1"}


def test_an_interrupted_run_goes_on_to_the_same_answers(
    questions, llama_folder, tmp_path, monkeypatch
):
    from polyprompt.experiments import checkpoint
    from polyprompt.prediction import written

    whole = finished(study_of(questions, llama_folder, tmp_path / "one"))
    engine = {"resume_seconds": 0}
    broken = study_of(questions, llama_folder, tmp_path / "two", engine=engine)
    monkeypatch.setattr(checkpoint, "_SHARE", 0)
    monkeypatch.setattr(written, "INPUTS_AT_ONCE", 3)
    for event in run_study(broken):
        if event.stage == "read" and event.done == 6:
            break
    else:
        pytest.fail("it was not broken off")
    notes = [event.note for event in run_study(broken)]
    again = finished(broken)
    assert any("reading goes on behind 6 of" in note for note in notes)
    for one, other in zip(whole, again, strict=True):
        assert one.predictions().drop("scores").equals(other.predictions().drop("scores"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"head": {"kind": "generator", "fallback": "yes"}},
            ["head.fallback", "'yes'", "no labels"],
        ),
        ({"head": "classifier"}, ["head.kind=classifier", "generator"]),
        ({"head": {"kind": "generator", "beams": 0}}, ["beams"]),
        ({"record": ["states"]}, ["record", "generator"]),
    ],
)
def test_what_does_not_go_with_written_answers_is_refused(
    questions, llama_folder, tmp_path, changes, words
):
    with pytest.raises(ConfigError) as fault:
        plan_study(study_of(questions, llama_folder, tmp_path / "runs", **changes))
    for word in words:
        assert word in str(fault.value)


def test_a_label_that_is_too_long_to_be_written_is_refused(toy_study, llama_folder):
    toy_study |= {
        "backbone": {"name": str(llama_folder), "max_tokens": 64},
        "head": {"kind": "generator", "max_pieces": 4},
    }
    with pytest.raises(ConfigError, match="'sea' for 'sea' is 4 pieces and an end"):
        finished(build_study(toy_study, "toy"))


def test_what_cannot_be_read_is_no_class_of_its_own():
    truth = ["yes", "no"] * 50
    predicted = ["yes", "no"] * 49 + ["yes", ""]
    expected = f1_score(truth, predicted, labels=["no", "yes"], average="macro")
    assert counts_of("macro_f1", table(truth, predicted)).value() == pytest.approx(expected)


def test_labels_that_would_be_read_alike_are_refused(toy_study, llama_folder):
    toy_study |= {"backbone": {"name": str(llama_folder), "max_tokens": 64}}
    for words, told in (
        ({"sea": "Yes", "hill": "yes."}, "same words"),
        ({"sea": "?"}, "no letter"),
    ):
        toy_study["head"] = {"kind": "generator", "words": words}
        with pytest.raises(ConfigError, match=told):
            plan_study(build_study(toy_study, "toy"))


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        ([{"text": "a b", "answer_start": 3}, {"text": "c", "answer_start": 4}], "a b\nc"),
        ([], ""),
        (None, None),
        ("", None),
        ([None], None),
        ("one  text", "one text"),
        ({"text": ["x"], "answer_start": [0]}, "x"),
        (3, DataError),
        ([3], DataError),
    ],
)
def test_answers_are_read_in_the_usual_forms(questions, cell, label):
    card = load_card(str(questions[0])).as_written()
    row = {
        "id": "1", "language": "eng_Latn", "question": "q", "context": "c", "answers": cell,
        "polyprompt_row": 0,
    }  # fmt: skip
    if label is DataError:
        with pytest.raises(DataError, match="row 1: cannot read the answers"):
            rows_module._asked(row, card, "eng_Latn", "row 1")
    else:
        assert rows_module._asked(row, card, "eng_Latn", "row 1").label == label


def test_letters_are_compared_however_they_are_encoded():
    assert best_f1("Cafe\u0301", "Caf\u00e9", "fra_Latn") == 1
    assert best_f1("\u200f\u0627\u0644", "\u0627\u0644", "arb_Arab") == 1
    assert span_f1(["LOC: \uff34okyo"], ["LOC: Tokyo"]).value() == 1


def test_an_encoder_writes_nothing(questions, tiny_folder, tmp_path):
    with pytest.raises(ConfigError, match="Take a decoder, or T5"):
        plan_study(study_of(questions, tiny_folder, tmp_path / "runs"))


def test_answers_that_are_not_published_are_told_from_texts_without_one(questions):
    card, folder = questions
    rows = pl.read_parquet(folder / "test.parquet").to_dicts()
    for row in rows:
        row["answers"]["text"] = [""] if row["language"] == "swh_Latn" else []
    pl.DataFrame(
        rows,
        schema_overrides={
            "answers": pl.Struct({"text": pl.List(pl.String), "answer_start": pl.List(pl.Int64)})
        },
    ).write_parquet(folder / "test.parquet")
    own = load_card(str(card)).as_written()
    data = read_task(own, str(folder), ["eng_Latn"], ["eng_Latn"])
    assert {one.label for one in data.splits["test"]} == {""}
    with pytest.raises(DataError, match="no answers in swh_Latn: they are empty texts"):
        read_task(own, str(folder), ["eng_Latn"], None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metric": "accuracy"}, "question_answering task is measured by answer_f1"),
        ({"labels": ["a", "b"]}, "a question_answering task has none"),
        ({"kind": "text"}, "say what the answers are"),
        ({"positive": "a"}, "positive: names the label"),
        ({"written": {"fallback": "x", "layouts": ""}}, "layouts"),
    ],
)
def test_a_card_that_does_not_fit_together_is_refused(questions, change, words):
    path, _ = questions
    value = yaml.safe_load(path.read_text()) | change
    path.write_text(yaml.safe_dump(value))
    with pytest.raises(ConfigError, match=words):
        load_card(str(path))


@pytest.mark.parametrize("head", ["verbalizer", "generator"])
def test_the_f1_of_a_label_stands_beside_always_giving_it(toy_study, llama_folder, head):
    path = Path(toy_study["task"])
    card = yaml.safe_load(path.read_text()) | {"metric": "f1", "positive": "hill"}
    path.write_text(yaml.safe_dump(card))
    long = {"sea": "sea", "hill": "hill", "town": "town"}
    words = long if head == "generator" else {label: word[0] for label, word in long.items()}
    own = {"kind": head, "words": words, "leading_space": False}
    toy_study |= {"backbone": {"name": str(llama_folder), "max_tokens": 64}, "head": own}
    run, _ = finished(build_study(toy_study, "toy"))
    found = run.predictions().filter(baseline="positive")
    assert set(found["prediction"]) == {"hill"}
    scores = run.scores().filter(pl.col("baseline").is_null(), language="eng_Latn")
    assert scores["metric"].to_list() == ["f1:hill", "accuracy", "macro_f1"]
    called("report", str(run.path.parent))
    told = (run.path.parent / "table.md").read_text()
    assert "F1 of 'hill' per language" in told
    assert "Above always giving the measured label" in told
    assert "always positive" in told


def test_a_search_shows_what_written_answers_are_measured_by(questions, llama_folder, tmp_path):
    search = {"seeds": [100], "grid": {"training.learning_rate": [0.01, 0.1]}}
    study = study_of(questions, llama_folder, tmp_path / "runs", search=search, name="one")
    for _ in run_study(study):
        pass
    (table,) = [search_table(choices(study))]
    assert table.columns[2] == "F1 of answers"
    assert [row[4] for row in table.rows] == ["–", "–"]
    best = max(table.rows, key=lambda row: float(row[2]))
    assert best[5] == "chosen"


@pytest.mark.parametrize("part", ["soft_prompt", "bottleneck_adapter", "lora"])
@pytest.mark.parametrize("baselines", [False, True])
def test_a_dry_run_counts_what_is_written(questions, llama_folder, tmp_path, baselines, part):
    head = {"kind": "generator", "stride": 8}
    given_ = {"head": head, "baselines": baselines, "training": {"epochs": 1, "max_steps": 1}}
    given_ |= {"parts": {"task": {"kind": part, "length": 3}}} if part == "soft_prompt" else {
        "parts": {"task": {"kind": part}}, "layout": "{question} {context}",
    }  # fmt: skip
    study = study_of(questions, llama_folder, tmp_path / "runs", **given_)
    counted = [one for one in estimate_study(study) if isinstance(one, Estimate)]
    finished(study)
    works = {f.record()["group"]: f.record()["group_work"] for f in study_folders(study)}
    done = {
        stage: sum(work[stage]["tokens"] for work in works.values() if stage in work)
        for stage in ("train", "read", "baselines")
    }
    tokens = sum(one.train_tokens + one.read_tokens for one in counted)
    assert tokens == pytest.approx(sum(done.values()), rel=0.1)


def test_a_fit_refuses_a_head_that_writes():
    with pytest.raises(ConfigError, match="a fit scores labels, and this head writes answers"):
        fit_settings(backbone="pypi:smollm2-135m", head="generator")


def test_a_table_of_no_baselines_is_left_out(toy_study, llama_folder):
    toy_study |= {
        "backbone": {"name": str(llama_folder), "max_tokens": 64}, "layout": "{text}",
        "parts": {"task": {"kind": "lora"}},
        "head": "classifier",
        "baselines": False,
    }  # fmt: skip
    run, *_ = finished(build_study(toy_study, "toy"))
    called("report", str(run.path.parent))
    told = (run.path.parent / "table.md").read_text()
    assert "Mean over languages, by script" in told
    assert "Prompt minus baseline" not in told


def test_shipped_cards_ask_as_paper_c_does():
    nli = load_card("xnli").as_written()
    assert nli.form == "labels"
    assert nli.layout.endswith("Yes, no, or maybe?")
    assert (nli.written.fallback, nli.written.max_pieces) == ("neutral", 3)
    ner = load_card("panx").as_written()
    assert (ner.form, ner.metric, ner.answer_labels) == ("entities", "span_f1", ())
    claims = load_card("checkworthy")
    assert claims.measured_by == "f1:checkworthy"
    for name in ("tydiqa", "xquad"):
        card = load_card(name).as_written()
        assert (card.form, card.metric, card.written.max_pieces) == ("answers", "answer_f1", 30)
    with pytest.raises(ConfigError, match="are not written"):
        load_card("belebele").as_written()
