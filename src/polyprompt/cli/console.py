"""Shows progress and tables in the terminal; plain lines where there is none."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table as RichTable

from polyprompt.experiments.events import Event
from polyprompt.report.score_tables import Table

PLAIN_WIDTH = 132
HEADS = {
    "TF-IDF + SVM": "TF-IDF\nSVM",
    "zero-shot": "zero\nshot",
    "logistic + descr.": "logistic\n+ descr.",
    "closed form": "closed\nform",
    "95 % interval": "95 %\ninterval",
}
"""Heads on two lines, so that a row fits into one."""
_STAGES = {
    "train": "training",
    "read": "reading test sentences",
    "record": "recording",
    "baselines": "baselines",
    "write": "writing",
}


def program_name() -> str:
    """Give the command that runs this program from here: its name, or its path if not on PATH."""
    if shutil.which("polyprompt"):
        return "polyprompt"
    path = Path(sys.argv[0])
    return os.path.relpath(path) if path.name == "polyprompt" else "python -m polyprompt.cli.main"


def make_console(*, stderr: bool = False) -> Console:
    """Build a console; output that goes to a file gets a width of its own."""
    console = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not console.is_terminal:
        return Console(stderr=stderr, highlight=False, width=PLAIN_WIDTH)
    return console


@dataclass
class ProgressView:
    """Draws the events of a study."""

    console: Console
    quiet: bool = False
    _bars: Progress | None = None
    _tasks: dict[str, TaskID] = field(default_factory=dict)
    _quarters: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def open(self) -> Iterator["ProgressView"]:
        """Show bars for the length of a block."""
        if self.quiet or not self.console.is_terminal:
            yield self
            return
        columns = (
            TextColumn("{task.description:<24}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console) as bars:
            self._bars = bars
            yield self

    def show(self, event: Event) -> None:
        """Draw one event."""
        if self.quiet:
            return
        if event.note:
            self.console.print(event.note, style="dim", markup=False)
        if event.stage not in _STAGES:
            return
        title = _STAGES[event.stage]
        if self._bars is None:
            self._line(title, event)
            return
        if event.stage not in self._tasks or event.done == 0:
            old = self._tasks.pop(event.stage, None)
            if old is not None:
                self._bars.remove_task(old)
            self._tasks[event.stage] = self._bars.add_task(title, total=event.total)
        self._bars.update(self._tasks[event.stage], completed=event.done, total=event.total)

    def _line(self, title: str, event: Event) -> None:
        """Print a line whenever another quarter of a stage is done."""
        quarter = 4 * event.done // max(event.total, 1)
        if event.done == 0 or quarter != self._quarters.get(event.stage):
            self._quarters[event.stage] = quarter
            self.console.print(f"{title}: {event.done} of {event.total}")


def print_table(console: Console, table: Table) -> None:
    """Print a table."""
    rich = RichTable(
        title=table.title, box=SIMPLE_HEAD, title_justify="left", title_style="bold", padding=(0, 1)
    )
    for column, letter in zip(table.columns, table.alignment, strict=True):
        head = HEADS.get(column, column)
        rich.add_column(head, justify="right" if letter == "r" else "left", overflow="fold")
    for row in table.rows:
        rich.add_row(*(escape(cell) for cell in row))
    console.print(rich)
