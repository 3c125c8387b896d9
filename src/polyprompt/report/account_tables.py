"""Tables of the cross-lingual account; accuracies and slopes in points, correlations signed."""

from collections.abc import Mapping, Sequence

from polyprompt.analysis.account import Contrast, Correlations
from polyprompt.analysis.correlation import Correlation, Difference
from polyprompt.analysis.facts import TITLES
from polyprompt.analysis.groups import GroupContrast, ScriptPair
from polyprompt.analysis.series import Series
from polyprompt.analysis.significance import Components
from polyprompt.analysis.sources import SourceMatrix
from polyprompt.analysis.transfer import Effect, Regression, Slopes
from polyprompt.languages.catalogue import language_name
from polyprompt.report.score_tables import Table, percent, signed

_NONE = "–"


def probability(p: float | None) -> str:
    """Write a p."""
    if p is None or p != p:  # noqa: PLR0124 (not a number)
        return _NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def coefficient(found: Correlation | None) -> str:
    """Write a correlation with its interval."""
    return _NONE if found is None else _between(found.r, found.low, found.high)


def _between(value: float | None, low: float | None, high: float | None) -> str:
    """Write a correlation, or a difference of two, and its interval where there is one."""
    if value is None:
        return _NONE
    return f"{value:+.2f}" + ("" if low is None or high is None else f" [{low:+.2f}, {high:+.2f}]")


def correlation_table(found: Correlations) -> Table:
    """Tabulate what a setting's accuracies go with."""
    rows = tuple(
        (
            TITLES.get(name, name),
            coefficient(one),
            coefficient(found.spearman[name]),
            coefficient(found.above_chance[name]),
            coefficient(found.with_source[name]),
            str(one.n),
            str(one.families),
            str(found.above_chance[name].n),
        )
        for name, one in found.pearson.items()
    )
    columns = (
        "accuracy and …", "Pearson r [95 %]", "Spearman [95 %]", "r, above chance",
        "r, with the source", "n", "families", "n above chance",
    )  # fmt: skip
    return Table(f"{found.title}: correlation over languages", columns, rows, "lrrrrrrr")


def contrast_table(found: Sequence[Contrast]) -> Table:
    """Tabulate differences of settings."""
    rows = tuple(
        (
            f"{one.second} – {one.first}",
            signed(one.difference),
            probability(one.p_items),
            probability(one.p_holm),
            probability(one.p_seeds),
            f"{len(one.better)} / {len(one.worse)} / {one.tested}",
        )
        for one in found
    )
    columns = (
        "settings", "difference [95 %]", "p, items", "after Holm", "p, seeds",
        "languages better / worse / all",
    )  # fmt: skip
    return Table("Settings compared: mean over languages (points)", columns, rows, "lrrrrr")


def slope_table(one: Contrast) -> Table:
    """Tabulate how two settings' accuracies fall with distance."""
    rows = tuple(
        (
            TITLES[kind],
            *_slopes(slopes),
            _difference(one.correlations.get(kind)),
            probability(_p(one.correlations.get(kind))),
            str(slopes.n) if slopes else "0",
        )
        for kind, slopes in one.slopes.items()
    )
    columns = (
        "distance", "slope of the first", "change of the slope", "p", "gain at mean distance",
        "difference of r", "p", "n",
    )  # fmt: skip
    title = f"{one.second} – {one.first}: points per unit of distance (mixed model), and r"
    return Table(title, columns, rows, "lrrrrrrr")


def gain_table(one: Contrast) -> Table:
    """Tabulate what the gain of a setting goes with."""
    rows = tuple(
        (
            TITLES[kind],
            *(regressed(found, "distance") for found in models.values()),
            regressed(models["with corpus size"], "corpus size (log10)"),
            regressed(models["with seen or not"], "seen in pre-training"),
            "/".join(str(found.n) if found else "0" for found in models.values()),
        )
        for kind, models in one.gains.items()
    )
    columns = (
        "distance", "alone", "with corpus size", "with seen or not", "(corpus size)", "(seen)", "n",
    )  # fmt: skip
    title = f"{one.second} – {one.first}: gain per unit of distance (points), families resampled"
    return Table(title, columns, rows, "lrrrrrr")


def group_table(found: Sequence[GroupContrast]) -> Table:
    """Tabulate named contrasts of groups of languages."""
    rows = tuple(
        (
            one.name,
            f"{one.settings[1]} – {one.settings[0]}",
            f"{one.sizes[0]} / {one.sizes[1]}",
            f"{100 * one.gains[0]:+.1f}",
            f"{100 * one.gains[1]:+.1f}",
            signed(one.difference),
            probability(one.p_languages),
            probability(one.p_holm),
        )
        for one in found
    )
    columns = (
        "contrast", "settings", "languages", "change in the first group", "in the second",
        "difference [95 %]", "p, languages permuted", "after Holm",
    )  # fmt: skip
    return Table("Groups of languages (points)", columns, rows, "llrrrrrr")


