"""Runs a study in several processes that share every step; started anew, so that it can fork."""

import sys

from accelerate import debug_launcher


def part(path: str) -> None:
    """Lead or follow, as the command line does."""
    import torch

    torch.set_num_threads(1)
    from polyprompt.experiments.config import load_study
    from polyprompt.experiments.launch.together import follow, follows
    from polyprompt.experiments.study import run_study

    study = load_study(path)
    if follows(study.settings.launch):
        follow(study.settings.launch)
        print("followed", flush=True)
        return
    for event in run_study(study):
        if event.note:
            print(event.note, flush=True)


if __name__ == "__main__":
    debug_launcher(part, (sys.argv[1],), num_processes=int(sys.argv[2]))
