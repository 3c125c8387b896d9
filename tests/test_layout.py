"""Layouts say where text, words and prompts stand; a mistake points at the character."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyprompt.errors import LayoutError
from polyprompt.families import Attention
from polyprompt.part_settings import Reach
from polyprompt.tasks.layout import parse_layout
from polyprompt.tasks.segments import Field, Slot, Words

FIELDS = ["text", "premise", "hypothesis"]


def test_a_layout_is_parsed_into_its_segments():
    layout = parse_layout("{premise}? {task:5} {hypothesis}", FIELDS, {"task": None})
    assert layout.segments == (
        Field("premise"), Words("? "), Slot("task", 5), Words(" "), Field("hypothesis"),
    )  # fmt: skip
    assert layout.prompt_length == 5
    assert len(layout.hard_runs()) == 2


def test_doubled_braces_are_literal():
    layout = parse_layout("{{a}} {text}", FIELDS)
    assert layout.segments == (Words("{a} "), Field("text"))


def test_an_instruction_is_in_the_language_of_the_text():
    from polyprompt.data.encoding import Encoder
    from polyprompt.models.tiny import tiny_tokenizer
    from polyprompt.records import Example

    layout = parse_layout("{instruction} {text}{task:2}", ["text"], {"task": None})
    assert layout.has_instruction
    texts = {"default": "what", "deu_Latn": "wo"}
    words = tiny_tokenizer()
    encoder = Encoder(words, layout.with_instructions(texts), "", 64)
    for language, said in (("deu_Latn", "wo"), ("swh_Latn", "what"), ("", "what")):
        (encoded,) = encoder.encode([Example("1", language, {"text": "x"})])
        plain = words([f"{said} x"])["input_ids"][0]
        assert encoded.hard[0].tolist() == plain
        assert encoded.own[0].sum() == 1  # the instruction is none of the text
    bare = Encoder(words, layout.with_instructions({"deu_Latn": "wo", "eng_Latn": "where"}), "", 64)
    (encoded,) = bare.encode([Example("1", "", {"text": "x"})])
    assert len(encoded.hard[0]) == len("<where x>")
    assert parse_layout("{instruction}", ["instruction"]).segments == (Field("instruction"),)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layout": "{instruction} {text}{task:3}"}, "stands for words that are not given"),
        ({"instructions": {"default": "a"}}, "they stand nowhere in the layout"),
        (
            {"layout": "{instruction} {text}{task:3}", "instructions": {"eng_Latn": "a"}},
            "there are none for .*Add them, or one for all others: default",
        ),
        (
            {
                "layout": "{instruction} {text}{task:3}",
                "instructions": {"default": "a", "deu_Latm": "b"},
            },
            "deu_Latm",
        ),
    ],
)
def test_instructions_that_do_not_fit_are_refused(toy_study, changes, words):
    from polyprompt.errors import ConfigError
    from polyprompt.experiments.config import build_study
    from polyprompt.experiments.plan import plan_study

    with pytest.raises(ConfigError, match=words):
        plan_study(build_study(toy_study | changes, "toy"))


def test_a_cards_instruction_has_words_of_its_own(toy_study, tmp_path):
    from pathlib import Path

    import yaml

    from polyprompt.experiments.config import build_study
    from polyprompt.experiments.plan import plan_study
    from polyprompt.models.tiny import tiny_model, tiny_tokenizer

    path, folder = Path(toy_study["task"]), tmp_path / "llama"
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    card = yaml.safe_load(path.read_text()) | {"instruction": "{instruction} {text}"}
    path.write_text(yaml.safe_dump(card))
    with pytest.raises(LayoutError, match="stands in a run's layout alone"):
        plan_study(build_study(toy_study | {"backbone": str(folder)}, "toy"))


def test_several_runs_to_begin_with_are_named(toy_study):
    from polyprompt.errors import ConfigError
    from polyprompt.experiments.config import build_study
    from polyprompt.experiments.plan import plan_study
    from polyprompt.experiments.study import run_study

    for _ in run_study(build_study(toy_study, "toy")):
        pass
    initial = {"kind": "file", "path": f"{toy_study['output']}/toy/eng_Latn"}
    again = toy_study | {"name": "again", "parts": {"task": {"length": 3, "initial": initial}}}
    with pytest.raises(ConfigError, match="2 runs learnt from eng_Latn"):
        plan_study(build_study(again, "again"))


def test_a_study_with_instructions_is_read_again_with_them(toy_study):
    from polyprompt.classifier import Classifier
    from polyprompt.errors import ConfigError
    from polyprompt.experiments.config import build_study
    from polyprompt.experiments.plan import plan_study
    from polyprompt.experiments.store import RunFolder
    from polyprompt.experiments.study import run_study

    toy_study |= {
        "layout": "{instruction} {text}{task:3}", "grid": {"seed": [0]},
        "targets": ["eng_Latn", "swh_Latn"],
        "instructions": {"eng_Latn": "what", "swh_Latn": "nini"},
    }  # fmt: skip
    study = build_study(toy_study, "toy")
    for _ in run_study(study):
        pass
    (group,) = plan_study(study)
    run = RunFolder(study.folder / group.runs[0].name)
    found = run.predictions().filter(pl.col("baseline").is_null())
    tested = [one for one in group.data.splits["test"] if one.language == "swh_Latn"]
    own = found.filter(language="swh_Latn")["prediction"].to_list()
    with pytest.raises(ConfigError, match="asks in the words of a text's language"):
        Classifier.load(run.path)
    classifier = Classifier.load(run.path, "swh_Latn")
    assert classifier.predict([one.fields["text"] for one in tested]) == own


def test_a_length_may_be_said_in_the_part():
    assert parse_layout("{text}{task}", FIELDS, {"task": 7}).slots == (Slot("task", 7),)


@pytest.mark.parametrize(
    ("text", "lengths", "column", "words"),
    [
        ("{text}{task:10", {"task": None}, 7, "no closing '}'"),
        ("{text}}", {}, 7, "closes nothing"),
        ("{txt}", {}, 2, "Did you mean 'text'?"),
        ("{text}{task:0}", {"task": None}, 13, "'0' is not a length"),
        ("{text}{task:x}", {"task": None}, 13, "'x' is not a length"),
        ("{text}{tsk:3}", {"task": None}, 8, "Did you mean 'task'?"),
        ("{text}{task}", {"task": None}, 8, "has no length"),
        ("{text}{task:3}", {"task": 4}, 13, "Say it once"),
        ("{text}{task:3}{task:3}", {"task": None}, 15, "stands here twice"),
        ("{text}{1a}", {}, 8, "is not a name"),
        ("{task:3} only words", {"task": None}, 1, "there is no text in it"),
        ("{text}", {"task": None}, 1, "the part 'task' has no slot"),
    ],
)
def test_a_fault_points_at_its_character(text, lengths, column, words):
    with pytest.raises(LayoutError) as caught:
        parse_layout(text, FIELDS, lengths)
    message = str(caught.value)
    assert words in message
    assert f"character {column}:" in message
    assert message.splitlines()[-1].index("^") == 4 + column - 1


def test_reach_follows_from_place_and_attention():
    after = parse_layout("{text}{task:2}", FIELDS, {"task": None})
    before = parse_layout("{task:2}{text}", FIELDS, {"task": None})
    assert after.reach("task", Attention.CAUSAL) is Reach.AFTER_INPUT
    assert before.reach("task", Attention.CAUSAL) is Reach.WHOLE_SEQUENCE
    assert before.reach("task", Attention.ONE_WAY) is Reach.AFTER_INPUT
    assert after.reach("task", Attention.FULL) is Reach.WHOLE_SEQUENCE


@given(st.text(alphabet="{}a:1t \n", max_size=12))
def test_any_text_is_parsed_or_refused(text):
    try:
        layout = parse_layout(text, ["a", "t"], {})
    except LayoutError:
        return
    assert layout.fields
