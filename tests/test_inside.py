"""Looking inside: transformers' own states and attention of one unpadded sentence at a time."""

import numpy as np
import pytest
import torch

from polyprompt.data.encoding import Encoder
from polyprompt.engine.cached import CachedEngine
from polyprompt.engine.direct import DirectEngine
from polyprompt.engine.engine import Prompts
from polyprompt.engine.inside import look_inside
from polyprompt.errors import BackboneError
from polyprompt.families import Attention
from polyprompt.models.tiny import DECODERS, tiny_backbone
from polyprompt.records import KINDS, READERS, Example
from polyprompt.tasks.layout import parse_layout

TEXTS = ("hello world", "x", "the cat sat on the mat", "one two three four")


def setting(kind, layout="A {text}{task:4}", attention=None):
    backbone = tiny_backbone(kind, attention)
    parsed = parse_layout(layout, ["text"], {"task": None} if "task" in layout else {})
    encoder = Encoder(backbone.tokenizer, parsed, "", 64, ends=kind not in DECODERS)
    encoded = encoder.encode([Example(t, "", {"text": t}) for t in TEXTS])
    lengths = tuple(slot.length for slot in parsed.slots)
    generator = torch.Generator().manual_seed(3)
    vectors = 0.3 * torch.randn(sum(lengths), backbone.facts.width, generator=generator)
    return backbone, encoded, vectors, lengths


def alone(backbone, encoded, vectors):
    """One unpadded sentence by transformers, eager, without any mask of ours."""
    model = backbone.model
    body = model.get_decoder() if hasattr(model, "lm_head") else model
    table = model.get_input_embeddings()
    scale = table(torch.tensor([5])).norm() / table.weight[5].norm()
    x = torch.cat(
        [table(torch.from_numpy(encoded.hard[0])), vectors * scale]
        + [table(torch.from_numpy(run)) for run in encoded.hard[1:]]
    )[None]
    model.set_attn_implementation("eager")
    with torch.no_grad():
        return body(inputs_embeds=x, output_hidden_states=True, output_attentions=True)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", *(k for k in DECODERS if k != "opt")])
def test_states_and_attention_are_transformers_own(kind):
    attention = None if kind in DECODERS else Attention.FULL
    backbone, inputs, vectors, lengths = setting(kind, attention=attention)
    looked = look_inside(DirectEngine(backbone), inputs, vectors, lengths)
    for row, encoded in enumerate(inputs):
        out = alone(backbone, encoded, vectors)
        first, end = len(encoded.hard[0]), encoded.tokens + len(vectors)
        words = np.flatnonzero(encoded.own[0])
        soft = np.arange(first, first + len(vectors))
        fixed = np.setdiff1d(np.arange(end), [*words, *soft])
        read = np.array([end - 1]) if kind in DECODERS else np.arange(end)
        for layer, states in enumerate(out.hidden_states):
            for ours, which in ((looked.text, words), (looked.answer, read)):
                theirs = states[0, which].mean(0).numpy()
                assert np.allclose(ours[row, layer], theirs, rtol=1e-4, atol=1e-4)
        for layer, weights in enumerate(out.attentions):
            for q, queries in enumerate((words, soft, read)):
                for k, keys in enumerate((words, soft, fixed)):
                    theirs = weights[0][:, queries][:, :, keys].sum(2).mean(1).numpy()
                    ours = looked.attention[row, layer, :, q, k]
                    assert np.allclose(ours, theirs, atol=2e-5), (layer, READERS[q], KINDS[k])


@pytest.mark.parametrize("kind", ["bert", "bloom", "gemma3_text"])
def test_the_state_that_is_read_is_the_engines(kind):
    backbone, inputs, vectors, lengths = setting(kind, "{text}{task:4}")
    looked = look_inside(CachedEngine(backbone), inputs, vectors, lengths)
    with torch.no_grad():
        states = DirectEngine(backbone).every(inputs, Prompts((vectors,), (lengths,)))
    theirs = states.vectors(backbone.facts.pooling).numpy()
    assert np.allclose(looked.answer[:, -1], theirs, rtol=1e-4, atol=1e-4)
    assert np.allclose(looked.attention.sum(-1), 1, atol=1e-4)


def test_states_of_several_widths_are_refused():
    backbone, inputs, vectors, lengths = setting("opt", "{text}{task:4}")
    with pytest.raises(BackboneError, match="2 widths.*Take states and attention out of record"):
        look_inside(DirectEngine(backbone), inputs, vectors, lengths)


def test_words_do_not_see_the_prompt_under_one_way_attention():
    backbone, inputs, vectors, lengths = setting("xlm-roberta", "{task:4}{text}")
    looked = look_inside(DirectEngine(backbone), inputs, vectors, lengths)
    text, prompt = READERS.index("text"), READERS.index("prompt")
    assert looked.attention[..., text, KINDS.index("prompt")].max() == 0
    assert looked.attention[..., prompt, KINDS.index("text")].min() > 0


def test_without_a_prompt_nothing_is_said_of_it():
    backbone, inputs, vectors, lengths = setting("llama", "{text}")
    looked = look_inside(DirectEngine(backbone), inputs, vectors, lengths)
    assert np.isnan(looked.attention[:, :, :, READERS.index("prompt")]).all()
    assert np.isfinite(looked.attention[:, :, :, READERS.index("text")]).all()
