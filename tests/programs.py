"""The program, run in the process of the tests: to import it anew takes seconds each time."""

import io
import logging
import os
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from unittest.mock import patch

import torch

from polyprompt.cli import main as program

STREAMS = ("stdin", "stdout", "stderr")


def called(
    *arguments: str, text: str | None = None, cwd: str | Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``polyprompt`` with arguments, as a process of its own without a terminal would.

    An error that the program does not answer is a traceback on standard error and code 1, as there;
    only Ctrl-C and what ends a test come through.
    """
    given, out, told = _stream(text or ""), _stream(), _stream(errors="backslashreplace")
    with ExitStack() as stack:
        stack.enter_context(patch.object(sys, "argv", [program.__file__, *arguments]))
        for name, stream in zip(STREAMS, (given, out, told), strict=True):
            stack.enter_context(patch.object(sys, name, stream))
            # by these a terminal's width is asked for
            stack.enter_context(patch.object(sys, f"__{name}__", stream))
        stack.enter_context(patch.dict(os.environ, {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}))
        stack.enter_context(_warnings_as_at_a_start())
        stack.enter_context(_logging_restored(told))
        stack.enter_context(_threads_restored())
        stack.enter_context(chdir(cwd or "."))
        code = _ended(told)
    command = ["polyprompt", *arguments]
    return subprocess.CompletedProcess(command, code, _written(out), _written(told))


def _ended(told: io.TextIOWrapper) -> int:
    """Give the code with which the program ends."""
    try:
        program.main()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        told.write(f"{end.code}\n")
        return 1
    except Exception:  # noqa: BLE001 (as Python answers what nobody catches)
        traceback.print_exc(file=told)
        return 1
    return 0


def _stream(text: str = "", errors: str = "strict") -> io.TextIOWrapper:
    """Make a stream over bytes, like those of a process and without a terminal either."""
    return io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8", errors, write_through=True)


def _written(stream: io.TextIOWrapper) -> str:
    """Read what was written, as text; the stream stays open for whoever still holds it."""
    written = stream.buffer.getvalue().decode()
    return written.replace("\r\n", "\n").replace("\r", "\n")


@contextmanager
def _warnings_as_at_a_start() -> Iterator[None]:
    """Filter warnings as Python does that was just started, and tell them on standard error."""

    def show(message, category, filename, lineno, file=None, line=None):
        (file or sys.stderr).write(
            warnings.formatwarning(message, category, filename, lineno, line)
        )

    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.showwarning = show
        for unseen in (
            DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning,
        ):  # fmt: skip
            warnings.simplefilter("ignore", unseen)
        yield


@contextmanager
def _logging_restored(told: io.TextIOWrapper) -> Iterator[None]:
    """Send what goes to standard error to a stream, and take changes of loggers back."""
    named = [one for one in logging.root.manager.loggerDict.values() if hasattr(one, "handlers")]
    loggers = [logging.root, *named]
    before = [(one, one.level, one.propagate, one.disabled, one.handlers[:]) for one in loggers]
    streams = [
        (handler, handler.stream)
        for one in loggers
        for handler in one.handlers
        if type(handler) is logging.StreamHandler  # what derives from it goes elsewhere
    ]
    for handler, _ in streams:
        handler.stream = told
    try:
        yield
    finally:
        for handler, stream in streams:
            handler.stream = stream
        for one, level, propagate, disabled, handlers in before:
            one.setLevel(level)
            one.propagate, one.disabled = propagate, disabled
            one.handlers[:] = handlers


@contextmanager
def _threads_restored() -> Iterator[None]:
    """Compute with one thread, as OMP_NUM_THREADS asks of a process; then as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
