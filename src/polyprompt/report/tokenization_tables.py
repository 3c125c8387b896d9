"""Tables of how finely a tokenizer cuts languages, and of what gains have to do with it."""

from collections.abc import Sequence

import numpy as np

from polyprompt.analysis.account import Contrast
from polyprompt.analysis.facts import TITLES, Facts
from polyprompt.analysis.tokenization import MEASURES
from polyprompt.languages.catalogue import language_name
from polyprompt.report.account_tables import coefficient, regressed
from polyprompt.report.score_tables import Table


def tokenization_gain_table(one: Contrast) -> Table:
    """Tabulate what a gain has to do with how finely the tokenizer cuts a language."""
    rows = tuple(
        (
            TITLES[name],
            coefficient(found),
            regressed(regression, "measure"),
            str(found.n),
            str(found.families),
        )
        for name, (found, regression) in one.tokenization.items()
    )
    columns = (
        "gain and …",
        "Pearson r [95 %]",
        "points per unit, beside corpus size",
        "n",
        "families",
    )
    title = f"{one.second} – {one.first}: gain and tokenization, families resampled"
    return Table(title, columns, rows, "lrrrr")


def tokenization_tables(facts: Facts, settings: Sequence[str] = ()) -> list[Table]:
    """Tabulate how finely the tokenizer cuts each language; nothing where that is not known.

    Args:
        facts: Of the languages.
        settings: Titles of those that cut texts so, where others cut them otherwise.
    """
    names = [name for name in MEASURES if name in facts.values]
    if not names:
        return []
    order = sorted(range(len(facts.languages)), key=lambda i: -facts.values["singles"][i])
    rows = tuple(
        (
            language_name(facts.languages[i]),
            facts.languages[i],
            *("–" if np.isnan(facts.values[n][i]) else f"{facts.values[n][i]:.2f}" for n in names),
        )
        for i in order
    )
    columns = ("language", "code", *(TITLES[name] for name in names))
    title = "Tokenization of the test items" + ": " * bool(settings) + "; ".join(settings)
    return [Table(title, columns, rows, "ll" + "r" * len(names))]
