"""The program ``polyprompt``: its commands, and what every error looks like."""

import os
import signal
import sys

import typer

from polyprompt import __version__
from polyprompt.cli.accounts import analyse, compare, recommend
from polyprompt.cli.catalogues import backbones, languages, tasks
from polyprompt.cli.exports import export
from polyprompt.cli.languages import language
from polyprompt.cli.people import fit
from polyprompt.cli.predictions import calibrate, predict
from polyprompt.cli.sharing import pull, push
from polyprompt.cli.stores import query, scores, status
from polyprompt.cli.studies import check, report, run
from polyprompt.errors import PolypromptError

INTERRUPTED = 128 + signal.SIGINT

app = typer.Typer(
    name="polyprompt",
    help="Adapt one frozen multilingual language model to a task from a few examples in one "
    "language, and see how well it then works in all the others.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    run,
    fit,
    predict,
    calibrate,
    export,
    push,
    pull,
    report,
    status,
    scores,
    query,
    analyse,
    compare,
    recommend,
    check,
    tasks,
    languages,
    backbones,
):
    app.command()(command)
app.add_typer(language, name="language")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"polyprompt {__version__}")


def main() -> None:
    """Run the program; errors a person can cause are shown without a traceback."""
    try:
        code = app(standalone_mode=False)
    except PolypromptError as error:
        _say(f"error: {error}")
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        if hasattr(error, "format_message"):
            _say(f"error: {error.format_message()}")  # type: ignore[attr-defined]  # typer keeps its class private
            sys.exit(2)
        raise
    if code == INTERRUPTED:
        _say("stopped. What was complete is kept; a study goes on from there with the same command")
    sys.exit(code)


def _say(text: str) -> None:
    """Write to standard error."""
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
