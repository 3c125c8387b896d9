"""Finds the texts of test items again: predictions on disk name items by their ids alone."""

from polyprompt.capabilities import RunSettings
from polyprompt.errors import PolypromptError
from polyprompt.experiments.naming import data_identity
from polyprompt.experiments.results import Setting
from polyprompt.experiments.task_data import card_of, task_of


class TestTexts:
    """The texts of a setting's test items, read from its data when they are there."""

    __test__ = False  # a class of the program, no test

    def __init__(self, setting: Setting) -> None:
        """Read them.

        Args:
            setting: Of whose runs the first says where its data are.
        """
        self._texts: dict[tuple[str, str], str] = {}
        self.why_not = ""
        try:
            self._texts = _read(setting)
        except (PolypromptError, OSError) as error:
            self.why_not = f"The texts are not shown: {str(error).splitlines()[0]}"
        if not self._texts and not self.why_not:
            self.why_not = "The texts are not shown: the data changed since the runs were made."

    def of(self, language: str, name: str) -> str:
        """Give an item's text; empty where it is not known.

        Args:
            language: SIB-200 code.
            name: The item's id.
        """
        return self._texts.get((language, name), "")


def _read(setting: Setting) -> dict[tuple[str, str], str]:
    """Read the texts of the test split; nothing where the data are others than the runs had."""
    run = setting.runs[0]
    config = {k: v for k, v in run.config().items() if k in RunSettings.model_fields}
    settings = RunSettings.model_validate(config)
    if data_identity(card_of(settings), settings.data) != run.record()["data_identity"]:
        return {}
    _, data = task_of(settings)
    return {
        (example.language, example.id): " / ".join(example.fields.values())
        for example in data.splits["test"]
    }
