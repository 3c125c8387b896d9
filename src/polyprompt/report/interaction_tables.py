"""The table of gains that are compared."""

from collections.abc import Sequence

from polyprompt.analysis.interactions import Interaction
from polyprompt.report.account_tables import probability, signed
from polyprompt.report.score_tables import Table


def interaction_table(found: Sequence[Interaction]) -> Table:
    """Tabulate how two gains differ."""
    rows = tuple(
        (
            one.name,
            *(
                f"{second} – {first}: {100 * gain:+.1f}"
                for (first, second), gain in zip(one.pairs, one.gains, strict=True)
            ),
            signed(one.difference),
            probability(one.p_items),
            probability(one.p_holm),
            probability(one.p_seeds),
        )
        for one in found
    )
    columns = (
        "interaction", "first gain", "second gain", "second – first [95 %]", "p, items",
        "after Holm", "p, seeds",
    )  # fmt: skip
    title = "Interactions: a gain compared with another, mean over languages (points)"
    return Table(title, columns, rows, "lllrrrr")
