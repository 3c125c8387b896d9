"""Whoever computes a study – this process, several, a Ray cluster – leaves the same bytes behind."""

import os
import re
import signal
import subprocess
import sys

import pytest
import yaml

from conftest import toy_settings, write_toy_task
from polyprompt.errors import ConfigError, StoreError
from polyprompt.experiments.claims import Claims
from polyprompt.experiments.config import build_study
from polyprompt.experiments.failures import FailedRunsError, failure_of
from polyprompt.experiments.launch import worker as worker_module
from polyprompt.experiments.launch.jobs import Ending, Job, Outcome
from polyprompt.experiments.launch.processes import Place, Processes, within
from polyprompt.experiments.launch.schedule import Schedule
from polyprompt.experiments.plan import plan_study
from polyprompt.experiments.study import run_study, study_folders
from studies import killed_and_resumed, left


def study_of(toy_study, name, **changes):
    """Twelve runs in six groups: two layouts, both kinds of training, seeds."""
    return (
        toy_study
        | {
            "name": name,
            "engine": {"threads": 1, "resume_seconds": 0, "tokens_per_batch": 256},
            "arms": {
                "behind": {},
                "longer": {"layout": "{text}{task:4}"},
                "in front": {"layout": "{task:2}{text}"},
                "full": {"parts.model": {"kind": "full", "save": False}, "baselines": False},
            },
            "grid": {"seed": [0, 1, 2]},
        }
        | changes
    )


def finish(value):
    study = build_study(value, "toy")
    return study, list(run_study(study))


def program(path, *overrides):
    """The program on a study, as its user starts it."""
    command = [sys.executable, "-m", "polyprompt.cli.main", "run", str(path), *overrides]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def toy_task(tmp_path_factory):
    """One task for all tests of this file, which all leave the same of it."""
    return write_toy_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def whole(toy_task, tiny_folder, tmp_path_factory):
    value = toy_settings(toy_task, tiny_folder, tmp_path_factory.mktemp("whole"))
    study, _ = finish(study_of(value, "whole"))
    return left(study_folders(study))


def test_processes_leave_what_one_leaves(toy_study, whole):
    launch = {"kind": "processes", "count": 2}
    study, events = finish(study_of(toy_study, "several", launch=launch))
    assert left(study_folders(study)) == whole
    assert {event.worker for event in events if event.stage == "train"} == {0, 1}
    done = [event.done for event in events if event.stage == "study"]
    assert done == sorted(done)
    assert done[-1] == 12
    assert not (study.folder / "claims").exists()
    assert not (study.folder / "groups").exists()


def test_killed_at_ten_random_moments_and_resumed_it_ends_as_one_left_alone(
    toy_study, tmp_path, whole
):
    value = study_of(toy_study, "killed")
    path = tmp_path / "killed.yaml"
    path.write_text(yaml.safe_dump(value))
    for name in killed_and_resumed(path, kills=10, seconds=1.0):
        assert left(study_folders(build_study(value | {"name": name}, "toy"))) == whole


def test_two_programs_share_a_study(toy_study, tmp_path, whole):
    value = study_of(toy_study, "shared")
    path = tmp_path / "shared.yaml"
    path.write_text(yaml.safe_dump(value))
    programs = [program(path), program(path)]
    told = [one.communicate(timeout=250)[0] for one in programs]
    assert [one.returncode for one in programs] == [0, 0], told
    study = build_study(value, "toy")
    assert left(study_folders(study)) == whole
    groups = [len(re.findall(r"^\d+ runs?; ", text, re.MULTILINE)) for text in told]
    assert sum(groups) == len(plan_study(study))  # nothing was computed twice
    assert all(groups), told
    assert not (study.folder / "claims").exists()


def test_a_worker_that_is_killed_is_replaced(toy_study, whole):
    value = study_of(toy_study, "replaced", launch={"kind": "processes", "count": 2})
    study, killed, notes = build_study(value, "toy"), False, []
    for event in run_study(study):
        notes += [event.note] if event.note else []
        if event.stage == "read" and not killed:
            killed = True
            import multiprocessing as mp

            os.kill(mp.active_children()[0].pid, signal.SIGKILL)
    assert any("a worker was lost (it was ended by SIGKILL" in note for note in notes)
    assert left(study_folders(study)) == whole


