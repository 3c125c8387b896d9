"""Arms, searches on dev, several sources, and answers to the dev split."""

import polars as pl
import pytest

from polyprompt.analysis.selection import Tried, choose, measure
from polyprompt.errors import ConfigError, DataError, StoreError
from polyprompt.experiments.config import build_study, load_study
from polyprompt.experiments.plan import plan_study
from polyprompt.experiments.search import choices, resolved, search_studies, search_study
from polyprompt.experiments.store import RunFolder, complete_runs
from polyprompt.experiments.study import run_study, study_folders


def finish(value):
    study = build_study(value, "toy")
    list(run_study(study))
    return study_folders(study)


@pytest.fixture
def searching(toy_study):
    return toy_study | {
        "arms": {
            "short": {"parts.task.length": 2, "layout": "{text}{task}"},
            "long": {"parts.task.length": 4, "layout": "{text}{task}"},
            "fixed": {"training.learning_rate": 0.5},
        },
        "search": {
            "seeds": [100, 101],
            "arms": {
                "short": {"training.learning_rate": [0.001, 0.05]},
                "long": {"training.learning_rate": [0.001, 0.05]},
            },
        },
    }


def test_runs_of_an_earlier_search_are_no_part_of_the_study(searching):
    finish(searching)
    study = build_study(searching, "toy").folder
    before = {choice.arm: choice.chosen.point for choice in choices(build_study(searching, "toy"))}
    for grid in searching["search"]["arms"].values():
        grid["training.learning_rate"] = [0.002, 0.04]
    finish(searching)
    after = {choice.arm: choice.chosen.point for choice in choices(build_study(searching, "toy"))}
    assert before != after
    assert sum(RunFolder(path).is_complete() for path in study.iterdir()) == 10
    kept = list(complete_runs(study))
    assert len(kept) == 6
    rates = {f.record()["arm"]: f.config()["training"]["learning_rate"] for f in kept}
    assert {"fixed": 0.5} | {a: p["training.learning_rate"] for a, p in after.items()} == rates


def test_what_a_search_chose_is_compared_as_it_was_understood(toy_study):
    """YAML reads 1e-2 as a word, and a part may be written short: both are settings all the same."""
    value = toy_study | {
        "arms": {"a": {}, "b": {"training.epochs": 1}},
        "search": {
            "seeds": [100],
            "arms": {
                "a": {"training.learning_rate": ["1e-2"]},
                "b": {"parts.task": [{"kind": "soft_prompt", "initial": "vocabulary"}]},
            },
        },
    }
    folders = finish(value)
    study = build_study(value, "toy").folder
    assert {run.name for run in complete_runs(study)} == {folder.name for folder in folders}
    plain = {k: v for k, v in value.items() if k != "search"}
    list(run_study(build_study(plain | {"arms": {"a": {"shots": 2}}}, "toy")))
    assert len(list(complete_runs(study))) == 6


def test_the_best_point_does_not_depend_on_the_order():
    nan = Tried({"rate": 1}, (0.5, 0.6), float("nan"))
    good = Tried({"rate": 2}, (0.52, 0.6), 1.0)
    assert choose([nan, good]) is choose([good, nan]) is good
    steady, wild = Tried({"r": 3}, (0.8, 0.8), 0.5), Tried({"r": 4}, (0.7, 0.9), 0.6)
    third = Tried({"r": 5}, (0.74, 0.74), 0.4)
    assert choose([steady, wild, third]) is choose([third, wild, steady])


def test_an_arm_that_the_search_makes_another_is_run_once(searching):
    searching["search"]["arms"]["fixed"] = {"training.learning_rate": [0.3, 0.4]}
    searching["arms"]["twin"] = searching["arms"]["fixed"] | {"training.learning_rate": 0.3}
    searching["arms"]["other twin"] = {"training.learning_rate": 0.4}
    study = build_study(searching, "toy")
    messages = [event.note for event in run_study(study)]
    chosen = next(c.chosen.point for c in choices(study) if c.arm == "fixed")
    twin = "twin" if chosen["training.learning_rate"] == 0.3 else "other twin"
    assert sum("is now the same as another" in str(message) for message in messages) == 1
    assert any(f"'{twin}'" in str(message) for message in messages)
    assert len(study_folders(study)) == 8
    arms = {folder.record()["arm"] for folder in study_folders(study)}
    assert arms == {"short", "long", "fixed", "twin", "other twin"} - {twin}


def test_a_search_chooses_on_dev_with_other_draws_and_the_study_uses_it(searching):
    folders = finish(searching)
    study = build_study(searching, "toy")
    assert len(folders) == 6
    for choice in choices(study):
        assert len(choice.tried) == 2
        rate = choice.chosen.point["training.learning_rate"]
        used = {
            f.config()["training"]["learning_rate"]
            for f in folders
            if f.record()["arm"] == choice.arm
        }
        assert used == {rate}
    assert {
        f.config()["training"]["learning_rate"] for f in folders if f.record()["arm"] == "fixed"
    } == {0.5}
    trial = search_study(study)
    assert len(trial.runs) == 8
    assert {run.evaluate for run in trial.runs} == {"dev"}
    assert {run.draw_seed for run in trial.runs} == {100, 101}
    # what was scored are the dev sentences of the source language, and no others
    group = plan_study(trial)[0]
    assert {e.language for e in group.data.splits["test"]} == {"eng_Latn"}
    assert {e.id for e in group.data.splits["test"]} == {e.id for e in group.data.splits["dev"]}


