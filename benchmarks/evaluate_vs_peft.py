"""Reading test sentences with N prompts: ours against PEFT, one prompt after another.

Eight sentences in each of five languages, read in five parts that take turns; PEFT in batches of 8
in the order of the data, one prompt timed and multiplied.

``python benchmarks/evaluate_vs_peft.py [--prompts N] [--dtype bfloat16]``
"""

import argparse

import common
import numpy as np
import torch
from peft import PromptTuningConfig, TaskType, get_peft_model
from torch import nn
from train_vs_peft import padded

from polyprompt.prediction.predict import answer
from polyprompt.training.member import prompts_of

LANGUAGES = ("eng_Latn", "fra_Latn", "zho_Hans", "hin_Deva", "swh_Latn")
PER_LANGUAGE = 8


def main() -> None:
    """Time both sides and print the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=1)
    parser.add_argument("--turns", type=int, default=2, help="of each of five parts")
    common.add_arguments(parser)
    given = parser.parse_args()
    common.begin()
    train = common.sentences()
    texts = [t for name in LANGUAGES for t in common.sentences((name,))[-PER_LANGUAGE:]]
    model = common.bloom(common.DTYPES[given.dtype])
    backbone = common.wrapped(model)
    members = common.members(backbone, train, [common.PROMPT] * given.prompts)
    engine = common.cached_engine(backbone)
    inputs = [common.encoded(text) for text in texts]
    config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=common.PROMPT)
    peft = get_peft_model(model, config)

    order = sorted(range(len(inputs)), key=lambda row: inputs[row].tokens)

    def ours(part: int) -> None:
        heads = [member.head for member in members]
        rows = [inputs[i] for i in order[part * common.BATCH : (part + 1) * common.BATCH]]
        for _ in answer(engine, prompts_of(members), heads, rows, bare=False):
            pass

    def peer(part: int, keep: int) -> None:
        read(peft, texts[part * common.BATCH : (part + 1) * common.BATCH], keep=keep)

    parts = []
    for part in range(len(texts) // common.BATCH):
        print(f"part {part + 1} (ours by length across languages, PEFT's in the data's order)")
        sides = {
            f"ours, {given.prompts} prompts": lambda part=part: ours(part),
            "PEFT, one prompt": lambda part=part: peer(part, 0),
        }
        if not given.documented_only:
            sides["PEFT, one prompt, logits_to_keep=1"] = lambda part=part: peer(part, 1)
        parts.append(common.take_turns(sides, given.turns, warm_up=int(part == 0)).values())
    mine, theirs, *careful = (common.total(costs) for costs in zip(*parts, strict=True))
    for kind in ("cpu", "wall"):
        own, whole = (getattr(cost, kind) for cost in (mine, theirs))
        print(f"{kind}: ours {own:.2f} s, theirs {given.prompts} × {whole:.2f} s")
        for cost in careful:
            ratio = given.prompts * getattr(cost, kind) / own
            print(f"{kind}: with logits_to_keep=1 ratio {ratio:.2f}")
        print(f"ratio {given.prompts * whole / own:.2f}")


@torch.no_grad()
def read(model: nn.Module, texts: list[np.ndarray], *, keep: int) -> None:
    """Score the label words of every sentence, in the order of the data."""
    for start in range(0, len(texts), common.BATCH):
        ids, mask = (x.to(model.device) for x in padded(texts[start : start + common.BATCH]))
        logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=keep).logits
        logits[:, -1, 100 : 100 + common.LABELS].argmax(1)


if __name__ == "__main__":
    main()
