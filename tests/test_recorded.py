"""What a study records besides its answers, and what analysis makes of it."""

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from polyprompt.errors import BackboneError, ConfigError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.recorded import chosen_items, nearest_words, scaled
from polyprompt.experiments.recorded_account import recorded_tables
from polyprompt.experiments.results import gather
from polyprompt.experiments.study import run_study, study_folders
from polyprompt.models.tiny import tiny_backbone
from polyprompt.records import Example

ALL = ["states", "attention", "prompt_path"]


def finish(value, **changes):
    study = build_study(value | changes, "toy.yaml")
    list(run_study(study))
    return study_folders(study)


def test_nothing_is_recorded_unasked(toy_study):
    assert not any((folder.path / "recorded").exists() for folder in finish(toy_study))


def test_arrays_lie_beside_the_run_and_change_nothing_else(toy_study, tmp_path):
    plain = finish(toy_study)
    asked = finish(toy_study, record=ALL, output=str(tmp_path / "recorded"))
    assert [f.name for f in plain] == [f.name for f in asked]
    for one, other in zip(plain, asked, strict=True):
        assert one.predictions().equals(other.predictions())
    folder = asked[0]
    items = folder.recorded_items()
    languages = folder.predictions()["language"].n_unique()
    assert items.height == 12 * languages
    states = folder.arrays("states")
    assert states["text"].shape == states["answer"].shape == (items.height, 4, 32)
    assert states["text"].dtype == np.float16
    weights = folder.arrays("attention")["weights"]
    assert weights.shape == (items.height, 3, 4, 3, 3)
    assert np.allclose(weights.astype(float).sum(-1), 1, atol=5e-3)


def test_a_study_that_is_complete_records_afterwards_under_the_same_names(toy_study):
    before = finish(toy_study)
    again = finish(toy_study, record="prompt_path")
    assert [f.name for f in before] == [f.name for f in again]
    assert all(folder.has_arrays("prompt_path") for folder in again)
    settings = gather(again)
    assert len(settings) == 1
    assert len(settings[0].runs) == 2


def test_the_path_begins_at_the_initial_value_and_ends_in_the_saved_prompt(toy_study):
    folder = finish(toy_study, record=["prompt_path"])[0]
    path = folder.arrays("prompt_path")
    assert path["epochs"].tolist() == [0, 1, 2]
    assert path["vectors"].shape == (3, 3, 32)
    (saved,) = load_file(folder.path / "parts" / "task.safetensors").values()
    assert np.array_equal(path["vectors"][path["kept"][0]], saved.reshape(3, 32))
    start = finish(toy_study, record=["prompt_path"], training={"epochs": 0})[0]
    assert np.array_equal(path["vectors"][0], start.arrays("prompt_path")["vectors"][0])


def test_the_kept_checkpoint_is_the_one_the_run_ended_in(toy_study):
    training = toy_study["training"] | {"epochs": 3, "select": "last", "learning_rate": 0.5}
    for folder in finish(toy_study, record="prompt_path", training=training):
        path = folder.arrays("prompt_path")
        assert path["kept"].tolist() == [3]
        assert np.abs(path["vectors"][3] - path["vectors"][0]).max() > 0.1


def test_what_was_recorded_in_part_is_recorded_again(toy_study):
    folder = finish(toy_study, record=ALL, record_items=8)[0]
    states = folder.path / "recorded" / "states.safetensors"
    whole = states.read_bytes()
    states.write_bytes(whole[:500])
    assert not folder.has_recorded(ALL, 8)
    finish(toy_study, record=ALL, record_items=8)
    assert states.read_bytes() == whole
    (folder.path / "recorded" / "items.parquet").unlink()
    assert not folder.has_recorded(ALL, 8)
    finish(toy_study, record=ALL, record_items=10)
    assert folder.recorded_items()["language"].value_counts()["count"].unique().to_list() == [10]