def test_what_a_search_scores_is_what_its_predictions_say(searching):
    finish(searching)
    study = build_study(searching, "toy")
    trial = search_study(study)
    runs = [f.predictions() for f in study_folders(trial)]
    labels = ["sea", "hill", "town"]
    found = measure({}, runs[:2], labels)
    for table, accuracy in zip(runs[:2], found.accuracies, strict=True):
        assert (table["prediction"] == table["label"]).mean() == accuracy


def test_the_least_loss_within_one_standard_error_is_chosen():
    from polyprompt.analysis.selection import Tried

    best = Tried({"a": 1}, (0.80, 0.84), 0.9)
    near = Tried({"a": 2}, (0.80, 0.81), 0.7)
    far = Tried({"a": 3}, (0.70, 0.70), 0.1)
    assert choose([best, near, far]) is near
    assert choose([Tried({}, (0.8,), 0.9), Tried({}, (0.79,), 0.1)]).loss == 0.9
    unknown = [Tried({}, (0.7, 0.72), None), Tried({}, (0.71, 0.73), None)]  # written answers
    assert choose(unknown) is choose(unknown[::-1]) is unknown[1]


def test_a_study_that_is_searched_has_no_folders_before(searching):
    with pytest.raises(StoreError, match="8 of 8 runs of the search .* not complete"):
        study_folders(build_study(searching, "toy"))


def test_a_study_without_arms_is_searched_too(toy_study):
    value = toy_study | {"search": {"seeds": [7], "grid": {"training.learning_rate": [0.01, 0.05]}}}
    folders = finish(value)
    (choice,) = choices(build_study(value, "toy"))
    assert (
        folders[0].config()["training"]["learning_rate"]
        == choice.chosen.point["training.learning_rate"]
    )
    assert resolved(build_study(value, "toy")).settings.training.learning_rate is not None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": {"a": {"shot": 1}}}, "arms.a.shot: unknown key. Did you mean 'shots'"),
        ({"arms": {"a": {"seed": 1}}}, "grid.seed: the arm 'a' sets it"),
        ({"search": {"seeds": [9]}}, "a study without arms needs search.grid"),
        (
            {"arms": {"a": {}}, "search": {"arms": {"b": {"shots": [1]}}}},
            "search.arms.b: there is no arm of that name",
        ),
        (
            {
                "arms": {"a": {}, "b": {"shots": 2}},
                "search": {"arms": {"a": {"shots": [1]}, "b": {"shots": [1, 2]}}},
            },
            "every arm gets as many points to choose from; they have a 1, b 2",
        ),
    ],
)
def test_faults_of_arms_and_searches_are_named(toy_study, changes, words):
    with pytest.raises(ConfigError, match=words):
        build_study(toy_study | changes, "toy")


def test_a_search_does_not_use_the_studys_draws(searching):
    searching["search"]["seeds"] = [1, 100]
    with pytest.raises(ConfigError, match=r"search.seeds: the study draws with \[1\] too"):
        list(run_study(build_study(searching, "toy")))


def test_an_override_replaces_what_arms_set_and_equal_arms_run_once(toy_study, tmp_path):
    import yaml

    value = toy_study | {
        "arms": {
            "a": {"backbone.name": "x/one", "shots": 2},
            "b": {"backbone.name": "x/two", "shots": 2},
            "c": {"backbone.name": "x/two", "shots": 3},
        }
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(value))
    study = load_study(str(path), [f"backbone={toy_study['backbone']['name']}"])
    assert list(study.settings.arms) == ["a", "c"]
    assert {run.backbone.name for run in study.runs} == {toy_study["backbone"]["name"]}


def test_both_splits_are_answered_and_kept_apart(toy_study):
    only = finish(toy_study)[0]
    both = finish(toy_study | {"evaluate": "both", "targets": ["eng_Latn", "fra_Latn"]})[0]
    dev = both.dev_predictions()
    assert dev["baseline"].is_null().all()
    there = pl.read_parquet(f"{toy_study['data']}/dev.parquet")
    joined = dev.join(there, on=["language", "id"], suffix="_true")
    assert joined.height == there.height == dev.height
    assert (joined["label"] == joined["label_true"]).all()
    test = both.predictions()
    own = only.predictions().filter(pl.col("language").is_in(["eng_Latn", "fra_Latn"]))
    keys = ["baseline", "language", "id"]
    same = own.join(test, on=keys, suffix="_both", nulls_equal=True)
    assert same.height == own.height == test.height
    assert (same["prediction"] == same["prediction_both"]).all()
    with pytest.raises(StoreError, match="evaluate=both"):
        only.dev_predictions()


