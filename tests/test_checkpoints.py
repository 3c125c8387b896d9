"""Training that was left and taken up again ends where training at one go ends, bit for bit."""

from itertools import islice

import pytest
import torch
from safetensors.torch import load, save

from polyprompt.capabilities import TrainingSettings
from polyprompt.data.corruption import CorruptedInputs, Corruption
from polyprompt.data.encoding import Encoder
from polyprompt.data.pieces import vocabulary_of
from polyprompt.engine.cached import CachedEngine
from polyprompt.engine.direct import DirectEngine
from polyprompt.families import Attention
from polyprompt.head_settings import LanguageModelSettings
from polyprompt.heads.language_model import LanguageModelHead
from polyprompt.models.tiny import tiny_backbone
from polyprompt.records import Example
from polyprompt.seeds import generator
from polyprompt.tasks.layout import parse_layout
from polyprompt.training.checkpoints import resume, state_of
from polyprompt.training.loop import Training
from polyprompt.training.member import Member, word_tensor
from polyprompt.tuning.reparameterisers import build_network
from polyprompt.tuning.soft_prompt import SoftPrompt
from test_adapters import put
from test_causal import TEXTS
from test_training import member
from test_weight_parts import decoder_member


def three_runs():
    """Runs of unlike length, rate, batch and choice of state, one with a network."""
    backbone = tiny_backbone("bert", Attention.ONE_WAY)
    members = [
        member(backbone, seed=0),
        member(backbone, seed=1, length=5, epochs=3, batch_size=2, select="last"),
        member(backbone, seed=2, n=5, learning_rate=0.5, schedule="linear"),
    ]
    network = build_network("mlp", 32, 8, generator(0, "network"))
    weight = members[2].parts["task"].weight
    members[2].parts["task"] = SoftPrompt(weight, network=network, kind="mlp")
    return CachedEngine(backbone), members


def of_decoder(kind, part):
    """Four epochs of three steps; the state with the least dev loss is kept."""
    backbone, one = decoder_member(kind, part, "vocabulary", None)
    one.settings = TrainingSettings(learning_rate=1e-3, epochs=4, batch_size=2)
    one.dev, one.dev_labels = one.train[:3], one.train_labels[:3]
    return DirectEngine(backbone), [one]


def all_weights():
    """A prompt and a decoder's weights."""
    return of_decoder("llama", "full")


def additions():
    """A prompt and low-rank additions."""
    return of_decoder("bloom", "lora")


def by_adafactor():
    """Two prompts, moved by Adafactor."""
    engine, members = three_runs()
    for one in members[:2]:
        one.settings = one.settings.model_copy(update={"optimiser": "adafactor"})
    return engine, members[:2]


def of_a_language():
    """An adapter that learns a language: what is hidden of a text depends on the epoch."""
    backbone = tiny_backbone("xlm-roberta-masked", Attention.FULL)
    settings = LanguageModelSettings(kind="language_model", objective="masked_words")
    corruption = Corruption(settings, vocabulary_of(backbone.tokenizer))
    layout = parse_layout("{text}", ["text"])
    encoder = Encoder(backbone.tokenizer, layout, "", 64, corruption=corruption)
    examples = [Example(text, "", {"text": text}) for text in TEXTS[:6]]
    train = CorruptedInputs(encoder.whole(examples), corruption, 0, TEXTS[:6])
    dev, nothing = encoder.encode(examples[:3]), torch.zeros(0, 0).long()
    one = Member(
        {"language": put(backbone)}, LanguageModelHead(backbone), train, nothing, dev,
        word_tensor(dev), TrainingSettings(learning_rate=1e-3, epochs=4, batch_size=2), 0, 32,
    )  # fmt: skip
    return DirectEngine(backbone), [one]


def test_texts_are_hidden_anew_in_every_epoch_of_training():
    _, (one,) = of_a_language()
    hidden = []
    for one.step in (0, 2, 3, 6):
        hidden.append([words.reads.tolist() for words in one.examples([0, 1, 2])])
    assert hidden[0] == hidden[1]
    assert hidden[1] != hidden[2] != hidden[3]


def through_a_file(tensors):
    return load(save({name: value.detach().contiguous() for name, value in tensors.items()}))


def ends(training):
    """Everything a run leaves: its parts, as they are saved."""
    return [
        {f"{slot}/{name}": t.detach().clone() for slot, p in m.parts.items() for name, t in p.tensors().items()}
        for m in training.members
    ]  # fmt: skip


def assert_equal(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert set(one) == set(other)
        assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("build", [three_runs, all_weights, additions, by_adafactor, of_a_language])
@pytest.mark.parametrize("after", [1, 4, 7])
def test_left_and_taken_up_again_is_as_at_one_go(build, after):
    whole = Training(*build())
    expected = list(whole.run())
    assert len(expected) > after + 1
    broken = Training(*build())
    begun = list(islice(broken.run(), after))
    tensors, values = state_of(broken)
    kept = through_a_file(tensors)
    torch.rand(3)  # somebody draws in between
    again = Training(*build())
    resume(again, kept, values)
    left = list(again.run())
    assert begun + left == expected
    assert_equal(ends(again), ends(whole))


@pytest.mark.parametrize("build", [three_runs, all_weights])
def test_an_ended_training_is_its_parts(build):
    whole = Training(*build())
    list(whole.run())
    tensors, values = state_of(whole)
    assert all(name.startswith("parts/") for name in tensors)
    kept = through_a_file(tensors)
    again = Training(*build())
    resume(again, kept, values)
    assert list(again.run()) == []
    assert_equal(ends(again), ends(whole))


def test_generators_and_allowances_go_on():
    engine, members = three_runs()
    first = Training(engine, members)
    next(first.run())
    engine.allowance.rows, engine.allowance.tokens = 2, 77
    tensors, values = state_of(first)
    kept = through_a_file(tensors)
    drawn = torch.rand(2)
    engine, members = three_runs()
    again = Training(engine, members)
    resume(again, kept, values)
    assert torch.equal(torch.rand(2), drawn)
    assert (engine.allowance.rows, engine.allowance.tokens) == (2, 77)


def test_other_runs_are_not_taken_up():
    tensors, values = state_of(Training(*all_weights()))
    with pytest.raises((KeyError, RuntimeError, ValueError)):
        resume(Training(*three_runs()), through_a_file(tensors), values)
