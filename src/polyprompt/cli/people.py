"""Fits a classifier to somebody's own table."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from polyprompt.experiments.store import RunFolder
    from polyprompt.records import Example
    from polyprompt.tasks.card import TaskCard


def fit(
    examples: Annotated[Path, typer.Argument(help="CSV, TSV, JSON lines or parquet.")],
    text_column: Annotated[str, typer.Option(help="Column of the texts.")] = "text",
    label_column: Annotated[str, typer.Option(help="Column of the labels.")] = "label",
    output: Annotated[
        Path | None, typer.Option(help="Folder of the run; runs/fit/NAME if left out.")
    ] = None,
    backbone: Annotated[str, typer.Option(help="The frozen model.")] = "pypi:multilingual-e5-small",
    describe: Annotated[
        list[str] | None, typer.Option(help="LABEL=WORDS: say what a label means; repeatable.")
    ] = None,
    language: Annotated[
        str, typer.Option(help="Language of the texts, for the record.")
    ] = "unknown",
    seed: Annotated[int, typer.Option(help="Of the initial value and the order.")] = 0,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="KEY=VALUE: any setting, e.g. head.loss=vocabulary; repeatable."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,  # noqa: FBT002 (a flag of the command line)
) -> None:
    """Fit a classifier to your own examples, and say how good it is by cross-validation."""
    from polyprompt.classifier import fit_settings
    from polyprompt.cli.console import ProgressView, make_console
    from polyprompt.experiments.config import apply_overrides
    from polyprompt.experiments.fitting import fit_examples
    from polyprompt.experiments.store import RunFolder
    from polyprompt.models.load import load_pair

    console = make_console()
    items, card = _own_task(examples, (text_column, label_column), language, describe or [])
    chosen = {"backbone": backbone, "seed": seed, "source": [language]}
    settings = fit_settings(**apply_overrides(chosen, change or []))
    folder = output or Path("runs") / "fit" / examples.stem
    with ProgressView(console, quiet=quiet).open() as view:
        model, reader = load_pair(settings.backbone)
        for event in fit_examples(settings, card, items, model, reader, folder):
            view.show(event)
    for line in fit_summary(RunFolder(folder)):
        console.print(line, markup=False)


def _own_task(
    table: Path, columns: tuple[str, str], language: str, describe: list[str]
) -> "tuple[list[Example], TaskCard]":
    """Read somebody's own table as examples and a task card."""
    from polyprompt.classifier import own_examples
    from polyprompt.data.readers import read_columns
    from polyprompt.experiments.fitting import own_card
    from polyprompt.languages.catalogue import catalogue, check_languages

    if language != "unknown":
        check_languages([language], catalogue(), "the catalogue (polyprompt languages)")
    texts, labels = read_columns(table, *columns)
    items = own_examples(texts, labels, language)
    return items, own_card(table.stem, labels, _descriptions(describe))


def fit_summary(run: "RunFolder") -> list[str]:
    """Say what a fit did and how sure one can be of it."""
    from polyprompt.cautions import contamination_notes, marked
    from polyprompt.cli.console import program_name

    record, scores = run.record(), run.scores()
    lines = [
        f"Fitted {len(record['labels'])} labels on {record['train_examples']} examples: "
        f"{record['trained_parameters']} trained numbers on {marked(record['backbone'])}.",
        *contamination_notes(record["backbone_notes"]),
    ]
    rows = [
        r for r in scores.iter_rows(named=True) if r["metric"] == record.get("metric", "accuracy")
    ]
    own = next((r for r in rows if r["baseline"] is None), None)
    if own is None:
        lines.append(
            "A label has only one example, so nothing can be held out: how good it is, is unknown. "
            "Two or more examples per label give an estimate."
        )
    else:
        others = {r["baseline"]: r["value"] for r in rows if r["baseline"] is not None}
        lines += _estimate(record["scores_from"], own["value"], own["n"], others)
    lines += [
        f"Run folder: {run.path}",
        f"Next: {program_name()} predict {run.path} FILE   (CSV, TSV, JSON lines, lines or -)",
    ]
    return lines


def _estimate(method: str, right: float, n: int, others: dict[str, float]) -> list[str]:
    """Say how good a fit was on what its folds had not seen, the baselines beside it."""
    from polyprompt.analysis.summary import BASELINE_TITLES
    from polyprompt.report.score_tables import percent
    from polyprompt.scoring.intervals import proportion_interval

    interval = proportion_interval(round(right * n), n)
    listed = ", ".join(f"{BASELINE_TITLES[name]} {percent(v)}" for name, v in others.items())
    lines = [
        f"{method.capitalize()} on these examples: {percent(right)} % right (95 % interval "
        f"{percent(interval.low)} – {percent(interval.high)}, n = {n}).",
        f"On the same folds: {listed}.",
    ]
    best = max(others, key=lambda name: others[name])
    if others[best] > right:
        lines.append(
            f"Note: {BASELINE_TITLES[best]} did better here; the trained prompt is not worth more "
            "than it on this estimate."
        )
    return [
        *lines,
        "This holds for texts like your examples. In other languages it is usually lower, and for "
        "languages the backbone hardly knows much lower: test on some labelled texts there.",
    ]


def _descriptions(pairs: list[str]) -> dict[str, str]:
    """Read ``LABEL=WORDS`` arguments."""
    from polyprompt.errors import ConfigError

    described = {}
    for pair in pairs:
        label, equals, words = pair.partition("=")
        if not equals or not words.strip():
            raise ConfigError(f"Cannot read --describe '{pair}': expected LABEL=WORDS.")
        described[label] = words
    return described
