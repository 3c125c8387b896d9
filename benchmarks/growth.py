"""How cost grows with sentences, languages, runs, prompt length and width: exponents of powers.

A smaller decoder (8 layers of 512) so that all points fit into minutes; every point is the median
of three. ``python benchmarks/growth.py``
"""

import common
import numpy as np
from train_vs_peft import OurStep

from polyprompt.engine.arrangement import Shape
from polyprompt.prediction.predict import answer
from polyprompt.training.member import prompts_of

SIZES = {"hidden_size": 512, "n_layer": 8, "n_head": 8, "vocab_size": 250880}
LANGUAGES = (
    "eng_Latn",
    "fra_Latn",
    "zho_Hans",
    "hin_Deva",
    "swh_Latn",
    "deu_Latn",
    "spa_Latn",
    "rus_Cyrl",
)
LIMITS = {"sentences": 1.05, "languages": 1.05, "runs": 1.05, "prompt length": 1.1}


def main() -> None:
    """Measure every axis and print its exponent."""
    common.begin()
    model = common.bloom(**SIZES)
    backbone = common.wrapped(model)
    texts = common.sentences()
    costs = {
        "sentences": sentences(backbone, texts),
        "languages": languages(backbone),
        "runs": steps(backbone, texts, {n: [common.PROMPT] * n for n in (1, 2, 4, 8)}),
        "prompt length": steps(backbone, texts, {n: [n] * 4 for n in (5, 10, 20, 40)}),
        "width": widths(texts),
    }
    for axis, seconds in costs.items():
        power = exponent(seconds)
        limit = LIMITS.get(axis)
        print(
            f"{axis:<16} exponent {power:5.2f}" + (f" (at most {limit})" if limit else " (about 2)")
        )
    print(f"ratio {max(exponent(costs[axis]) / limit for axis, limit in LIMITS.items()):.2f}")


def exponent(seconds: dict[int, float]) -> float:
    """Fit cost = constant × size ** exponent."""
    return float(np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)[0])


def measure(name: str, points: dict[int, object]) -> dict[int, float]:
    """Time every point, taking turns; CPU seconds by size."""
    costs = common.take_turns({f"{name} {n}": step for n, step in points.items()}, turns=3)
    return dict(zip(points, (cost.cpu for cost in costs.values()), strict=True))


def sentences(backbone, texts: list[np.ndarray]) -> dict[int, float]:
    """Read more and more sentences of one language with one prompt."""
    return measure("sentences", {n: reader(backbone, texts[:n]) for n in (32, 64, 128, 256)})


def languages(backbone) -> dict[int, float]:
    """Read 32 sentences of more and more languages."""
    each = [common.sentences((name,))[-32:] for name in LANGUAGES]
    points = {n: [t for texts in each[:n] for t in texts] for n in (1, 2, 4, 8)}
    tokens = {n: sum(map(len, rows)) for n, rows in points.items()}
    print(f"tokens by number of languages: {tokens}; cost is taken per token of their mean")
    seconds = measure("languages", {n: reader(backbone, rows) for n, rows in points.items()})
    return {n: seconds[n] / tokens[n] * n * tokens[8] / 8 for n in seconds}


def steps(backbone, texts: list[np.ndarray], lengths: dict[int, list[int]]) -> dict[int, float]:
    """Take a training step of runs of these prompt lengths."""
    points = {}
    for n, of_runs in lengths.items():
        members = common.members(backbone, texts, of_runs)
        engine = common.cached_engine(backbone)
        for member in members:
            engine.keep(member.train, Shape((0,)))
        points[n] = OurStep(engine, members)
    return measure("step", points)


def widths(texts: list[np.ndarray]) -> dict[int, float]:
    """Take a training step at growing width."""
    points = {}
    for width in (256, 512, 1024):
        backbone = common.wrapped(common.bloom(**(SIZES | {"hidden_size": width})))
        members = common.members(backbone, texts, [common.PROMPT] * 4)
        engine = common.cached_engine(backbone)
        for member in members:
            engine.keep(member.train, Shape((0,)))
        points[width] = OurStep(engine, members)
    return measure("width", points)


def reader(backbone, texts: list[np.ndarray]):
    """Give a call that reads texts with one prompt."""
    (member,) = common.members(backbone, [*texts, *texts], [common.PROMPT])
    engine = common.cached_engine(backbone)
    inputs = [common.encoded(text) for text in texts]

    def read() -> None:
        for _ in answer(engine, prompts_of([member]), [member.head], inputs, bare=False):
            pass

    return read


if __name__ == "__main__":
    main()
