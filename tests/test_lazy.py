"""Examples that are encoded when they are used: the same runs, to the last bit."""

import numpy as np
import pytest

from polyprompt.data.encoding import Encoder
from polyprompt.data.lazy import BLOCK, LazyInputs, inputs_of
from polyprompt.experiments.config import build_study
from polyprompt.experiments.study import run_study, study_folders
from polyprompt.models.tiny import tiny_tokenizer
from polyprompt.records import Example
from polyprompt.tasks.layout import parse_layout


@pytest.fixture(scope="module")
def encoder():
    return Encoder(tiny_tokenizer(), parse_layout("{text}", ["text"]), "", 64)


def test_inputs_are_those_that_are_encoded_at_once(encoder):
    examples = [Example(str(i), "", {"text": "abc"[: i % 3 + 1]}) for i in range(BLOCK + 7)]
    lazy, ahead = (inputs_of(encoder.encode, examples, ahead) for ahead in (10, 10_000))
    assert isinstance(lazy, LazyInputs)
    assert isinstance(ahead, list)
    assert len(lazy) == len(ahead)
    for one, other in zip(lazy, ahead, strict=True):
        np.testing.assert_array_equal(one.hard[0], other.hard[0])
    np.testing.assert_array_equal(lazy[5].hard[0], ahead[5].hard[0])
    assert [x.tokens for x in lazy[3:6]] == [x.tokens for x in ahead[3:6]]


@pytest.mark.parametrize(
    "changes",
    [{}, {"parts": {"model": {"kind": "full"}}, "layout": "{text}"}, {"layout": "{task:3}{text}"}],
    ids=["cached", "full", "direct"],
)
def test_runs_are_the_same(toy_study, tmp_path, changes):
    found = []
    for ahead in (0, 10_000):
        value = toy_study | changes | {"engine": {"encode_ahead": ahead}}
        study = build_study(value | {"output": str(tmp_path / str(ahead))}, "toy")
        list(run_study(study))
        found.append(study_folders(study))
    for one, other in zip(*found, strict=True):
        assert one.name == other.name
        ours, theirs = one.predictions(), other.predictions()
        assert ours["prediction"].to_list() == theirs["prediction"].to_list()
        np.testing.assert_allclose(
            np.array(ours["scores"].to_list()), np.array(theirs["scores"].to_list()), atol=2e-4
        )