def script_pair_table(found: Sequence[ScriptPair]) -> Table:
    """Tabulate languages in two scripts."""
    rows = tuple(
        (
            one.title,
            language_name(one.first).split(" (")[0],
            f"{one.second} – {one.first}",
            signed(one.difference),
        )
        for one in found
    )
    columns = ("setting", "language", "scripts", "difference [95 %]")
    return Table("One language in two scripts (points)", columns, rows, "lllr")


def series_tables(found: Series) -> list[Table]:
    """Tabulate settings that differ in a number."""
    means = tuple(
        (f"{value:.4g}", percent(one.mean), f"{percent(one.low)}–{percent(one.high)}")
        for value, one in found.means.items()
    )
    slopes = tuple(
        (TITLES[kind], *_slopes(one), str(one.n if one else 0))
        for kind, one in found.slopes.items()
    )
    best = tuple(
        (
            language_name(code),
            f"{one.value:.4g}",
            ", ".join(f"{value:.4g}: {100 * share:.0f} %" for value, share in one.shares.items()),
        )
        for code, one in found.best.items()
    )
    name = found.name
    return [
        Table(f"Mean over languages by {name} (%)", (name, "accuracy", "95 %"), means, "rrr"),
        Table(
            f"Distance × {name} (points; change per doubling)",
            ("distance", "slope at 1", "change of the slope", "p", "change at mean distance", "n"),
            slopes,
            "lrrrrr",
        ),
        Table(
            f"Best {name} per language, and how often each is best with seeds and items redrawn",
            ("language", "best", "share of resamples"),
            best,
            "lrl",
        ),
    ]  # fmt: skip


def source_tables(found: SourceMatrix) -> list[Table]:
    """Tabulate sources × targets, and how good each source is."""
    rows = tuple(
        (
            language_name(code),
            *(percent(value) for value in found.accuracy[:, column]),
            f"{100 * found.columns[code]:+.1f}",
            found.best[code],
        )
        for column, code in enumerate(found.targets)
    )
    best = [found.best[code] for code in found.others]
    wins = {name: best.count(name) for name in found.sources}
    whole = len(found.others) == len(found.targets)
    over = (
        "all targets, each source's own language among them"
        if whole
        else (f"{len(found.others)} targets that are no source")
    )
    effects = tuple((name, signed(one), str(wins[name])) for name, one in found.rows.items())
    return [
        Table(
            f"Sources: better than their mean, over {over} (points)",
            ("source", "difference [95 %]", "best source of … of them"),
            effects,
            "lrr",
        ),
        Table(
            f"Targets × sources (%); what row and column leave: {100 * found.residual:.1f} points",
            ("target", *found.sources, "target's effect", "best source"),
            rows,
            "l" + "r" * (len(found.sources) + 1) + "l",
        ),
    ]


def component_table(found: Mapping[str, Components], sizes: tuple[int, int, int]) -> Table:
    """Tabulate where the variance of a mean accuracy comes from, as standard deviations.

    Args:
        found: By setting.
        sizes: Draws, trainings and items.
    """
    rows = tuple(
        (
            title,
            *(percent(v**0.5) for v in (c.draws, c.trainings, c.both, c.items, c.rest)),
            percent(c.of_mean(*sizes)),
        )
        for title, c in found.items()
    )
    columns = (
        "setting", "draw", "training", "draw × training", "item", "answer",
        f"error of the mean ({sizes[0]} × {sizes[1]} × {sizes[2]})",
    )  # fmt: skip
    title = "Standard deviations of accuracy (points), by what they come from"
    return Table(title, columns, rows, "lrrrrrr")


def _slopes(found: Slopes | None) -> tuple[str, str, str, str]:
    """Write the effects of a mixed model."""
    if found is None:
        return _NONE, _NONE, _NONE, _NONE
    note = "" if found.converged else " (not converged)"
    return (
        f"{100 * found.slope.value:+.1f}{note}",
        effect(found.change),
        probability(found.change.p),
        effect(found.gain),
    )


def effect(found: Effect) -> str:
    """Write an effect with its interval, in points."""
    value, low, high = (100 * v for v in (found.value, found.low, found.high))
    if low != low or high != high:  # noqa: PLR0124 (not a number)
        return f"{value:+.1f}"
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def regressed(found: Regression | None, name: str) -> str:
    """Write one effect of a regression."""
    return _NONE if found is None else effect(found.effects[name])


def _difference(found: Difference | None) -> str:
    """Write a difference of correlations."""
    return _NONE if found is None else _between(found.difference, found.low, found.high)


def _p(found: Difference | None) -> float | None:
    """Give the p of a difference."""
    return None if found is None else found.p
