"""Shows progress and tables in the terminal; plain lines where there is none."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table as RichTable

from polyprompt.cli.pace import Pace
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
    as_json: bool = False
    _bars: Progress | None = None
    _tasks: dict[str, TaskID] = field(default_factory=dict)
    _stages: dict[str, str] = field(default_factory=dict)
    _quarters: dict[str, int] = field(default_factory=dict)
    _pace: Pace = field(default_factory=Pace)
    _last: str = ""
    _several: bool = False

    @contextmanager
    def open(self) -> Iterator["ProgressView"]:
        """Show bars for the length of a block."""
        if self.quiet or self.as_json or not self.console.is_terminal:
            yield self
            return
        columns = (
            TextColumn("{task.description:<24}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[left]}"),
        )
        with Progress(*columns, console=self.console) as bars:
            self._bars = bars
            yield self

    def show(self, event: Event) -> None:
        """Draw one event."""
        if self.quiet:
            return
        if self.as_json:
            self.console.file.write(json.dumps(asdict(event), ensure_ascii=False) + "\n")
            self.console.file.flush()
            return
        if event.note:
            self.console.print(event.note, style="dim", markup=False)
        self._pace.follow(event)
        if event.stage not in _STAGES and event.stage != "study":
            return
        if self._bars is None:
            self._line(event)
        else:
            self._draw(self._bars, event)

    def _draw(self, bars: Progress, event: Event) -> None:
        """Draw bars: one for the study, and one for each worker's stage."""
        whole = self._pace.share * max(self._pace.runs, 1)
        if "study" not in self._tasks and self._pace.runs:
            self._tasks["study"] = bars.add_task("study, runs", total=self._pace.runs, left="")
        if "study" in self._tasks:
            bars.update(
                self._tasks["study"], completed=whole, total=self._pace.runs, left=self._pace.left()
            )
        if event.stage == "study":
            return
        key = f"{event.worker}"
        title = self._title(event)
        if self._stages.get(key) != title or event.done == 0:
            self._stages[key] = title
            old = self._tasks.pop(key, None)
            if old is not None:
                bars.remove_task(old)
            self._tasks[key] = bars.add_task(title, total=event.total, left="")
        bars.update(self._tasks[key], completed=event.done, total=event.total)

    def _title(self, event: Event) -> str:
        """Name a stage, and whose it is if there are several workers."""
        self._several = self._several or event.worker > 0
        title = _STAGES[event.stage]
        return f"{event.worker + 1}: {title}" if self._several else title

    def _line(self, event: Event) -> None:
        """Print a line whenever another quarter of a stage is done, or another group of runs."""
        if event.stage == "study":
            line = f"study: {event.done} of {event.total} runs"
            if line != self._last and (event.done or event.total > 1):
                self._last = line
                self.console.print(f"{line}{self._pace.words()}", markup=False)
            return
        quarter = 4 * event.done // max(event.total, 1)
        key = f"{event.worker} {event.stage}"
        if event.done == 0 or quarter != self._quarters.get(key):
            self._quarters[key] = quarter
            told = f"{self._title(event)}: {event.done} of {event.total}"
            self.console.print(f"{told}{self._pace.words()}", markup=False)


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
