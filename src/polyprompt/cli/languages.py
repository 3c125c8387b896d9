"""The command that trains language parts."""

from typing import Annotated, Any

import typer

language = typer.Typer(
    help="Language parts: soft prompts or adapters that learn a language from its texts.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@language.callback()
def _languages() -> None:
    """Train language parts."""


@language.command()
def train(
    languages: Annotated[
        list[str],
        typer.Option("--language", help="SIB-200 code, e.g. swh_Latn; give it again for more."),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change, as in a study's YAML."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="A text file LANGUAGE.txt, a table with columns language and text, or a folder of "
            "such; give it again for more. Left out: Wikipedia from the Hub, streamed."
        ),
    ] = None,
    part: Annotated[
        str, typer.Option(help="soft_prompt or bottleneck_adapter.")
    ] = "bottleneck_adapter",
    length: Annotated[int, typer.Option(help="Tokens of a soft prompt.")] = 50,
    texts: Annotated[str, typer.Option(help="Texts of a language to learn from, or all.")] = "1000",
    backbone: Annotated[
        str, typer.Option(help="Backbone, e.g. pypi:gemma3-270m.")
    ] = "pypi:multilingual-e5-small",
    name: Annotated[str, typer.Option(help="Name of the study.")] = "",
    output: Annotated[str, typer.Option(help="Folder for studies.")] = "runs",
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,  # noqa: FBT002 (a flag of the command line)
) -> None:
    """Train a part per language and show what it is worth on held-out texts.

    The study goes on where it was broken off; tasks take the parts with source:
    OUTPUT/NAME/{language}.
    """
    from polyprompt.cli.console import ProgressView, make_console
    from polyprompt.cli.studies import show_results
    from polyprompt.experiments.config import apply_overrides, build_study
    from polyprompt.experiments.failures import FailedRunsError
    from polyprompt.experiments.study import run_study
    from polyprompt.languages.catalogue import catalogue, check_languages

    check_languages(languages, catalogue(), "the catalogue (polyprompt languages)")
    value = _study(part, length, texts, backbone) | {
        "name": name or f"language_{'prompts' if part == 'soft_prompt' else 'adapters'}",
        "output": output,
        "task": "wikipedia" if data is None else "texts",
        "data": None if data is None else "\n".join(data),
        "grid": {"source": [[one] for one in dict.fromkeys(languages)]},
    }
    study = build_study(apply_overrides(value, overrides or []), "language train")
    console = make_console()
    failed: FailedRunsError | None = None
    with ProgressView(console, quiet=quiet).open() as view:
        try:
            for event in run_study(study, retry_failed=True):
                view.show(event)
        except FailedRunsError as error:
            failed = error
    show_results(console, study, failed, as_json=False)
    if failed is not None:
        raise failed


def _study(part: str, length: int, texts: str, backbone: str) -> dict[str, Any]:
    """Give the settings that options stand for."""
    from polyprompt.errors import ConfigError

    parts: dict[str, dict[str, Any]] = {
        "soft_prompt": {
            "kind": "soft_prompt",
            "length": length,
            "initial": {"kind": "text", "text": "Generate the output in {Language}:"},
        },
        "bottleneck_adapter": {"kind": "bottleneck_adapter"},
    }
    if part not in parts:
        raise ConfigError(f"--part {part}: expected {' or '.join(parts)}.")
    if texts != "all" and not texts.isdecimal():
        raise ConfigError(f"--texts {texts}: expected a number, or all.")
    return {
        "backbone": backbone,
        "shots": texts if texts == "all" else int(texts),
        "parts": {"language": parts[part]},
        "layout": "{language}{text}" if part == "soft_prompt" else "{text}",
        "training": {"epochs": 3, "batch_size": 16},
        "baselines": True,
    }
