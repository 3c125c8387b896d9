"""A study of 24 runs, six prompt lengths × four seeds, trained together, against PEFT one by one.

PEFT's runs of one length cost the same, so one of each length is timed, over a few steps.

``python benchmarks/sweep_vs_peft.py [--dtype bfloat16]``
"""

import common
import numpy as np
from peft import PromptTuningConfig, TaskType, get_peft_model
from train_vs_peft import OurStep, PeftStep, arguments

from polyprompt.engine.arrangement import Shape

LENGTHS, SEEDS = (1, 2, 5, 10, 20, 30), 4


def main() -> None:
    """Time both sides, compose the study, print the ratio."""
    given = arguments()
    common.begin()
    texts = common.sentences()
    model = common.bloom(common.DTYPES[given.dtype])
    backbone = common.wrapped(model)
    lengths = [length for length in LENGTHS for _ in range(SEEDS)]
    runs = common.members(backbone, texts, lengths, draws=SEEDS)
    engine = common.cached_engine(backbone)
    with common.clock() as encode:
        for run in runs:
            engine.keep(run.train, Shape((0,)))
    ours = OurStep(engine, runs)
    sums: dict[str, list[common.Cost]] = {}
    for length in LENGTHS:
        config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=length)
        peft = get_peft_model(model, config)
        first = int(length == LENGTHS[0])
        whole = {f"PEFT, length {length}": PeftStep(peft, texts, keep=0)}
        last = {f"PEFT, length {length}, logits_to_keep=1": PeftStep(peft, texts, keep=1)}
        sums.setdefault("whole", []).extend(common.take_turns(whole, 3, first).values())
        if not given.documented_only:
            sums.setdefault("last", []).extend(common.take_turns(last, 1, first).values())
    mine = common.take_turns({"ours, all 24 runs": ours}, turns=3)["ours, all 24 runs"]
    for kind in ("cpu", "wall"):
        own = getattr(encode[0], kind) + common.STEPS * getattr(mine, kind)
        whole, *careful = (
            SEEDS * common.STEPS * np.sum([getattr(c, kind) for c in costs])
            for costs in sums.values()
        )
        print(f"{kind}: ours {own:.0f} s for 24 runs, theirs {whole:.0f} s")
        for last in careful:
            print(f"{kind}: with logits_to_keep=1 ratio {last / own:.2f}")
        print(f"ratio {whole / own:.2f}")


if __name__ == "__main__":
    main()
