"""Answers that are written: piece by piece what transformers' own generate writes."""

import numpy as np
import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

from polyprompt.data.encoded import Sourced
from polyprompt.data.encoding import Encoder
from polyprompt.engine import writing as engine_writing
from polyprompt.engine.cached import CachedEngine
from polyprompt.engine.direct import DirectEngine
from polyprompt.engine.engine import Deep, Prompts
from polyprompt.engine.memory import Allowance
from polyprompt.models.tiny import DECODERS, SEQ2SEQ, tiny_backbone
from polyprompt.records import Example, Writing
from polyprompt.seeds import generator
from polyprompt.tasks.layout import parse_layout
from polyprompt.training.member import joined_deep
from polyprompt.tuning.adapter import Bottleneck, OfLanguages
from polyprompt.tuning.deep_prompt import DeepPrompt, LayerShape
from test_adapters import of_kind, put
from test_causal import TEXTS, embedded
from test_causal import setting as decoder_setting
from test_seq2seq import setting as seq2seq_setting

ENDS = (7, 21)
"""Words that end an answer here, so that some answers of random models do end."""


def write(*given):
    """Write answers; their pieces alone."""
    return [one.pieces for one in engine_writing.write(*given)]


def options(writing):
    return {
        "max_new_tokens": writing.most, "num_beams": writing.beams, "do_sample": False,
        "length_penalty": writing.length_penalty, "early_stopping": False,
        "eos_token_id": list(writing.ends), "pad_token_id": 1, "bos_token_id": 0,
        "use_cache": True, "repetition_penalty": 1.0,
    }  # fmt: skip


def without_end(pieces, ends):
    """Cut what was written at the first word that ends it."""
    found = []
    for piece in pieces:
        if piece in ends:
            break
        found.append(piece)
    return tuple(found)


def by_decoder(backbone, encoded, vectors, lengths, writing):
    x = embedded(backbone, encoded, vectors, lengths)
    mask = torch.ones(x.shape[:2], dtype=torch.long)
    out = backbone.model.generate(inputs_embeds=x, attention_mask=mask, **options(writing))
    return without_end(out[0].tolist(), writing.ends)


def by_t5(backbone, encoded, vectors, writing):
    model = backbone.model
    table = model.get_input_embeddings()
    read = torch.cat([vectors, table(torch.from_numpy(encoded.hard[1]))])[None]
    states = model.encoder(inputs_embeds=read).last_hidden_state
    out = model.generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=states),
        attention_mask=torch.ones(read.shape[:2], dtype=torch.long),
        decoder_start_token_id=1, **options(writing),
    )  # fmt: skip
    return without_end(out[0].tolist()[1:], writing.ends)


def writings(ends):
    return [
        Writing(9, ends), Writing(9, ends, beams=3), Writing(6, (ends[0],), 4, 0.0),
        Writing(7, ends, 2, 2.0), Writing(1, ends, 3),
    ]  # fmt: skip


WRITINGS = writings(ENDS)


@pytest.mark.filterwarnings("ignore:.*generation flags:UserWarning")
@pytest.mark.parametrize("layout", ["after", "before"])
@pytest.mark.parametrize("kind", DECODERS)
@torch.no_grad()
def test_a_decoder_writes_what_generate_writes_piece_by_piece(kind, layout):
    backbone, inputs, prompts = decoder_setting(kind, layout, 1, 6)
    engines = [DirectEngine(backbone)]
    engines += [CachedEngine(backbone)] if layout == "after" else []
    free = [write(engines[0], [one], prompts, Writing(9, ())) for one in inputs]
    ends, ended = (free[0][0][2], free[3][0][1]), 0
    for writing in writings(ends):
        expected = [
            by_decoder(backbone, one, prompts.vectors[0], prompts.lengths[0], writing)
            for one in inputs
        ]
        ended += sum(len(one) < writing.most for one in expected)
        for engine in engines:
            assert write(engine, inputs, prompts, writing) == expected
    assert ended


@pytest.mark.filterwarnings("ignore:.*generation flags:UserWarning")
@pytest.mark.parametrize("kind", SEQ2SEQ)
@torch.no_grad()
def test_t5_writes_what_generate_writes_piece_by_piece(kind):
    backbone, inputs, prompts = seq2seq_setting(kind, "in front", 1, 6)
    for writing in WRITINGS:
        expected = [by_t5(backbone, one, prompts.vectors[0], writing) for one in inputs]
        assert write(DirectEngine(backbone), inputs, prompts, writing) == expected


@torch.no_grad()
def test_behind_a_prompt_in_the_decoder_t5_writes_what_it_guesses_word_by_word():
    """generate takes no prompt there; each word is guessed from a pass over all before it."""
    backbone, inputs, prompts = seq2seq_setting("mt5", "decoder", 1, 4)
    writing = Writing(6, ENDS)
    table = backbone.model.get_input_embeddings()
    for engine in (DirectEngine(backbone), CachedEngine(backbone)):
        found = write(engine, inputs, prompts, writing)
        for answer, one in zip(found, inputs, strict=True):
            behind = [torch.cat([prompts.vectors[0], table(torch.tensor([1]))])]
            words = []
            for _ in range(writing.most):
                logits = backbone.model(
                    input_ids=torch.from_numpy(one.hard[0])[None],
                    decoder_inputs_embeds=torch.cat(behind)[None], use_cache=False,
                ).logits[0, -1]  # fmt: skip
                word = int(logits.argmax())
                if word in ENDS:
                    break
                words.append(word)
                behind.append(table(torch.tensor([word])))
            assert answer == tuple(words)