def test_workers_end_with_the_program_that_is_interrupted(toy_study, tmp_path):
    import psutil

    value = study_of(
        toy_study,
        "interrupted",
        launch={"kind": "processes", "count": 2},
        training={"epochs": 400, "learning_rate": 0.05, "batch_size": 4},
    )
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(value))
    one = program(path)
    for line in one.stdout:
        if "training: " in line:
            break
    children = psutil.Process(one.pid).children(recursive=True)
    one.send_signal(signal.SIGINT)
    told = one.communicate(timeout=60)[0]
    assert one.returncode == 130
    assert "stopped. What was complete is kept" in told
    assert not psutil.wait_procs(children, timeout=20)[1]
    assert not (tmp_path / "runs" / "interrupted" / "claims").exists()


def jobs_of(toy_study, **changes):
    study = build_study(study_of(toy_study, "jobs", **changes), "toy")
    return study, [Job(group, study.folder) for group in plan_study(study)]


def test_a_job_with_which_workers_are_lost_again_and_again_has_failed(toy_study):
    arms = {"full": {"parts.model": {"kind": "full", "save": False}, "baselines": False}}
    study, jobs = jobs_of(toy_study, arms=arms, grid={"seed": [0]})
    schedule = Schedule(jobs, 1, 0)
    lost = Outcome(Ending.LOST, {"error": "it was ended by SIGKILL"})
    for _ in range(2):
        assert "go on with another" in schedule.ended(schedule.next(), lost)[0]
    schedule.ended(schedule.next(), lost)
    assert schedule.is_over
    failure = failure_of(study.folder / jobs[0].names[0])
    assert "3 workers were lost with it, the last one so: it was ended by SIGKILL" in failure.error


def test_a_job_that_fits_what_is_loaded_comes_first(toy_study):
    from polyprompt.capabilities import BackboneSettings

    _, jobs = jobs_of(toy_study)
    schedule = Schedule(jobs, 12, 0)
    other = BackboneSettings(name="another")
    assert schedule.next(other) is jobs[0]
    assert schedule.next(jobs[1].group.runs[0].settings.backbone) is jobs[1]


def claimed_by_another(toy_study, monkeypatch):
    """A study of one run that another program has claimed."""
    from polyprompt.experiments.launch import schedule as module

    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    value = study_of(toy_study, "waits", arms={"behind": {}}, grid={"seed": [0]})
    study = build_study(value, "toy")
    other = Claims(study.folder)
    name = plan_study(study)[0].runs[0].name
    assert other.take([name])
    return study, other, name


def test_runs_that_others_compute_are_waited_for_and_then_taken_over(toy_study, monkeypatch):
    study, other, name = claimed_by_another(toy_study, monkeypatch)
    notes = []
    for event in run_study(study):
        if event.note:
            notes.append(event.note)
        if "waiting" in event.note:
            other.release([name])
    assert any(f"waiting for 1 runs that process {os.getpid()}" in note for note in notes)
    assert study_folders(study)[0].is_complete()


def test_a_failure_of_another_program_is_not_tried_again_by_those_that_wait(toy_study, monkeypatch):
    from polyprompt.experiments.failures import describe, write_failure

    study, other, name = claimed_by_another(toy_study, monkeypatch)

    def watch():
        for event in run_study(study):
            if "waiting" in event.note:
                write_failure(study.folder / name, describe(ValueError("elsewhere")))
                other.release([name])

    with pytest.raises(FailedRunsError, match="1 of 1 runs failed"):
        watch()


def test_a_worker_whose_claim_was_taken_over_leaves_the_runs_alone(toy_study, monkeypatch):
    _, jobs = jobs_of(toy_study, arms={"behind": {}}, grid={"seed": [0]})
    claims = Claims(jobs[0].study)
    worker = worker_module.Worker(claims)
    events, outcome = worker.compute(jobs[0]), None
    try:
        while True:
            if next(events).stage == "read":
                monkeypatch.setattr(Claims, "lost", lambda *_: True)
    except StopIteration as end:
        outcome = end.value
    assert outcome.ending is Ending.BUSY
    assert "taken these runs over" in outcome.note
    assert not (jobs[0].study / jobs[0].names[0] / "scores.parquet").exists()


