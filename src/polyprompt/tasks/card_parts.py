"""What a task card is made of: where its data are, their columns, how answers are written."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from polyprompt.part_settings import Settings, as_list


class HubSource(Settings):
    """A data set on the Hugging Face Hub.

    ``{language}`` in ``config`` is the SIB-200 code, or what ``codes`` has in its place; the codes
    are then all the languages there are. ``source`` is the data set that the train and dev splits
    of the source languages come from, where it is another one. ``columns`` gives its columns the
    names that local tables have. Labels that are numbers of a class are read as its name. Where one
    configuration has all languages, ``ids_begin`` says how the ids of one of them begin, with its
    code in the place of ``{language}``.
    """

    path: str
    config: str = "{language}"
    codes: dict[str, str] = {}
    source: "HubSource | None" = None
    columns: dict[str, str] = {}
    ids_begin: str = ""
    revision: str | None = None
    splits: dict[str, str] = {"train": "train", "dev": "validation", "test": "test"}


class FileSource(Settings):
    """Local tables: a file per split, parquet, CSV, TSV or JSON lines."""

    files: dict[str, str]


class Columns(Settings):
    """The names of the columns; ``language`` None means that one language is given elsewhere.

    ``values`` says what the label column has in place of a label, where it does not have the label
    itself. Words with one of the tags in ``omit`` are left out. ``choices`` names the columns of
    the answers of a choice task, or one of lists.
    """

    fields: dict[str, str]
    label: str = ""
    values: dict[str, str] = {}
    omit: tuple[str, ...] = ()
    choices: Annotated[tuple[str, ...], BeforeValidator(as_list)] = ()
    id: str | tuple[str, ...] | None = None
    language: str | None = "language"

    @property
    def ids(self) -> tuple[str, ...]:
        """The columns that name an item together."""
        return (self.id,) if isinstance(self.id, str) else self.id or ()


class WrittenAnswers(Settings):
    """How a task is asked of a model that writes its answers, and what it writes.

    ``layout`` None takes the card's. ``words`` gives what is written for each label, the label
    itself if left out; ``fallback`` is the label that counts where none of these is written, none
    if left out. ``max_pieces`` is the most pieces of an answer, its end counted. A soft prompt
    whose initial value is a text begins with the words ``prompt``, where it has none of its own.
    """

    layout: str | None = None
    words: dict[str, str] = {}
    fallback: str | None = None
    max_pieces: int = Field(default=30, ge=1, le=1024)
    prompt: str | None = None
