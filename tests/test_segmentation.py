"""Finer pieces than the tokenizer's own: same characters, pieces of the vocabulary, right shares."""

from collections import Counter

import numpy as np
import pytest
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from polyprompt.capabilities import SegmentationSettings
from polyprompt.data.encoded import Reading
from polyprompt.data.encoding import Encoder
from polyprompt.data.segmentation import sample, segmentation_of, split
from polyprompt.errors import ConfigError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.plan import plan_study, run_names
from polyprompt.experiments.store import RunFolder
from polyprompt.experiments.study import run_study
from polyprompt.models.tiny import tiny_tokenizer
from polyprompt.records import Example
from polyprompt.tasks.layout import parse_layout

PIECES = {"<unk>": 0, "▁": -3, "▁the": -1, "▁t": -4, "he": -3, "h": -5, "e": -5, "t": -5, "▁cat": -2, "c": -5, "a": -5, "at": -3, "▁c": -4}  # fmt: skip


@pytest.fixture(scope="module")
def unigram():
    raw = RawTokenizer(models.Unigram([(k, float(v)) for k, v in PIECES.items()], unk_id=0))
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>")


def encoded(tokenizer, text, settings, language="eng_Latn", piece=None, words=()):
    cut = segmentation_of(settings, tokenizer)
    layout, reading = parse_layout("the {text}", ["text"]), Reading(piece=piece)
    encoder = Encoder(tokenizer, layout, "", 64, reading=reading, segmentation=cut)
    (one,) = encoder.encode([Example("1", language, {"text": text}, words=words)])
    return one


def ways(word, start=0):
    """Every way of cutting a word into pieces."""
    if start == len(word):
        return [()]
    return [
        (word[start:end], *rest)
        for end in range(start + 1, len(word) + 1)
        if word[start:end] in PIECES
        for rest in ways(word, end)
    ]


@pytest.mark.parametrize("power", [0.0, 0.3, 1.0])
def test_drawn_pieces_have_the_probabilities_of_the_unigram_model(power):
    scores = {k: float(v) for k, v in PIECES.items() if k != "<unk>"}
    word, rng = "▁the", np.random.default_rng(0)
    draws = Counter(tuple(sample(word, scores, power, rng, 4)) for _ in range(4000))
    exact = {way: np.exp(power * sum(scores[p] for p in way)) for way in ways(word)}
    whole = sum(exact.values())
    assert set(draws) <= set(exact)
    assert len(exact) > 4
    for way, weight in exact.items():
        share = weight / whole
        assert abs(draws[way] / 4000 - share) < 4 * np.sqrt(share * (1 - share) / 4000) + 1e-9
    assert sample("▁xyz", scores, 1.0, rng, 4) == []


def test_splitting_keeps_characters_and_the_vocabulary():
    vocabulary = set(PIECES)
    rng = np.random.default_rng(1)
    assert split("▁the", vocabulary, 0.0, rng) == ["▁the"]
    for _ in range(50):
        parts = split("▁cat", vocabulary, 1.0, rng)
        assert "".join(parts) == "▁cat"
        assert set(parts) <= vocabulary
        assert len(parts) >= 3  # "▁c" and "at" at the most
    assert split("unknown", vocabulary, 1.0, rng) == ["unknown"]


@pytest.mark.parametrize("kind", ["split", "sampled"])
def test_texts_are_cut_more_finely_fixed_words_are_not_and_the_same_each_time(unigram, kind):
    plain = encoded(unigram, "the cat", SegmentationSettings(kind="split", rate=0.0))
    settings = SegmentationSettings(kind=kind, rate=0.9 if kind == "split" else 0.1)
    finer = encoded(unigram, "the cat the cat", settings)
    again = encoded(unigram, "the cat the cat", settings)
    ids = finer.hard[0]
    np.testing.assert_array_equal(ids, again.hard[0])
    assert unigram.convert_ids_to_tokens(int(ids[0])) == "▁the"  # the layout's own word
    assert unigram.decode(ids) == "the the cat the cat"
    assert plain.pieces == 2
    assert finer.pieces > 6
    assert finer.own[0].sum() == finer.pieces


def test_other_languages_stay_as_they_are(unigram):
    settings = SegmentationSettings(kind="split", rate=1.0, languages=("eng_Latn",))
    assert encoded(unigram, "the cat", settings, "deu_Latn").pieces == 2
    assert encoded(unigram, "the cat", settings, "eng_Latn").pieces > 2


@pytest.mark.parametrize("piece", ["first", "last"])
def test_words_are_read_at_pieces_of_their_own_when_cut(unigram, piece):
    settings = SegmentationSettings(kind="split", rate=1.0)
    words = ("the", "cat", "the")
    one = encoded(unigram, " ".join(words), settings, piece=piece, words=words)
    read = [unigram.convert_ids_to_tokens(int(one.hard[0][at])) for at in one.reads]
    assert len(set(one.reads.tolist())) == 3
    for word, token in zip(words, read, strict=True):
        assert token.strip("▁") in word
        assert word.startswith(token.strip("▁")) if piece == "first" else word.endswith(token)


def test_a_tokenizer_without_probabilities_is_not_drawn_from():
    with pytest.raises(ConfigError, match="of the kind WordLevel.*Set segmentation.kind=split"):
        segmentation_of(SegmentationSettings(kind="sampled"), tiny_tokenizer())


def test_a_study_with_segmentation_has_a_name_of_its_own(toy_study):
    plain = build_study(toy_study, "toy")
    cut = build_study(toy_study | {"segmentation": {"kind": "split", "rate": 0.5}}, "toy")
    assert not set(run_names(plain)) & set(run_names(cut))
    (group,) = plan_study(cut)
    for _ in run_study(cut):
        pass
    assert RunFolder(cut.folder / group.runs[0].name).is_complete()
