"""The first table of an account: what each setting reaches, in the source and elsewhere."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from polyprompt.analysis.significance import t_interval
from polyprompt.analysis.summary import Summary
from polyprompt.report.score_tables import Table, between, percent, with_spread
from polyprompt.scoring.metrics import title_of


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
                _of_runs(overall.of_runs),
                _mean(own),
                _mean(rest),
                str(overall.languages),
                str(setting.summary.seeds),
                f"{setting.records[0]['trained_parameters']:,}",
            )
        )
    columns = (
        "setting", "all languages", "95 %, runs and items", "95 %, t over runs", "source", "others",
        "languages", "runs", "trained numbers",
    )  # fmt: skip
    title = " and ".join(dict.fromkeys(title_of(setting.summary.metric) for setting in settings))
    return Table(
        f"Settings: mean {title} (%) ± deviation over runs", columns, tuple(rows), "lrrrrrrrr"
    )


def _of_runs(accuracies: Sequence[float]) -> str:
    """Write Student's interval over runs, the sentences as they are."""
    return between(t_interval(accuracies)) if len(accuracies) > 1 else "–"


def _mean(values: Sequence[float]) -> str:
    """Write a mean accuracy."""
    return percent(sum(values) / len(values)) if values else "–"
