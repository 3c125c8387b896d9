"""Programs that are given one study keep out of each other's way; whoever has gone is replaced."""

import os
import signal
import subprocess
import sys
import time

import pytest

from polyprompt.errors import StoreError
from polyprompt.experiments import claims as module
from polyprompt.experiments.claims import Claims, claimed_runs, owner_of

CLAIM = """
import sys, time
from pathlib import Path
from polyprompt.experiments.claims import Claims
claims = Claims(Path(sys.argv[1]))
assert claims.take(sys.argv[2:])
print("taken", flush=True)
time.sleep(60)
"""


def claimant(study, *runs):
    """A process that has claimed runs, and holds them."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLAIM, str(study), *runs], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "taken\n"
    return process


def test_runs_are_claimed_all_or_none(tmp_path):
    first, second = Claims(tmp_path), Claims(tmp_path)
    assert first.take(["b", "c"])
    assert not second.take(["a", "b"])
    assert claimed_runs(tmp_path) == {"b", "c"}
    assert second.take(["a"])
    first.release(["b", "c"])
    assert second.take(["b", "c"])
    second.release(["a", "b", "c"])
    assert not (tmp_path / "claims").exists()


def test_a_claim_names_its_owner_and_his_last_sign(tmp_path):
    claims = Claims(tmp_path)
    claims.take(["a"])
    owner = owner_of(tmp_path, "a")
    assert (owner.pid, owner.is_alive) == (os.getpid(), True)
    assert 0 <= owner.quiet_seconds < 5
    assert str(os.getpid()) in str(owner)
    assert owner_of(tmp_path, "b") is None
    claims.release(["a"])
    assert owner_of(tmp_path, "a") is None


def test_what_another_process_has_is_left_to_it_until_it_is_killed(tmp_path):
    process = claimant(tmp_path, "a", "b")
    claims = Claims(tmp_path)
    try:
        assert not claims.take(["a"])
        assert [owner.pid for owner in claims.owners(["a", "b"])] == [process.pid]
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not owner_of(tmp_path, "a").is_alive
        assert any(claims.take(["a"]) or time.sleep(0.1) for _ in range(20))
        assert owner_of(tmp_path, "a").pid == os.getpid()
    finally:
        process.kill()
        process.stdout.close()


def test_one_that_was_stopped_for_long_is_replaced_and_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.6)
    first, second = Claims(tmp_path), Claims(tmp_path)
    assert first.take(["a"])
    first._leases["a"]._stop_heartbeat()  # what a machine's sleep does to it
    taken_after = next(seconds for seconds in range(40) if second.take(["a"]) or time.sleep(0.1))
    assert taken_after >= 4  # not before the lease has run out
    assert not second.lost(["a"])
    second.release(["a"])


def test_a_claim_that_was_taken_over_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.3)
    claims = Claims(tmp_path)
    assert claims.take(["a"])
    (tmp_path / "claims" / "a.lock").unlink()  # as whoever takes it over does
    deadline = time.monotonic() + 10
    while not claims.lost(["a"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert claims.lost(["a"])
    claims.release(["a"])


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "claims").write_text("a file in its place")
    with pytest.raises(StoreError, match="Cannot write .*claims.*output=FOLDER"):
        Claims(tmp_path).take(["a"])


def test_a_folder_that_others_take_away_is_made_again(tmp_path, monkeypatch):
    claims, made = Claims(tmp_path), []
    mkdir = type(tmp_path).mkdir

    def make_and_lose(self, *given, **named):
        mkdir(self, *given, **named)
        made.append(self)
        if self.name == "claims" and len(made) < 5:
            self.rmdir()

    monkeypatch.setattr(type(tmp_path), "mkdir", make_and_lose)
    assert claims.take(["a"])
    assert len(made) >= 5  # filelock makes it, too
    claims.release(["a"])
