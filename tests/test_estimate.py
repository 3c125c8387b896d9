"""A dry run counts what a run then computes, and computes nothing that is kept."""

from pathlib import Path

import pytest

from polyprompt.experiments.config import build_study
from polyprompt.experiments.estimate import Estimate, estimate_study, estimate_table
from polyprompt.experiments.study import run_study, study_folders


def estimates(value):
    found = list(estimate_study(build_study(value, "toy")))
    return [one for one in found if isinstance(one, Estimate)]


@pytest.mark.parametrize("arm", ["cached", "full"])
def test_tokens_are_those_that_a_run_then_computes(toy_study, arm):
    value = toy_study | {"baselines": False}
    if arm == "full":
        value["parts"] = {"task": {}, "model": {"kind": "full"}}
    found = estimates(value)
    assert not Path(value["output"]).exists()
    study = build_study(value, "toy")
    list(run_study(study))
    folders = study_folders(study)
    assert sum(one.runs for one in found) == 2
    works = {f.record()["group"]: f.record()["group_work"] for f in folders}
    computed = sum(w[stage]["tokens"] for w in works.values() for stage in ("train", "read"))
    counted = sum(one.train_tokens + one.read_tokens for one in found)
    # class means and descriptions are read on top, and the last batch of an epoch is shorter
    assert counted == pytest.approx(computed, rel=0.15)
    assert all(one.steps == 6 and one.seconds > 0 for one in found)
    assert estimates(value) == []


def test_a_search_is_counted_with_the_study_behind_it(toy_study):
    value = toy_study | {
        "search": {"seeds": [7, 8], "grid": {"training.learning_rate": [0.1, 0.2]}}
    }
    found = estimates(value)
    assert [one.runs for one in found] == [4, 2]
    table = estimate_table(found)
    assert table.rows[-1][:2] == ("all", "6")


def test_what_is_recorded_is_counted(toy_study):
    value = toy_study | {"baselines": False}
    plain = estimates(value)[0]
    study = build_study(value | {"record": ["states"], "record_items": 8}, "toy")
    found = next(one for one in estimate_study(study) if isinstance(one, Estimate))
    list(run_study(study))
    more = found.read_tokens - plain.read_tokens
    folder = study_folders(study)[0]
    items = folder.recorded_items().join(folder.predictions(), on=["language", "id"])
    assert items.height == 8 * 4
    assert more == 2 * (items["tokens"].sum() + items.height * 3)
    path_alone = build_study(value | {"name": "b", "record": "prompt_path"}, "toy")
    counted = next(one for one in estimate_study(path_alone) if isinstance(one, Estimate))
    assert counted.read_tokens == plain.read_tokens