def test_a_full_disk_in_a_worker_stops_the_study_and_it_resumes(toy_study, whole, tmp_path):
    launch, arms = (
        {"kind": "processes", "count": 2},
        {"behind": {}, "longer": {"layout": "{text}{task:4}"}},
    )
    value = study_of(toy_study, "full", launch=launch, arms=arms)
    study = build_study(value, "toy")
    name = plan_study(study)[-1].runs[0].name
    study.folder.mkdir(parents=True)
    (study.folder / name).write_text("a file where a folder has to be")
    with pytest.raises(
        StoreError, match=f"Cannot write .*{name}.*Nothing that was complete is lost"
    ):
        list(run_study(study))
    (study.folder / name).unlink()
    list(run_study(study))
    found = left(study_folders(study))
    assert found
    assert found.items() <= whole.items()


def test_workers_share_the_cores_unless_threads_are_set(toy_study):
    _, jobs = jobs_of(toy_study)
    assert within(jobs[0], Place(3)).group.engine.threads == 1
    _, jobs = jobs_of(toy_study, engine={})
    assert within(jobs[0], Place(3)).group.engine.threads == 3


def test_an_idle_worker_that_is_lost_stops_nothing(toy_study):
    from polyprompt.experiments.events import Event
    from polyprompt.experiments.launch.driver import drive
    from polyprompt.experiments.launch.pools import Pool

    class Told(Pool):
        """Two workers: the first ends its job and is lost, then the other ends its own."""

        def __init__(self):
            self.started, self.sent = [], []
            self.script = [
                [(0, Outcome(Ending.DONE)), (0, Outcome(Ending.LOST))],
                [(1, Event("train", 1, 2)), (1, Outcome(Ending.DONE))],
            ]

        def start(self, worker):
            self.started.append(worker)

        def send(self, worker, job):
            self.sent.append((worker, job))

        def messages(self, timeout_seconds):
            return self.script.pop(0)

        def close(self):
            self.script = None

    arms = {"behind": {}, "in front": {"layout": "{task:2}{text}"}}
    _, jobs = jobs_of(toy_study, arms=arms)
    pool = Told()
    events = list(drive(Schedule(jobs, 6, 0), pool, 2))
    assert pool.started == [0, 1]
    assert pool.script is None
    assert events[-1].done == 6


def test_what_another_program_has_completed_is_not_computed_again(toy_study):
    study, jobs = jobs_of(toy_study, arms={"behind": {}})
    smaller = study_of(toy_study, "jobs", arms={"behind": {}}, grid={"seed": [0, 1]})
    list(run_study(build_study(smaller, "toy")))
    events, told = worker_module.Worker(Claims(study.folder)).compute(jobs[0]), []
    told = [event.note for event in events]
    assert any(note.startswith("1 runs; ") for note in told)
    assert all(folder.is_complete() for folder in study_folders(study))


def test_time_left_is_that_of_the_study_behind_its_search(monkeypatch):
    from polyprompt.cli import pace as module
    from polyprompt.experiments.events import Event

    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    pace = module.Pace()
    pace.follow(Event("study", 0, 20))
    now[0] = 600.0
    pace.follow(Event("study", 20, 20))
    pace.follow(Event("study", 0, 100))
    now[0] = 660.0
    pace.follow(Event("study", 10, 100))
    assert pace.seconds_left() == pytest.approx(540)
    assert pace.left() == "about 9 min left"


def test_a_pool_without_workers_has_nothing_to_tell(tmp_path):
    pool = Processes(tmp_path, [Place(1)])
    assert pool.messages(0.01) == []
    pool.close()


def test_an_unknown_launch_is_refused(toy_study):
    with pytest.raises(ConfigError, match="launch.kind"):
        build_study(toy_study | {"launch": {"kind": "slurm"}}, "toy")
