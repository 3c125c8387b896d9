"""The verbalizer against transformers' own loss and log-probabilities, and what it refuses."""

import numpy as np
import pytest
import torch

from polyprompt.data.encoding import Encoder
from polyprompt.engine.cached import CachedEngine
from polyprompt.engine.direct import DirectEngine
from polyprompt.engine.engine import Prompts
from polyprompt.errors import ConfigError
from polyprompt.head_settings import VerbalizerSettings
from polyprompt.heads.verbalizer import VerbalizerHead, label_pieces
from polyprompt.models.tiny import tiny_backbone
from polyprompt.records import Example
from polyprompt.tasks.layout import parse_layout

LABELS = ("sea", "hill", "town")
SINGLE = {"sea": "s", "hill": "h", "town": "t"}
SEVERAL = {"sea": "sea", "hill": "h", "town": "to"}
TEXTS = ("a wave", "rocks and rocks", "x", "the bus is late")
KINDS = ("bloom", "xglm", "gemma3_text")


def head_of(backbone, words, **options):
    settings = VerbalizerSettings(words=words, **({"leading_space": False} | options))
    return VerbalizerHead(backbone, label_pieces(backbone, words, LABELS, settings), settings)


def inputs_and_prompt(backbone):
    layout = parse_layout("{text} is{task:3}", ["text"], {"task": None})
    encoder = Encoder(backbone.tokenizer, layout, "", 64, ends=False)
    inputs = encoder.encode([Example(t, "", {"text": t}) for t in TEXTS])
    generator = torch.Generator().manual_seed(3)
    vectors = (0.3 * torch.randn(3, backbone.facts.width, generator=generator)).requires_grad_()
    return encoder, inputs, Prompts((vectors,), ((3,),))


def embedded(backbone, encoded, prompts, words):
    """The whole input as transformers embeds it, with a word's pieces behind."""
    table = backbone.model.get_input_embeddings()
    parts = [
        table(torch.from_numpy(encoded.hard[0])),
        prompts.vectors[0] * backbone._scale,
        table(torch.tensor(list(words), dtype=torch.long)),
    ]
    return torch.cat(parts)[None]


def word_log_probability(backbone, encoded, prompts, pieces):
    """Sum of a word's log-probabilities by transformers over the whole sequence."""
    x = embedded(backbone, encoded, prompts, pieces)
    log_p = backbone.model(inputs_embeds=x, use_cache=False).logits[0].log_softmax(-1)
    start = x.shape[1] - len(pieces)
    return sum(log_p[start - 1 + i, piece] for i, piece in enumerate(pieces))


