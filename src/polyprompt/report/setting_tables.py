"""The first table of an account: what each setting reaches, in the source and elsewhere."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from polyprompt.analysis.summary import Summary
from polyprompt.report.score_tables import Table, between, percent, with_spread


class Shown(Protocol):
    """A setting as far as the table shows it."""

    @property
    def title(self) -> str:
        """What sets it apart."""
        ...

    @property
    def summary(self) -> Summary:
        """Of its predictions."""
        ...

    @property
    def records(self) -> Sequence[Mapping[str, Any]]:
        """Of its runs."""
        ...

    @property
    def sources(self) -> tuple[str, ...]:
        """Languages of its examples."""
        ...


def setting_table(settings: Sequence[Shown]) -> Table:
    """Tabulate settings: mean over languages, the source languages, all others, what is trained."""
    rows = []
    for setting in settings:
        overall = setting.summary.overall
        known = {row.code: row.accuracy.mean for row in setting.summary.languages}
        own = [value for code, value in known.items() if code in setting.sources]
        rest = [value for code, value in known.items() if code not in setting.sources]
        rows.append(
            (
                setting.title,
                with_spread(overall.accuracy.mean, overall.deviation),
                between(overall.accuracy),
                _mean(own),
                _mean(rest),
                str(overall.languages),
                str(setting.summary.seeds),
                f"{setting.records[0]['trained_parameters']:,}",
            )
        )
    columns = (
        "setting", "all languages", "95 % interval", "source", "others", "languages", "runs",
        "trained numbers",
    )  # fmt: skip
    return Table(
        "Settings: mean accuracy (%) ± deviation over runs", columns, tuple(rows), "lrrrrrrr"
    )


def _mean(values: Sequence[float]) -> str:
    """Write a mean accuracy."""
    return percent(sum(values) / len(values)) if values else "–"