@pytest.mark.filterwarnings("ignore:.*generation flags:UserWarning")
@pytest.mark.parametrize("beams", [1, 3])
@torch.no_grad()
def test_the_mean_log_probability_is_that_of_generate(beams):
    backbone, inputs, prompts = decoder_setting("qwen3", "after", 1, 6)
    free = write(CachedEngine(backbone), inputs, prompts, Writing(9, ()))
    writing = Writing(6, (free[0][2], free[3][1]), beams, 2.0)
    found = engine_writing.write(CachedEngine(backbone), inputs, prompts, writing)
    wanted = {"return_dict_in_generate": True, "output_scores": True}
    for one, answer in zip(inputs, found, strict=True):
        x = embedded(backbone, one, prompts.vectors[0], prompts.lengths[0])
        mask = torch.ones(x.shape[:2], dtype=torch.long)
        model = backbone.model
        out = model.generate(
            inputs_embeds=x,
            attention_mask=mask,
            **options(writing) | {"eos_token_id": [*writing.ends]},
            **wanted,
        )
        length = len(without_end(out.sequences[0].tolist(), writing.ends))
        length += length < writing.most
        if beams > 1:
            mean = float(out.sequences_scores[0]) * length
        else:
            logs = model.compute_transition_scores(out.sequences, out.scores, normalize_logits=True)
            mean = float(logs[0, :length].mean())
        assert answer.mean_log == pytest.approx(mean, abs=2e-4)


@torch.no_grad()
def test_company_changes_nothing_of_an_answer():
    backbone, inputs, prompts = decoder_setting("llama", "after", 1, 8)
    for writing in WRITINGS[:2]:
        together = write(CachedEngine(backbone), inputs, prompts, writing)
        small = CachedEngine(backbone, allowance=Allowance(tokens=40))
        assert write(small, inputs, prompts, writing) == together
        assert [
            write(CachedEngine(backbone), [one], prompts, writing)[0] for one in inputs
        ] == together


@torch.no_grad()
def test_padded_passes_write_the_same():
    backbone, inputs, prompts = decoder_setting("llama", "after", 1, 6)
    packed = write(CachedEngine(backbone), inputs, prompts, WRITINGS[1])
    backbone.packs = False
    assert write(CachedEngine(backbone), inputs, prompts, WRITINGS[1]) == packed


@pytest.mark.parametrize("position", ["prefix", "suffix"])
@torch.no_grad()
def test_a_deep_prompt_is_seen_by_every_word_that_is_written(position):
    backbone, inputs, soft = decoder_setting("llama", "after", 1, 5)
    shapes = [LayerShape(*shape) for shape in backbone.layer_facts.shapes]
    part = DeepPrompt(3, shapes, generator(0, "deep"), position=position, bound=0.5)
    deep = joined_deep([(part.position, part())], None)
    assert isinstance(deep, Deep)
    prompts = Prompts(soft.vectors, soft.lengths, (deep,))
    engine = (DirectEngine if position == "prefix" else CachedEngine)(backbone)
    found = write(engine, inputs, prompts, Writing(5, ENDS))
    for answer, one in zip(found, inputs, strict=True):
        hard = list(one.hard)
        words = []
        for _ in range(5):
            longer = [
                type(one)((*hard[:-1], np.array([*hard[-1], *words], dtype=np.int64)), 0, 0, 0)
            ]
            state = engine.every(longer, prompts).last
            word = int(backbone.unembed(state)[0].argmax())
            if word in ENDS:
                break
            words.append(word)
        assert answer == tuple(words)


@torch.no_grad()
def test_each_language_writes_with_its_own_adapter():
    backbone = tiny_backbone("llama")
    source = put(tiny_backbone("llama"), seed=1)
    weights = {name: value.detach() for name, value in source.tensors().items()}
    layout = parse_layout("{text}{task:2}", ["text"], {"task": 2})
    sourced = Sourced({}, frozenset({"swh_Latn"}))
    encoder = Encoder(backbone.tokenizer, layout, "", 64, ends=False, sourced=sourced)
    pairs = [(text, code) for text in TEXTS[:3] for code in ("eng_Latn", "swh_Latn")]
    inputs = encoder.encode([Example(t, code, {"text": t}) for t, code in pairs])
    prompts = Prompts((0.3 * torch.randn(2, 32),), ((2,),))
    writing = Writing(6, ENDS)
    plain = write(CachedEngine(backbone), inputs, prompts, writing)
    backbone.attachments.put(OfLanguages(backbone, {"swh_Latn": Bottleneck(weights, of_kind())}))
    found = write(CachedEngine(backbone), inputs, prompts, writing)
    assert found[::2] == plain[::2]
    assert found[1::2] != plain[1::2]