def test_answers_are_not_lost_where_recording_fails(toy_study, monkeypatch):
    def fails(*_):
        raise BackboneError("no")

    monkeypatch.setattr("polyprompt.experiments.recorded.look_inside", fails)
    study = build_study(toy_study | {"record": "attention"}, "toy.yaml")
    with pytest.raises(BackboneError):
        list(run_study(study))
    assert all(folder.is_complete() for folder in study_folders(study))
    assert not any(folder.has_recorded(["attention"], 100) for folder in study_folders(study))


def test_a_start_from_the_vocabulary_is_nearest_to_its_words(toy_study):
    parts = {"task": {"kind": "soft_prompt", "initial": "vocabulary"}}
    path = finish(toy_study, record=["prompt_path"], parts=parts)[0].arrays("prompt_path")
    assert np.allclose(path["cosines"][0, :, 0], 1, atol=1e-5)
    assert (path["cosines"][0, :, 1] < 0.999).all()


def test_nearest_words_are_those_of_the_whole_table():
    table = tiny_backbone("llama").table
    found, cosines = nearest_words(table, 2 * table[7:9])
    assert found[:, 0].tolist() == [7, 8]
    assert np.allclose(cosines[:, 0], 1, atol=1e-5)
    unit = table / table.norm(dim=1, keepdim=True)
    order = (unit.nan_to_num() @ unit[7:9].T).argsort(0, descending=True)[:3].T
    assert found.tolist() == order.tolist()


def test_states_keep_their_proportions_in_half_precision():
    states = np.random.default_rng(0).normal(size=(5, 3, 8)) * np.array([1, 1e6, 1e-9])[:, None]
    kept = scaled("text", states)
    back = kept["text"].astype(np.float64) * kept["text_scale"][None, :, None]
    assert np.isfinite(kept["text"]).all()
    assert np.abs(back - states).max((0, 2)) == pytest.approx([0, 0, 0], abs=1e3)
    assert (np.abs(back - states).max((0, 2)) < 1e-3 * np.abs(states).max((0, 2))).all()


def test_parallel_items_are_those_that_every_language_has():
    examples = [
        Example(name, code, {}) for code, names in (("a", "123"), ("b", "324")) for name in names
    ]
    assert [examples[i].id for i in chosen_items(examples, 5, parallel=True)] == [
        "2",
        "3",
        "3",
        "2",
    ]
    assert chosen_items(examples, 2, parallel=False) == [0, 1, 3, 4]
    assert len(chosen_items(examples, 1, parallel=True)) == 2


def test_analysis_compares_arms_and_leaves_out_what_has_no_prompt(toy_study):
    arms = {
        "frozen": {},
        "full alone": {"parts": {"model": {"kind": "full"}}, "layout": "{text}"},
    }
    folders = finish(toy_study, arms=arms, record=ALL)
    tables, notes = recorded_tables(gather(folders))
    titles = [table.title for table in tables]
    assert sum("share of attention" in title for title in titles) == 2
    assert sum("alignment of the text's tokens" in title for title in titles) == 3
    paths = next(table for table in tables if table.title.startswith("Paths"))
    assert [row[0] for row in paths.rows] == ["frozen"]
    own = next(t for t in tables if t.title.startswith("full alone: share"))
    assert own.rows[0][1].startswith("–")
    assert "12 test sentences" in notes[0]


def test_states_that_nothing_could_be_compared_with_are_refused(toy_study):
    with pytest.raises(ConfigError, match="eng_Latn is not among the targets"):
        finish(toy_study, record="states", targets=["fra_Latn"])
    with pytest.raises(ConfigError, match="record"):
        finish(toy_study, record=["statues"])


def test_a_task_that_is_not_parallel_is_not_aligned(toy_study, toy_task):
    card = toy_task[0]
    card.write_text(card.read_text().replace("parallel: true", "parallel: false"))
    tables, notes = recorded_tables(gather(finish(toy_study, record=["states"])))
    assert tables == []
    assert "not translations of one another" in notes[0]


def test_items_are_named_in_their_order(toy_study):
    folder = finish(toy_study, record=["attention"], record_items=8)[0]
    items = folder.recorded_items()
    assert items.group_by("language").len()["len"].unique().to_list() == [8]
    assert (
        items.join(
            folder.predictions().filter(pl.col("baseline").is_null()), on=["language", "id"]
        ).height
        == items.height
    )