@pytest.mark.parametrize("engine_class", [CachedEngine, DirectEngine])
@pytest.mark.parametrize("kind", KINDS)
def test_words_of_one_piece_are_scored_by_their_logits(kind, engine_class):
    backbone = tiny_backbone(kind)
    _, inputs, prompts = inputs_and_prompt(backbone)
    head = head_of(backbone, SINGLE)
    assert head.branches == ()
    scores = head.scores(engine_class(backbone).every(inputs, prompts))
    ids = [word[0] for word in head.words.pieces]
    for row, one in zip(scores, inputs, strict=True):
        logits = backbone.model(inputs_embeds=embedded(backbone, one, prompts, [])).logits[0, -1]
        torch.testing.assert_close(row, logits[ids], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_over_the_vocabulary_is_transformers_own(kind):
    backbone = tiny_backbone(kind)
    _, inputs, prompts = inputs_and_prompt(backbone)
    labels = torch.tensor([0, 1, 2, 2])
    head = head_of(backbone, SINGLE, loss="vocabulary")
    ours = head.loss(CachedEngine(backbone).every(inputs, prompts), labels)
    theirs = []
    for one, label in zip(inputs, labels.tolist(), strict=True):
        (word,) = head.words.pieces[label]
        x = embedded(backbone, one, prompts, [word])
        marks = torch.full((1, x.shape[1]), -100)
        marks[0, -1] = word
        theirs.append(backbone.model(inputs_embeds=x, labels=marks, use_cache=False).loss)
    mean = torch.stack(theirs).mean()
    torch.testing.assert_close(ours, mean, atol=1e-4, rtol=1e-4)
    a, b = (torch.autograd.grad(value, prompts.vectors[0])[0] for value in (ours, mean))
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_the_loss_over_the_labels_is_their_cross_entropy():
    backbone = tiny_backbone("llama")
    _, inputs, prompts = inputs_and_prompt(backbone)
    states = CachedEngine(backbone).every(inputs, prompts)
    head, labels = head_of(backbone, SINGLE), torch.tensor([0, 1, 2, 2])
    expected = -head.scores(states).log_softmax(1)[torch.arange(4), labels].mean()
    torch.testing.assert_close(head.loss(states, labels), expected)


@pytest.mark.parametrize("engine_class", [CachedEngine, DirectEngine])
@pytest.mark.parametrize("how", ["sum", "mean"])
@pytest.mark.parametrize("kind", KINDS)
def test_words_of_several_pieces_are_scored_by_their_whole_log_probability(kind, how, engine_class):
    backbone = tiny_backbone(kind)
    _, inputs, prompts = inputs_and_prompt(backbone)
    head = head_of(backbone, SEVERAL, several_pieces=how)
    assert [len(word) for word in head.words.pieces] == [3, 1, 2]
    scores = head.scores(engine_class(backbone, branches=head.branches).every(inputs, prompts))
    expected = torch.stack(
        [
            torch.stack(
                [
                    word_log_probability(backbone, one, prompts, word)
                    / (len(word) if how == "mean" else 1)
                    for word in head.words.pieces
                ]
            )
            for one in inputs
        ]
    )
    torch.testing.assert_close(scores, expected, atol=2e-4, rtol=1e-4)
    loss = head_of(backbone, SEVERAL, several_pieces="sum", loss="vocabulary").loss(
        CachedEngine(backbone, branches=head.branches).every(inputs, prompts), torch.tensor([0] * 4)
    )
    if how == "sum":
        torch.testing.assert_close(loss, -expected[:, 0].mean(), atol=2e-4, rtol=1e-4)


def test_pmi_subtracts_the_score_without_the_text():
    backbone = tiny_backbone("bloom")
    encoder, inputs, prompts = inputs_and_prompt(backbone)
    engine = CachedEngine(backbone)
    head = head_of(backbone, SINGLE, calibration="pmi")
    plain = head.scores(engine.every(inputs, prompts))
    (empty,) = encoder.encode([Example("", "", {"text": ""})])
    without = head.scores(engine.every([empty], prompts))
    calibrated = head.calibrated(engine.every([empty], prompts)).scores(
        engine.every(inputs, prompts)
    )
    torch.testing.assert_close(calibrated, plain - without)
    expected = torch.stack(
        [word_log_probability(backbone, empty, prompts, w) for w in head.words.pieces]
    )
    difference = without[0] - expected
    torch.testing.assert_close(difference, difference[:1].expand(3), atol=2e-4, rtol=0)


def test_contextual_calibration_makes_inputs_without_content_undecided():
    backbone = tiny_backbone("llama")
    encoder, _, prompts = inputs_and_prompt(backbone)
    engine = CachedEngine(backbone)
    neutral = engine.every(
        encoder.encode([Example("", "", {"text": t}) for t in ("N/A", "[MASK]", "")]), prompts
    )
    head = head_of(backbone, SINGLE, calibration="contextual")
    before = head.scores(neutral).softmax(1).mean(0)
    after = head.calibrated(neutral)
    assert after.prior is not None
    torch.testing.assert_close(after.prior.exp(), before)
    assert head_of(backbone, SINGLE).calibrated(neutral).prior is None


def test_a_word_of_several_pieces_is_refused_with_its_pieces():
    backbone = tiny_backbone("llama")
    with pytest.raises(ConfigError) as caught:
        head_of(backbone, SEVERAL)
    message = str(caught.value)
    assert "the word 'sea' for 'sea' is 3 pieces, 's' + 'e' + 'a'" in message
    assert "'to' for 'town' is 2 pieces" in message
    assert "'h'" not in message
    assert "head.several_pieces=mean" in message


def test_a_leading_space_is_a_piece_of_its_own_where_the_tokenizer_says_so():
    backbone = tiny_backbone("llama")
    with pytest.raises(ConfigError, match=r"the word ' s' for 'sea' is 2 pieces, ' ' \+ 's'"):
        head_of(backbone, SINGLE, leading_space=True)


def test_two_labels_with_one_word_are_refused():
    backbone = tiny_backbone("llama")
    with pytest.raises(ConfigError, match="'sea' and 'hill' have the same pieces, 's'"):
        head_of(backbone, {"sea": "s", "hill": "s", "town": "t"})


def test_a_word_without_pieces_is_refused_whatever_is_allowed():
    backbone = tiny_backbone("llama")
    with pytest.raises(ConfigError, match="is 0 pieces"):
        head_of(backbone, {"sea": " ", "hill": "h", "town": "t"}, several_pieces="mean")


@pytest.mark.parametrize("word", ["é", ""])
def test_a_word_outside_the_vocabulary_or_without_letters_is_refused(word):
    backbone = tiny_backbone("llama")
    words = "not in the vocabulary, .*'<unk>'" if word else "is 0 pieces"
    for space in (True, False):
        with pytest.raises(ConfigError, match=words):
            head_of(
                backbone, {"sea": word, "hill": "h", "town": "t"}, leading_space=space,
                several_pieces="sum",
            )  # fmt: skip


def test_a_tokenizers_own_blank_is_no_piece_of_a_word():
    """Tokenizers that put a blank in front of every text (Llama 2) would give it twice."""
    from tokenizers import normalizers

    backbone = tiny_backbone("llama")
    backbone.tokenizer.backend_tokenizer.normalizer = normalizers.Prepend(" ")
    assert [len(word) for word in head_of(backbone, SINGLE, leading_space=True,
                                          several_pieces="sum").words.pieces] == [2, 2, 2]  # fmt: skip


def test_tensors_give_the_words_back():
    backbone = tiny_backbone("llama")
    from polyprompt.experiments.heads import saved_head

    head = head_of(backbone, SEVERAL, several_pieces="mean")
    again = saved_head(head.settings, head.tensors(), backbone)
    assert again.branches == head.branches
    assert again.words == head.words


def test_bfloat16_scores_of_label_words_are_told_apart():
    """Two rows of the head that differ by less than bfloat16 can hold in a logit of 30."""
    backbone = tiny_backbone("llama")
    backbone.model.to(torch.bfloat16)
    weight = backbone._head.weight
    weight.data[5] = 1.0
    weight.data[6] = 1.0
    weight.data[6, 0] = 1.0078125
    hidden = torch.ones(1, 32, dtype=torch.bfloat16)
    a, b = backbone.unembed(hidden, [5, 6])[0].tolist()
    assert b - a == pytest.approx(0.0078125)
    assert np.float32(a) == 32.0
