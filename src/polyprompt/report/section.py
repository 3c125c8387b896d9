"""One setting's results, as the terminal, Markdown and the page show them."""

from collections.abc import Sequence
from dataclasses import dataclass

from polyprompt.report.chapters import Chapter, Notes, Words
from polyprompt.report.score_tables import Table


@dataclass(frozen=True)
class Section:
    """One setting of a study.

    Attributes:
        title: Its name.
        headline: The result in words.
        warnings: What looks wrong.
        tables: In order.
        notes: What the numbers are.
    """

    title: str
    headline: str
    warnings: Sequence[str]
    tables: Sequence[Table]
    notes: Sequence[str]

    def chapter(self) -> Chapter:
        """Give it as a part of the page."""
        return Chapter(self.title, (*self.opening(), *self.tables, Notes(self.notes)))

    def opening(self) -> tuple[Words, ...]:
        """Give the headline and the warnings."""
        warnings = (Words(text, "warning") for text in self.warnings)
        return Words(self.headline, "headline"), *warnings
