"""Full fine-tuning: our direct engine against transformers' Trainer, one after the other.

Both begin with the same weights and move every parameter of the decoder by AdamW, batches of 8. The
Trainer learns the label word as the next word, padding a batch to its longest sentence and scoring
the whole vocabulary, as its documentation has it; then, as the best a careful user gets, a sequence
classifier. Ours packs sentences, scores the label words alone, and trains of the word table the
rows that occur.

``python benchmarks/full_vs_trainer.py [--dtype bfloat16]``
"""

import argparse
import copy
import statistics
import tempfile
import time

import common
import numpy as np
import torch
from transformers import (
    AutoTokenizer,
    BloomForSequenceClassification,
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from polyprompt.engine.direct import DirectEngine
from polyprompt.engine.engine import Prompts
from polyprompt.models.pypi import converted_folder

RATE, STEPS, WARM_UP = 1e-5, 5, 1


def main() -> None:
    """Time both sides, compose a whole run, print the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dtype", choices=common.DTYPES, default="float32")
    given = parser.parse_args()
    common.begin()
    texts = common.sentences()
    chosen = np.random.default_rng(0).choice(len(texts), common.EXAMPLES, replace=False)
    texts = [texts[index] for index in chosen]
    model = common.bloom(common.DTYPES[given.dtype])
    initial = copy.deepcopy(model.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(converted_folder("multilingual-e5-small"))
    tokenizer.padding_side = "left"
    costs = {}
    with common.peak_memory("ours"):
        costs["ours"] = ours(model, texts)
    model.load_state_dict(initial)
    with common.peak_memory("Trainer, next word"):
        collator = DataCollatorForSeq2Seq(tokenizer)
        costs["Trainer, next word"] = trainer(
            model, collator, [next_word(*p) for p in pairs(texts)]
        )
    model.load_state_dict(initial)
    config = copy.deepcopy(model.config)
    config.num_labels, config.pad_token_id = common.LABELS, tokenizer.pad_token_id
    classifier = BloomForSequenceClassification(config).to(model.dtype)
    classifier.transformer = model.transformer
    with common.peak_memory("Trainer, sequence classifier"):
        rows = [{"input_ids": t.tolist(), "labels": label} for t, label in pairs(texts)]
        collator = DataCollatorWithPadding(tokenizer)
        costs["Trainer, sequence classifier"] = trainer(classifier, collator, rows)
    for name, cost in costs.items():
        print(f"{name:<48} {cost.cpu:8.3f} CPU s {cost.wall:8.3f} s per step")
    mine, theirs, careful = costs.values()
    for kind in ("cpu", "wall"):
        own, whole, last = (getattr(cost, kind) for cost in (mine, theirs, careful))
        steps = common.STEPS
        print(
            f"{kind}: ours {steps} × {own:.2f} = {steps * own:.0f} s; theirs {steps * whole:.0f} s"
        )
        print(f"{kind}: with a sequence classifier ratio {last / own:.2f}")
    print(f"ratio {theirs.cpu / mine.cpu:.2f}")


def pairs(texts: list[np.ndarray]) -> list[tuple[np.ndarray, int]]:
    """Give every sentence a class."""
    return [(text, index % common.LABELS) for index, text in enumerate(texts)]


def next_word(text: np.ndarray, label: int) -> dict[str, list[int]]:
    """Write an example as a sentence whose last word is to be learned."""
    word = 100 + label
    return {"input_ids": [*text.tolist(), word], "labels": [-100] * len(text) + [word]}


class StepClock(TrainerCallback):
    """Times every step of a Trainer."""

    def __init__(self) -> None:
        self.costs: list[common.Cost] = []

    def on_step_begin(self, *_: object, **__: object) -> None:
        """Note the time."""
        self._began = time.process_time(), time.perf_counter()

    def on_step_end(self, *_: object, **__: object) -> None:
        """Note how long it took."""
        cpu, wall = self._began
        self.costs.append(common.Cost(time.process_time() - cpu, time.perf_counter() - wall))


def trainer(model, collator, rows: list[dict]) -> common.Cost:
    """Train with transformers' Trainer for a few steps; the median of a step."""
    clock = StepClock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=common.BATCH,
            max_steps=WARM_UP + STEPS,
            learning_rate=RATE,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        model.requires_grad_(requires_grad=True)
        Trainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            data_collator=collator,
            callbacks=[clock],
        ).train()
    model.requires_grad_(requires_grad=False).zero_grad(set_to_none=True)
    return median(clock.costs[WARM_UP:])


def ours(model, texts: list[np.ndarray]) -> common.Cost:
    """Train with the direct engine for a few steps; the median of a step."""
    backbone = common.wrapped(model)
    words = range(100, 100 + common.LABELS)
    trained = backbone.unfreeze([*words, *np.concatenate(texts).tolist()])
    parameters = list(trained.parameters.values())
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0, fused=True)
    engine, nothing = DirectEngine(backbone), Prompts((), ()).and_bare(backbone)
    rng, costs = np.random.default_rng(0), []
    for _ in range(WARM_UP + STEPS):
        rows = rng.choice(len(texts), common.BATCH, replace=False)
        with common.clock() as cost:
            states = engine.each([common.encoded(texts[i]) for i in rows], [0] * len(rows), nothing)
            scores = backbone.unembed(states.last, list(words))
            target = torch.from_numpy(rows % common.LABELS)
            optimiser.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(scores, target).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
        costs.append(cost[0])
    optimiser.zero_grad(set_to_none=True)
    backbone.freeze()
    return median(costs[WARM_UP:])


def median(costs: list[common.Cost]) -> common.Cost:
    """Take the median."""
    return common.Cost(
        statistics.median(c.cpu for c in costs), statistics.median(c.wall for c in costs)
    )


if __name__ == "__main__":
    main()
