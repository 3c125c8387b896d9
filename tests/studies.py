"""What tests of whole studies share."""

import subprocess
import sys

FILES = ("predictions.parquet", "scores.parquet", "steps.jsonl")


def left(folders):
    """The bytes of everything that runs leave behind."""
    found = {}
    for folder in folders:
        files = [folder.path / name for name in FILES]
        files += sorted(folder.path.glob("parts/*")) + sorted(folder.path.glob("recorded/*"))
        found |= {f"{folder.name}/{path.name}": path.read_bytes() for path in files}
    return found


NURSERY = """
import os, random, signal, sys, time
import polars, torch, transformers
import polyprompt.experiments.results, polyprompt.models.load, polyprompt.models.embedding
from polyprompt.experiments import checkpoint
from polyprompt.experiments.config import load_study
from polyprompt.experiments.study import run_study

torch.set_num_threads(1)
checkpoint._SHARE = 0
rng, kills, names = random.Random(0), 0, ["killed-0"]
while True:  # forks of a process that has imported everything and begun nothing
    last = kills == int(sys.argv[2])
    pid = os.fork()
    if pid == 0:
        for _ in run_study(load_study(sys.argv[1], [f"name={names[-1]}"])):
            pass
        os._exit(0)
    if not last:
        time.sleep(rng.uniform(0.1, float(sys.argv[3])))
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    kills += code == -signal.SIGKILL
    if last or code not in {0, -signal.SIGKILL}:
        break
    if code == 0:  # on a quick machine: the next one is killed instead
        names.append(f"killed-{len(names)}")
print(f"ended with {code} after {kills} kills", *names, sep="\\n")
"""


def killed_and_resumed(path, kills, seconds):
    """Run a study that SIGKILL, which no program can answer, ends at random moments.

    Args:
        path: Of its settings.
        kills: After how many it is left to end.
        seconds: The most before each.

    Returns:
        The names under which it ended: several where it ended before it had been killed so often.
    """
    command = [sys.executable, "-W", "ignore", "-c", NURSERY, str(path), str(kills), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = done.stdout.splitlines()
    assert told[:1] == [f"ended with 0 after {kills} kills"], done.stdout + done.stderr
    return told[1:]
