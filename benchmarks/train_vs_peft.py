"""Training a soft prompt: our cached engine against PEFT's prompt tuning as it is documented.

``python benchmarks/train_vs_peft.py [--runs N] [--dtype bfloat16]``
"""

import argparse
from collections.abc import Callable, Mapping

import common
import numpy as np
import torch
from peft import PromptTuningConfig, TaskType, get_peft_model
from torch import Tensor, nn

from polyprompt.engine.arrangement import Shape
from polyprompt.engine.cached import CachedEngine
from polyprompt.training.loop import Training
from polyprompt.training.member import Member


def main() -> None:
    """Time both sides, compose a whole run, print the ratio."""
    given = arguments()
    common.begin()
    texts = common.sentences()
    model = common.bloom(common.DTYPES[given.dtype])
    backbone = common.wrapped(model)
    runs = common.members(backbone, texts, [common.PROMPT] * given.runs)
    engine = common.cached_engine(backbone)
    config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=common.PROMPT)
    peft = get_peft_model(model, config)
    peers = {"PEFT, as documented": PeftStep(peft, texts, keep=0)}
    if not given.documented_only:
        peers["PEFT, logits_to_keep=1"] = PeftStep(peft, texts, keep=1)
    compare(engine, runs, OurStep(engine, runs), peers)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1)
    common.add_arguments(parser)
    return parser.parse_args()


def compare(
    engine: CachedEngine,
    runs: list[Member],
    ours: "OurStep",
    peers: Mapping[str, Callable[[], None]],
) -> None:
    """Time our step and theirs, and print what whole runs cost."""
    with common.peak_memory("ours: encoding and keeping"), common.clock() as encode:
        for run in runs:
            engine.keep(run.train, Shape((common.PROMPT,)))
    for name, step in {"ours": ours, **peers}.items():
        with common.peak_memory(f"{name}: one step"):
            step()
    costs = common.take_turns({f"ours, {len(runs)} runs": ours, **peers})
    for kind in ("cpu", "wall"):
        report(kind, *(getattr(c, kind) for c in (encode[0], *costs.values())), runs=len(runs))


def report(
    kind: str, encode: float, mine: float, theirs: float, *careful: float, runs: int
) -> None:
    """Compose a whole run from its steps and print the ratio."""
    steps = common.STEPS
    ours = encode + steps * mine
    print(
        f"{kind}: ours {encode:.1f} + {steps} × {mine:.3f} = {ours:.1f} s for {runs} runs; "
        f"theirs {runs} × {steps} × {theirs:.3f} = {runs * steps * theirs:.1f} s"
    )
    for last in careful:
        print(f"{kind}: with logits_to_keep=1 ratio {runs * steps * last / ours:.2f}")
    print(f"ratio {runs * steps * theirs / ours:.2f}")


class OurStep:
    """One optimiser step of all runs."""

    def __init__(self, engine: CachedEngine, members: list[Member]) -> None:
        self._training = Training(engine, members)
        self._training.step = 0
        self._streams = [member.batches() for member in members]

    def __call__(self) -> None:
        """Take it."""
        rows = {run: next(stream) for run, stream in enumerate(self._streams)}
        self._training.take_step(rows)


class PeftStep:
    """One optimiser step of PEFT: a batch padded to its longest sentence, every position scored."""

    def __init__(self, model: nn.Module, texts: list[np.ndarray], *, keep: int) -> None:
        self.model, self._texts, self._keep = model, texts, keep
        trained = [p for p in model.parameters() if p.requires_grad]
        self._optimiser = torch.optim.AdamW(trained, lr=0.01)
        self._rng = np.random.default_rng(0)

    def __call__(self) -> None:
        """Take it."""
        rows = [self._texts[i] for i in self._rng.choice(len(self._texts), common.BATCH)]
        ids, mask = (x.to(self.model.device) for x in padded(rows))
        if self._keep:
            out = self.model(input_ids=ids, attention_mask=mask, logits_to_keep=1)
            loss = torch.nn.functional.cross_entropy(out.logits[:, -1].float(), ids[:, -1])
        else:
            labels = ids.masked_fill(mask == 0, -100)
            loss = self.model(input_ids=ids, attention_mask=mask, labels=labels).loss
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()


def padded(rows: list[np.ndarray], width: int = 0) -> tuple[Tensor, Tensor]:
    """Pad sentences on the left, as decoders are batched."""
    width = max(width, *(len(row) for row in rows))
    ids = torch.full((len(rows), width), 3)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, width - len(row) :] = torch.from_numpy(row)
        mask[index, width - len(row) :] = 1
    return ids, mask


if __name__ == "__main__":
    main()
