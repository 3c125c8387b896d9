"""What an account is made of: settings that can be compared, and how they were found to differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from polyprompt.analysis.account import Arm, Contrast
from polyprompt.analysis.facts import Facts
from polyprompt.analysis.groups import GroupContrast
from polyprompt.analysis.interactions import Interaction, Pairs
from polyprompt.experiments.results import Setting
from polyprompt.languages.distance import Origin
from polyprompt.report.account_tables import contrast_table, gain_table, group_table, slope_table
from polyprompt.report.score_tables import Table
from polyprompt.report.tokenization_tables import tokenization_gain_table


@dataclass(frozen=True)
class Request:
    """What is asked of an account.

    Attributes:
        corpus: One of ``CORPUS_UNITS``; None for the one the backbone's type was trained on.
        origin: Whether distances rest on ``attested`` or ``predicted`` features.
        reference: Title of the setting others are compared with; None for the first.
        groups: Named pairs of groups of languages.
        interactions: Named pairs of pairs of settings, whose gains are compared.
    """

    corpus: str | None = None
    origin: Origin = "attested"
    reference: str | None = None
    groups: Mapping[str, tuple[Sequence[str], Sequence[str]]] | None = None
    interactions: Mapping[str, Pairs] | None = None


@dataclass(frozen=True)
class Cohort:
    """Settings of one backbone that were tested in the same languages.

    Attributes:
        settings: As they were gathered.
        arms: Their answers, in the same order.
        common: The same on the seeds that all of them have.
        left_out: Runs that ``common`` lacks.
        facts: By source languages, with texts as the first of their settings cuts them.
        cut: The same for each arm, with texts as it cuts them.
        corpus: Whose sizes explain.
        comparisons: By source languages, in the order of ``facts``.
        interactions: Gains compared.
    """

    settings: Sequence[Setting]
    arms: Sequence[Arm]
    common: Sequence[Arm]
    left_out: int
    facts: Mapping[tuple[str, ...], Facts]
    cut: Sequence[Facts]
    corpus: str | None
    comparisons: Sequence["Comparison"]
    interactions: Sequence[Interaction]


@dataclass(frozen=True)
class Comparison:
    """What settings with the same sources were found to differ in.

    Attributes:
        found: Pairs of settings.
        grouped: The same pairs in named groups of languages.
    """

    found: Sequence[Contrast]
    grouped: Sequence[GroupContrast]

    def tables(self) -> list[Table]:
        """Tabulate them."""
        explained = [one for one in self.found if any(one.slopes.values())]
        return [
            *([contrast_table(self.found)] if self.found else []),
            *(table for one in explained for table in (slope_table(one), gain_table(one))),
            *(tokenization_gain_table(one) for one in self.found if one.tokenization),
            *([group_table(self.grouped)] if self.grouped else []),
        ]
