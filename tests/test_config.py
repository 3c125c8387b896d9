"""Studies: every fault at once, each with its path and the nearest right name."""

from pathlib import Path

import pytest
import yaml

from polyprompt.errors import ConfigError, DataError, LayoutError, PolypromptError
from polyprompt.experiments.config import apply_overrides, build_study, load_study
from polyprompt.experiments.plan import plan_study
from polyprompt.families import Attention

CONFIGS = sorted((Path(__file__).parent.parent / "configs").rglob("*.yaml"))


def plan(value: dict, **changes):
    return plan_study(build_study(value | changes, "toy.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_study_loads(path):
    study = load_study(str(path))
    assert study.runs
    assert study.settings.name == path.stem


def test_all_faults_are_reported_at_once_with_the_nearest_names(toy_study):
    wrong = toy_study | {
        "shot": 8,
        "training": {"lerning_rate": 0.1, "epochs": -1},
        "head": {"prototypes": {"example": 1}},
        "parts": {"task": {"lenght": 3, "initial": "vocabulry"}},
        "grid": {"sed": [0], "seed": 3},
    }
    with pytest.raises(ConfigError) as caught:
        build_study(wrong, "toy.yaml")
    message = str(caught.value)
    for expected in (
        "shot: unknown key. Did you mean 'shots'?",
        "training.lerning_rate: unknown key. Did you mean 'learning_rate'?",
        "training.epochs: Input should be greater than or equal to 0 (given: -1)",
        "head.prototypes.example: unknown key. Did you mean 'examples'?",
        "parts.task.lenght: unknown key. Did you mean 'length'?",
        "parts.task.initial.kind",
        "grid.sed: unknown key. Did you mean 'seed'?",
        "grid.seed",
    ):
        assert expected in message, message


def test_overrides_reach_nested_settings_and_short_forms():
    value = apply_overrides(
        {"backbone": "pypi:multilingual-e5-small", "task": "sib200", "name": "x"},
        ["backbone.attention=full", "training.epochs=3", "grid.seed=[0, 1]", "shots=all"],
    )
    study = build_study(value, "x")
    assert study.runs[1].backbone.attention is Attention.FULL
    assert study.runs[1].training.epochs == 3
    assert (study.runs[1].draw_seed, study.runs[1].train_seed) == (1, 1)
    assert study.runs[0].shots == "all"


@pytest.mark.parametrize("text", ["{text}{task:5}", "'{text}{task:5}'", "Topic: {text} {task:5}"])
def test_a_layout_is_overridden_as_it_is_written(text):
    value = apply_overrides({"name": "x", "task": "sib200"}, [f"layout={text}", "data=null"])
    study = build_study(value, "x")
    assert study.runs[0].layout == text.strip("'")
    assert study.runs[0].data is None


def test_an_override_that_the_grid_would_hide_is_refused(toy_study, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(toy_study))
    with pytest.raises(ConfigError, match=r"Write grid.seed=\[…\]"):
        load_study(str(path), ["seed=5"])
    assert len(load_study(str(path), ["grid.seed=[5]"]).runs) == 1


@pytest.mark.parametrize("override", ["shots", "=3", "shots=[1"])
def test_an_override_of_another_form_is_explained(override):
    with pytest.raises(ConfigError, match="override"):
        apply_overrides({}, [override])


def test_a_grid_is_a_product_and_seed_sets_what_is_not_given(toy_study):
    study = build_study(
        toy_study | {"draw_seed": 5, "grid": {"parts.task.length": [1, 2], "seed": [0, 3]},
                     "layout": "{text}{task}"}, "toy")  # fmt: skip
    assert [(r.parts["task"].length, r.draw_seed, r.train_seed) for r in study.runs] == [
        (1, 5, 0), (1, 5, 3), (2, 5, 0), (2, 5, 3),
    ]  # fmt: skip


def test_runs_that_can_share_a_backbone_are_grouped(toy_study):
    groups = plan(toy_study, layout="{text}{task}", grid={
        "parts.task.length": [1, 4], "training.learning_rate": [0.1, 0.2], "seed": [0, 1],
        "shots": [2, 4]})  # fmt: skip
    assert [len(group.runs) for group in groups] == [16]
    assert len({run.name for run in groups[0].runs}) == 16


def test_a_fingerprint_changes_with_what_changes_the_result_and_only_with_it(toy_study, tmp_path):
    name = plan(toy_study)[0].runs[0].name
    assert plan(toy_study, output=str(tmp_path / "elsewhere"), title="x")[0].runs[0].name == name
    assert plan(toy_study, engine={"kind": "direct"})[0].runs[0].name == name
    assert plan(toy_study, shots=3)[0].runs[0].name != name
    assert plan(toy_study, layout="{task:3}{text}")[0].runs[0].name != name
    test = Path(toy_study["data"]) / "test.parquet"
    import polars as pl

    pl.read_parquet(test).head(20).write_parquet(test)
    assert plan(toy_study)[0].runs[0].name != name


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"source": "eng_Latin"}, ConfigError, "no language 'eng_Latin'.*Did you mean 'eng_Latn'"),
        ({"targets": ["French"]}, ConfigError, "Its code is 'fra_Latn'"),
        ({"shots": 7}, DataError, "has 6 examples of the class 'sea'.*Set shots to 6 or less"),
        ({"layout": "only words {task:3}"}, LayoutError, "there is no text in it"),
        ({"layout": "{text}{tsk:3}"}, LayoutError, "Did you mean 'task'"),
        ({"task": "sib20"}, ConfigError, "Did you mean 'sib200'"),
        ({"data": "/nowhere"}, DataError, "There is no folder /nowhere"),
        ({"parts": {"task": {"trained": False}}}, ConfigError, "Nothing is trained"),
        ({"backbone": "pypi:e5"}, PolypromptError, "There is no backbone 'pypi:e5'"),
        ({"backbone": "./nowhere"}, PolypromptError, "There is no folder nowhere"),
        ({"backbone": {"name": "pypi:multilingual-e5-small", "attention": "causal"}}, ConfigError, "offers one_way, full"),
        ({"engine": {"kind": "cached"}, "backbone": {"name": "pypi:multilingual-e5-small", "attention": "full"}},
         ConfigError, "would not be exact"),
        ({"head": {"prototypes": {"descriptions": 0, "examples": 0}}}, ConfigError, "cannot both"),
        ({"backbone": "pypi:multilingual-e5-small", "layout": "{text}{task:600}"}, ConfigError,
         "has 512. Set the prompt's length to 256"),
        ({"parts": {"task": {"initial": "text"}}}, ConfigError, "needs words"),
        ({"parts": {"task": {"initial": {"kind": "file", "path": "x"}}}}, ConfigError, "no file 'x'"),
        ({"article_gap": 3}, ConfigError, "does not say that its ids are positions"),
        ({"shots": 0}, ConfigError, "shots"),
        ({"targets": []}, ConfigError, "targets"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_loads(toy_study, changes, kind, words):
    with pytest.raises(kind, match=f"(?s){words}"):
        plan(toy_study, **changes)


def test_a_data_folder_that_lacks_a_file_says_what_it_should_hold(toy_study):
    (Path(toy_study["data"]) / "test.parquet").unlink()
    with pytest.raises(DataError, match="no file .*test.parquet .*should hold: train.parquet, dev"):
        plan(toy_study)


def test_a_study_file_that_is_missing_or_no_yaml_is_explained(tmp_path):
    with pytest.raises(ConfigError, match="Cannot read the study"):
        load_study(str(tmp_path / "none.yaml"))
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_study(str(broken))
    broken.write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_study(str(broken))
    broken.write_text("just words")
    with pytest.raises(ConfigError, match="holds no settings"):
        load_study(str(broken))


def test_a_name_that_would_leave_the_output_folder_is_refused(toy_study):
    with pytest.raises(ConfigError, match="name"):
        build_study(yaml.safe_load(yaml.safe_dump(toy_study)) | {"name": "../up"}, "toy")


@pytest.mark.parametrize("name", ["a/b", "../x", "head", "", "1st", "a b"])
def test_parts_are_named_as_their_files_can_be(name):
    value = {"task": "sib200", "source": "eng_Latn", "parts": {name: {"kind": "lora"}}}
    with pytest.raises(ConfigError, match="Its file has its name"):
        build_study(value, "toy")
