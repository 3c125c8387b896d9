"""Tables of what runs recorded: alignment of layers, attention, paths of prompts."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from polyprompt.analysis.correlation import Correlation
from polyprompt.analysis.epochs import Curve
from polyprompt.analysis.facts import TITLES
from polyprompt.analysis.prompt_path import COMPONENTS, PathFacts
from polyprompt.analysis.representation import Alignment
from polyprompt.records import KINDS, READERS
from polyprompt.report.account_tables import coefficient
from polyprompt.report.score_tables import Table


def alignment_table(title: str, pooled: str, found: Alignment) -> Table:
    """Tabulate how alike languages' states are to the source's, layer by layer."""
    low, high = found.interval()
    rows = tuple(
        (
            _layer(layer),
            f"{found.mean[layer]:.3f}",
            f"{low[layer]:.3f}–{high[layer]:.3f}",
            f"{found.shuffled[layer]:+.3f}",
            *(f"{value:.3f}" for value in np.quantile(found.cka[layer], [0, 0.5, 1])),
        )
        for layer in range(len(found.mean))
    )
    columns = (
        "state", "CKA with the source", "95 % interval", "shuffled", "least", "median", "most",
    )  # fmt: skip
    shown = f"{title}: alignment of {pooled}, {len(found.languages)} languages"
    return Table(shown, columns, rows, "lrrrrrr")


def change_table(
    title: str,
    pooled: str,
    change: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
) -> Table:
    """Tabulate the difference of two settings' alignment, layer by layer."""
    rows = tuple(
        (_layer(layer), f"{value:+.3f}", f"[{low:+.3f}, {high:+.3f}]")
        for layer, (value, low, high) in enumerate(zip(*change, strict=True))
    )
    columns = ("state", "difference of CKA", "95 % interval")
    return Table(f"{title}: alignment of {pooled}", columns, rows, "lrr")


def explained_table(found: Mapping[str, Mapping[str, Correlation]], pooled: str) -> Table:
    """Tabulate what alignment goes with over languages."""
    rows = tuple(
        (title, TITLES.get(name, name), coefficient(own), str(own.n), str(own.families))
        for title, of_setting in found.items()
        for name, own in of_setting.items()
    )
    columns = ("setting", "alignment (mean over layers) and …", "r [95 %]", "n", "families")
    return Table(f"Alignment of {pooled}: correlation over languages", columns, rows, "llrrr")


def attention_table(
    title: str,
    sources: Float[np.ndarray, "L 3 3"] | None,
    others: Float[np.ndarray, "L 3 3"] | None,
) -> Table:
    """Tabulate where attention goes, layer by layer, mean over heads, sentences and languages.

    Args:
        title: Of the setting.
        sources: In the source languages; None where none was read.
        others: In the other languages.
    """
    pairs = [(one, kind) for one in ("prompt", "answer") for kind in ("text", "prompt", "fixed")]
    sides = [side for side in (sources, others) if side is not None]
    rows = []
    for layer in range(len(sides[0])):
        cells = [
            " / ".join(_share(side[layer, READERS.index(one), KINDS.index(kind)]) for side in sides)
            for one, kind in pairs
        ]
        rows.append((str(layer + 1), *cells))
    shown = "in the source / in other languages" if len(sides) > 1 else "in all languages"
    columns = ("layer", *(f"{one} → {kind}" for one, kind in pairs))
    heads = f"{title}: share of attention (%), {shown}; answer: the state the head reads"
    return Table(heads, columns, tuple(rows), "r" * len(columns))


def path_table(found: Mapping[str, Sequence[PathFacts]]) -> Table:
    """Tabulate how prompts moved; means over runs, and their standard deviation."""
    rows = tuple(
        (
            title,
            str(len(runs)),
            _spread([one.moved for one in runs]),
            _spread([one.travelled for one in runs]),
            _spread([one.straightness for one in runs]),
            _spread([one.cosine for one in runs]),
            " / ".join(
                f"{100 * mean(one.components[i] for one in runs):.0f}"
                for i in range(min([COMPONENTS, *(len(one.components) for one in runs)]))
            ),
        )
        for title, runs in found.items()
    )
    columns = (
        "setting", "runs", "distance moved", "length of the path", "straightness",
        "cosine with the start", "variance along components (%)",
    )  # fmt: skip
    title = "Paths of prompts up to the kept checkpoint, per token; lengths of the start's vector"
    return Table(title, columns, rows, "lrrrrrr")


def word_table(title: str, words: Sequence[str], cosines: Float[np.ndarray, "2 P W"]) -> Table:
    """Tabulate the words nearest to a prompt at its start and at its end.

    Args:
        title: Of the run.
        words: In the order of the cosines.
        cosines: Of the start and of the kept checkpoint.
    """
    named = np.array(words, dtype=object).reshape(cosines.shape)
    rows = tuple(
        (
            str(token + 1),
            *(
                ", ".join(
                    f"{word} {cosine:.2f}"
                    for word, cosine in zip(named[end, token], cosines[end, token], strict=True)
                )
                for end in (0, 1)
            ),
        )
        for token in range(cosines.shape[1])
    )
    columns = ("token", "nearest words at the start (cosine)", "at the kept checkpoint")
    return Table(f"{title}: words nearest to the prompt", columns, rows, "rpp")


def _layer(index: int) -> str:
    """Name a layer state."""
    return "input" if index == 0 else f"layer {index}"


def _share(value: float) -> str:
    """Write a share, or that there is none."""
    return "–" if np.isnan(value) else f"{100 * value:.0f}"


def _spread(values: Sequence[float]) -> str:
    """Write the mean of what there is and, of several, the standard deviation."""
    values = [value for value in values if not np.isnan(value)]
    if not values:
        return "–"
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def epoch_table(found: Mapping[str, tuple[Sequence[Curve], Sequence[str]]]) -> Table:
    """Tabulate how soon and how steadily runs got where they ended; means over runs.

    Args:
        found: By the setting's title, the scores of its runs and their source languages.
    """
    rows = tuple(_epoch_row(title, *own) for title, own in found.items())
    columns = (
        "setting", "steps to 95 %, source", "others", "steps in all", "final, others",
        "change per epoch, second half", "deviation over languages", "runs",
    )  # fmt: skip
    title = "Scores at the ends of epochs (points; nothing is selected on them)"
    return Table(title, columns, rows, "lrrrrrrr")


def _epoch_row(title: str, curves: Sequence[Curve], sources: Sequence[str]) -> tuple[str, ...]:
    """Write one setting."""
    own = [one for curve in curves if (one := curve.only(sources)).languages]
    others = [one for curve in curves if (one := curve.without(sources)).languages]
    return (
        title,
        _mean([one.steps_to() for one in own], "{:.0f}"),
        _mean([one.steps_to() for one in others], "{:.0f}"),
        _mean([one.steps[-1] for one in curves], "{:.0f}"),
        _mean([100 * one.final for one in others], "{:.1f}"),
        _mean([100 * one.wobble for one in others], "{:.1f}"),
        _mean([100 * one.spread for one in others], "{:.1f}"),
        str(len(curves)),
    )


def _mean(values: Sequence[float], form: str) -> str:
    """Write a mean."""
    return form.format(sum(values) / len(values)) if values else "–"
