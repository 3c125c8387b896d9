"""On a Ray cluster a study ends as it does anywhere, also when a worker is lost."""

import os
import signal

import pytest

from polyprompt.errors import ConfigError
from polyprompt.experiments.config import build_study
from polyprompt.experiments.launch import on_ray
from polyprompt.experiments.study import run_study, study_folders
from studies import left
from test_launch import finish, study_of

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.enable_socket,
    pytest.mark.filterwarnings("ignore"),  # Ray's own, of its threads and sockets
]
LAUNCH = {"kind": "ray", "count": 2}


@pytest.fixture(autouse=True, scope="module")
def _cluster(socket_enabled_for_module):
    """A cluster of this machine for all tests of this file; ended with them."""
    import ray

    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    first = {"worker_niceness": 0}  # else other tests on the same cores go before the actors
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        _system_config=first,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def socket_enabled_for_module():
    """Ray talks over sockets of this machine."""
    import pytest_socket

    pytest_socket.enable_socket()


def test_actors_leave_what_one_process_leaves(toy_study):
    whole, _ = finish(study_of(toy_study, "whole"))
    study, events = finish(study_of(toy_study, "several", launch=LAUNCH))
    assert left(study_folders(study)) == left(study_folders(whole))
    assert {event.worker for event in events if event.stage == "train"} == {0, 1}
    assert not (study.folder / "claims").exists()

    value = study_of(toy_study, "replaced", launch=LAUNCH)
    study, notes, killed = build_study(value, "toy"), [], False
    for event in run_study(study):
        notes += [event.note] if event.note else []
        if event.stage == "read" and not killed:
            killed = True
            os.kill(_pid_of_an_actor(), signal.SIGKILL)
    assert any("a worker was lost" in note for note in notes), notes
    assert left(study_folders(study)) == left(study_folders(whole))


def test_with_a_store_actors_put_their_runs_there_and_only_the_driver_schedules(
    toy_study, tmp_path, monkeypatch
):
    from polyprompt.experiments import remote

    output = f"file://{tmp_path / 'store'}"
    small = {"arms": {"behind": {}, "longer": {"layout": "{text}{task:4}"}}, "grid": {"seed": [0]}}
    whole, _ = finish(study_of(toy_study, "stored", **small))
    expected = left(study_folders(whole))
    monkeypatch.setenv("POLYPROMPT_CACHE", str(tmp_path / "cache"))
    study, _ = finish(study_of(toy_study, "stored", launch=LAUNCH, output=output, **small))
    assert study.folder.is_relative_to(tmp_path / "cache")
    assert left(study_folders(study)) == expected
    there = tmp_path / "store" / "stored"
    assert {p.parent.name for p in there.glob("*/scores.parquet")} == {
        folder.name for folder in study_folders(study)
    }
    assert remote.is_url(output)
    assert not list(there.glob("claims"))


def _pid_of_an_actor():
    """Find a process of an actor at work."""
    import psutil

    names = [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if "ray::Errand" in " ".join(process.info["cmdline"] or ())
    ]
    assert names
    return names[0]


def test_no_more_actors_are_asked_for_than_have_room(toy_study):
    small = {"arms": {"behind": {}, "longer": {"layout": "{text}{task:4}"}}, "grid": {"seed": [0]}}
    study, _ = finish(study_of(toy_study, "wide", launch=LAUNCH | {"cpus": 2}, **small))
    assert all(folder.is_complete() for folder in study_folders(study))
    with pytest.raises(ConfigError, match="64 cpus and 0 gpus has no room.*Set launch.cpus"):
        finish(study_of(toy_study, "none", launch=LAUNCH | {"cpus": 64}, **small))


def test_a_cluster_that_is_not_there_is_named(toy_study, monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    def refuses(**_):
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(ray, "init", refuses)
    launch = LAUNCH | {"address": "ray://nowhere:1"}
    with pytest.raises(
        ConfigError, match=r"cannot join the Ray cluster ray://nowhere:1.*ray start"
    ):
        finish(study_of(toy_study, "none", launch=launch))


def test_without_ray_it_is_said_what_to_install(toy_study, monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'polyprompt\[ray\]'"):
        finish(study_of(toy_study, "none", launch=LAUNCH))
    assert on_ray.Errand(tmp_path, str(tmp_path), 2).pid() == os.getpid()
