"""The examples of a task, split by split."""

from collections.abc import Sequence
from dataclasses import dataclass

from polyprompt.records import Example


@dataclass(frozen=True)
class TaskData:
    """The examples of a task.

    Attributes:
        splits: ``train``, ``dev`` and ``test``, the languages one after the other; where the dev
            split of the targets is answered beside their test split, ``dev_targets``.
        origin: Where they came from, for the record.
    """

    splits: dict[str, tuple[Example, ...]]
    origin: str

    def of(self, split: str, languages: Sequence[str]) -> tuple[Example, ...]:
        """Give a split's examples in some languages, in the data set's order."""
        wanted = set(languages)
        return tuple(e for e in self.splits.get(split, ()) if e.language in wanted)

    def languages(self, split: str) -> tuple[str, ...]:
        """Give a split's languages, in order of appearance."""
        return tuple(dict.fromkeys(e.language for e in self.splits.get(split, ())))