def test_a_task_without_dev_split_cannot_be_evaluated_on_it(toy_study, tmp_path):
    from pathlib import Path

    (Path(toy_study["data"]) / "dev.parquet").unlink()
    card = Path(toy_study["task"])
    import yaml

    value = yaml.safe_load(card.read_text())
    value["local"] = {"files": {"train": "train.parquet", "test": "test.parquet"}}
    card.write_text(yaml.safe_dump(value))
    with pytest.raises(DataError, match="has no dev split, which evaluate=both"):
        plan_study(build_study(toy_study | {"evaluate": "both"}, "toy"))


def test_runs_of_different_sources_are_one_group_and_see_their_own_examples(toy_study):
    value = toy_study | {
        "grid": {
            "source": ["eng_Latn", "fra_Latn", ["eng_Latn", "fra_Latn"]],
            "seed": [0, 1],
        }
    }
    value.pop("source")
    together = finish(value)
    assert {f.record()["group_runs"] for f in together} == {6}
    for folder in together:
        sources = set(folder.config()["source"])
        assert {name.split("/")[0] for name in folder.record()["train_ids"]} == sources
    alone = finish(toy_study | {"name": "alone", "source": "fra_Latn"})
    for folder in alone:
        (same,) = [f for f in together if f.name == folder.name]
        keys = ["baseline", "language", "id"]
        a, b = (f.predictions().sort(keys, nulls_last=True) for f in (folder, same))
        assert a["prediction"].to_list() == b["prediction"].to_list()


def test_source_languages_get_their_shares(toy_study):
    value = toy_study | {
        "source": ["eng_Latn", "fra_Latn"],
        "source_shares": {"eng_Latn": 3, "fra_Latn": 1},
        "grid": {"seed": [0, 1, 2]},
    }
    for folder in finish(value):
        names = [name.split("/")[0] for name in folder.record()["train_ids"]]
        assert (names.count("eng_Latn"), names.count("fra_Latn")) == (9, 3)
    with pytest.raises(
        ConfigError, match="source_shares names eng_Latn, source eng_Latn, fra_Latn"
    ):
        plan_study(build_study(value | {"source_shares": {"eng_Latn": 1}}, "toy"))
    with pytest.raises(ConfigError, match="Keep one of them"):
        plan_study(build_study(value | {"source_temperature": 2}, "toy"))


def test_dev_examples_end_with_the_rarest_class(toy_study):
    """6 shots want 2 of each class for dev; there are 2. 12 would want 3."""
    from polyprompt.data.fewshot import Sampling, draw_examples
    from polyprompt.records import Example

    train = [Example(str(i), "e", {"text": "t"}, "ab"[i % 2]) for i in range(60)]
    dev = [Example(f"d{i}", "e", {"text": "t"}, "abb"[i % 3]) for i in range(6)]
    draw = draw_examples(train, dev, ["a", "b"], Sampling(20, 0))
    assert len(draw.dev) == 4
    assert "2 for dev, all that its rarest class has" in draw.note


@pytest.fixture
def halving(searching):
    grid = {"training.learning_rate": [0.0001, 0.001, 0.05]}
    searching["search"] |= {
        "arms": {"short": grid, "long": grid},
        "halving": {"epochs": [1, 3], "keep": 0.5},
    }
    return searching


def test_halving_tries_many_points_shortly_and_the_better_ones_for_longer(halving):
    finish(halving)
    study = build_study(halving, "toy")
    first, second = search_studies(study)
    assert [len(first.runs), len(second.runs)] == [
        12,
        8,
    ]  # two arms, two seeds, three points then two
    assert {run.training.epochs for run in first.runs} == {1}
    assert {run.training.epochs for run in second.runs} == {3}
    for choice in choices(study):
        assert [one.epochs for one in choice.tried] == [1, 1, 1, 3, 3]
        shortly, longer = choice.tried[:3], choice.tried[3:]
        best = sorted(shortly, key=lambda one: (-one.accuracy, one.loss))[:2]
        assert {one.point["training.learning_rate"] for one in longer} == {
            one.point["training.learning_rate"] for one in best
        }
        assert choice.chosen in longer
    runs = [run for run in resolved(study).runs if run.arm != "fixed"]
    assert {run.training.epochs for run in runs} == {2}  # those of the study, not of a round
    assert {run.evaluate for one in (first, second) for run in one.runs} == {"dev"}
    assert {run.targets for one in (first, second) for run in one.runs} == {("eng_Latn",)}


def test_the_next_round_is_not_known_before_the_first_is_complete(halving):
    study = build_study(halving, "toy")
    rounds = search_studies(study)
    next(rounds)
    with pytest.raises(StoreError, match="12 of 12 runs of the search"):
        next(rounds)
    assert {run.training.epochs for run in search_study(study).runs} == {1}


def test_rounds_have_to_grow(halving):
    halving["search"]["halving"] = {"epochs": [3, 3]}
    with pytest.raises(ConfigError, match="every round takes more epochs than the one before"):
        build_study(halving, "toy")
