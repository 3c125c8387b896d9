"""What status, scores and query say of a study, from its folder alone."""

import json
import subprocess
import sys

import polars as pl
import pytest
from typer.testing import CliRunner

from polyprompt.cli.main import app
from polyprompt.errors import ConfigError, StoreError
from polyprompt.experiments.claims import Claims
from polyprompt.experiments.config import build_study
from polyprompt.experiments.failures import describe, write_failure
from polyprompt.experiments.overview import State, read_plan, run_states
from polyprompt.experiments.stored import filtered, query, score_table
from polyprompt.experiments.study import run_study
from polyprompt.report.latex import latex_table, markdown_frame


@pytest.fixture
def study(toy_study):
    """A study of two arms and two seeds that has ended."""
    value = toy_study | {"arms": {"one": {}, "two": {"training.learning_rate": 0.01}}}
    built = build_study(value, "toy")
    list(run_study(built))
    return built.folder


def call(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def test_the_plan_names_runs_groups_and_what_sets_runs_apart(study):
    plan = read_plan(study)
    assert len(plan.runs) == 4
    assert [len(group) for group in plan.groups] == [4]
    assert {tuple(sorted(settings)) for settings in plan.runs.values()} == {
        ("arm", "seed", "training.learning_rate")
    }


def test_status_tells_done_running_failed_and_missing(study):
    one, two, three, _ = read_plan(study).runs
    for name in (one, two, three):
        (study / name / "scores.parquet").unlink()
    claims = Claims(study)
    claims.take([one])
    write_failure(study / two, describe(ValueError("no such thing\nat all")))
    states = {state.name: state for state in run_states(study, read_plan(study))}
    assert [str(states[n].state) for n in (one, two, three)] == ["running", "failed", "missing"]
    assert states[two].note == "ValueError: no such thing"
    assert sum(state.state is State.DONE for state in states.values()) == 1
    told = call("status", study).stdout
    assert "1 done, 1 running, 1 failed, 1 missing of 4 runs" in told
    assert "arm=one" in told
    assert "no such thing" in told
    assert "--retry-failed" in told
    found = json.loads(call("status", study, "--json").stdout)
    assert found[0]["counts"] == {"done": 1, "running": 1, "failed": 1, "missing": 1}
    claims.release([one])


def test_status_answers_while_a_search_goes_on_and_afterwards(toy_study):
    search = {"seeds": [7], "grid": {"training.learning_rate": [0.01, 0.05]}}
    study = build_study(toy_study | {"search": search}, "toy")
    for event in run_study(study):
        if event.stage == "train":
            break
    assert "search: 2 missing of 2 runs" in call("status", study.folder).stdout
    list(run_study(study))
    told = call("status", study.folder).stdout
    assert "search: 2 done of 2 runs" in told
    assert f"{study.folder}: 2 done of 2 runs" in told


def test_a_folder_that_is_no_study_is_told_apart(tmp_path):
    with pytest.raises(StoreError, match="There is no study"):
        read_plan(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="no study's folder, or was made by an earlier version"):
        read_plan(tmp_path)
    (tmp_path / "plan.json").write_text('{"runs": 3}')
    with pytest.raises(StoreError, match="damaged"):
        read_plan(tmp_path)


def test_scores_carry_what_sets_their_runs_apart(study):
    table = score_table(study)
    whole = pl.concat([pl.read_parquet(p) for p in study.glob("*/scores.parquet")])
    assert table.height == whole.height
    assert {"arm", "seed", "training.learning_rate"} < set(table.columns)
    assert set(table.filter(pl.col("arm") == "two")["training.learning_rate"]) == {0.01}
    one = filtered(table, "language = 'swh_Latn' and baseline is null and metric = 'accuracy'")
    assert one.height == 4
    with pytest.raises(ConfigError, match="Cannot select where lang = 1.*language"):
        filtered(table, "lang = 1")
    with pytest.raises(ConfigError, match="Cannot select where"):
        filtered(table, "language = = ")


def test_scores_of_a_study_of_an_earlier_version_come_from_configurations(study):
    with_plan = score_table(study)
    (study / "plan.json").unlink()
    without = score_table(study)
    assert without.height == with_plan.height
    assert {"arm", "seed", "training.learning_rate"} < set(without.columns)


def test_queries_reach_scores_runs_and_predictions(study):
    mean = query(
        study,
        "select arm, avg(value) as accuracy from scores where baseline is null and "
        "metric = 'accuracy' group by arm order by arm",
    )
    table = score_table(study).filter(pl.col("baseline").is_null(), metric="accuracy")
    expected = table.group_by("arm").agg(pl.col("value").mean()).sort("arm")
    assert mean["accuracy"].to_list() == pytest.approx(expected["value"].to_list())
    joined = query(
        study,
        "select runs.seed, count(*) as n from predictions join runs on predictions.run = runs.run "
        "where baseline is null and label = prediction group by runs.seed order by runs.seed",
    )
    right = pl.concat([pl.read_parquet(p) for p in study.glob("*/predictions.parquet")])
    right = right.filter(pl.col("baseline").is_null(), pl.col("label") == pl.col("prediction"))
    assert joined["n"].sum() == right.height
    with pytest.raises(ConfigError, match=r"tables: scores \(run, .*; runs \(run, state"):
        query(study, "select foo from scores")
    with pytest.raises(ConfigError, match="Cannot answer the query"):
        query(study, "selec")


@pytest.mark.parametrize("name", ["csv", "parquet", "markdown", "latex", "json"])
def test_scores_are_written_in_every_format(study, tmp_path, name):
    file = tmp_path / "table"
    where = ["--where", "baseline is null", "--format", name]
    shown = call("scores", study, *where)
    assert shown.exit_code == 0
    assert call("scores", study, *where, "-o", file).exit_code == 0
    assert file.read_bytes() == shown.stdout_bytes
    table = filtered(score_table(study), "baseline is null")
    if name == "parquet":
        assert pl.read_parquet(file).equals(table)
    elif name == "csv":
        assert pl.read_csv(file, schema_overrides={"baseline": pl.String}).equals(table)
    elif name == "json":
        assert pl.read_ndjson(file)["value"].equals(table["value"])
    elif name == "latex":
        assert file.read_text().count(r"\\") == table.height + 1
        assert r"eng\_Latn" in file.read_text()
    else:
        assert len(file.read_text().splitlines()) == table.height + 2


def test_a_folder_is_no_file_to_write_to(study, tmp_path):
    with pytest.raises(Exception, match="is a folder: name a file"):
        CliRunner().invoke(
            app, ["scores", str(study), "-o", str(tmp_path)], standalone_mode=False,
            catch_exceptions=False,
        )  # fmt: skip


def test_a_query_with_lists_is_written_as_csv(study):
    shown = call("query", study, "select scores from predictions limit 2")
    assert len(shown.stdout.splitlines()) == 3
    nested = "select array_agg(scores) as s from predictions group by language"
    assert len(call("query", study, nested).stdout.splitlines()) == 5


def test_runs_are_asked_about_before_any_is_complete(study):
    for path in study.glob("*/scores.parquet"):
        path.unlink()
    assert query(study, "select * from runs where state = 'missing'").height == 4
    with pytest.raises(StoreError, match="No run of .* is complete"):
        query(study, "select * from scores")


def test_signs_of_latex_and_markdown_are_escaped():
    frame = pl.DataFrame({"a_b": ["50 % & more", None], "n": [1.5, 2.0]})
    assert r"50 \% \& more & 1.5000 \\" in latex_table(frame)
    assert r"a\_b & n \\" in latex_table(frame)
    assert r"| x\|y |" in markdown_frame(pl.DataFrame({"t": ["x|y"]}))


def test_a_damaged_table_of_scores_is_named(study):
    path = next(study.glob("*/scores.parquet"))
    path.write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=f"Cannot read {path}.*Delete"):
        score_table(study)


def test_status_needs_no_torch(study):
    code = (
        "import sys; from polyprompt.cli.main import app; "
        f"app(['status', {str(study)!r}], standalone_mode=False); "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules; "
        f"app(['scores', {str(study)!r}], standalone_mode=False); "
        "assert 'torch' not in sys.modules and 'scipy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
