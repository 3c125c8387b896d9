"""Scores of a whole study as one table, and what can be asked of it in SQL."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from polyprompt.errors import ConfigError, StoreError
from polyprompt.experiments.nested import flatten, varying
from polyprompt.experiments.overview import PLAN, Plan, State, read_plan, run_states
from polyprompt.experiments.store import PREDICTIONS, SCORES, complete_runs

_BATCH = 256
_EXAMPLE = (
    "select language, avg(value) as accuracy from scores where baseline is null and metric = "
    "'accuracy' group by language"
)


def plan_of(study: Path) -> Plan:
    """Read a study's plan; of a study without one, what its complete runs' configurations say.

    Raises:
        StoreError: There is no study, or it is damaged.
    """
    if (study / PLAN).is_file() or not study.is_dir():
        return read_plan(study)
    configs = {run.name: flatten(run.config()) for run in complete_runs(study)}
    apart = varying(list(configs.values()))
    runs = {name: {key: one.get(key) for key in apart} for name, one in configs.items()}
    return Plan(runs, tuple((name,) for name in runs))


def run_table(study: Path, plan: Plan) -> pl.DataFrame:
    """Tabulate a study's runs: name, state, and what sets them apart.

    Values that are lists or of several kinds are written as text.
    """
    states = run_states(study, plan)
    columns: dict[str, pl.Series] = {
        "run": pl.Series([one.name for one in states], dtype=pl.String),
        "state": pl.Series([str(one.state) for one in states], dtype=pl.String),
    }
    keys = dict.fromkeys(key for one in states for key in one.settings)
    for key in keys:
        values = [one.settings.get(key) for one in states]
        name = key if key not in columns else f"settings.{key}"
        columns[name] = _column(values)
    return pl.DataFrame(columns)


def _column(values: Sequence[object]) -> pl.Series:
    """Make a column of settings: numbers or truth values where all are, else text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} or kinds <= {str}:
        return pl.Series(values)
    if kinds <= {int, float}:
        return pl.Series(values, dtype=pl.Float64 if float in kinds else pl.Int64, strict=False)
    return pl.Series(
        [value if value is None else _text(value) for value in values], dtype=pl.String
    )


def _text(value: object) -> str:
    """Write a setting as people do: several joined by a plus."""
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def score_table(study: Path) -> pl.DataFrame:
    """Join the scores of a study's complete runs with what sets them apart.

    Raises:
        StoreError: There is no study, none of its runs is complete, or a table is damaged.
    """
    return _joined(study, run_table(study, plan_of(study)))


def _joined(study: Path, runs: pl.DataFrame) -> pl.DataFrame:
    """Join the scores of complete runs with the table of runs.

    Raises:
        StoreError: None of them is complete, or a table is damaged.
    """
    complete = _complete(study, runs)
    paths = [study / name / SCORES for name in complete["run"]]
    scores = pl.concat(list(_read(paths)))
    clashes = {name: f"settings.{name}" for name in complete.columns[2:] if name in scores.columns}
    settings = complete.drop("state").rename(clashes)
    return scores.join(settings, on="run", how="left", maintain_order="left")


def _complete(study: Path, runs: pl.DataFrame) -> pl.DataFrame:
    """Leave out runs that are not complete.

    Raises:
        StoreError: None is.
    """
    complete = runs.filter(pl.col("state") == str(State.DONE))
    if complete.is_empty():
        raise StoreError(f"No run of {study} is complete yet. Run it first.")
    return complete


def _read(paths: Sequence[Path]) -> Iterator[pl.DataFrame]:
    """Read tables of one kind, many at once."""
    for start in range(0, len(paths), _BATCH):
        some = list(paths[start : start + _BATCH])
        try:
            yield pl.read_parquet(some, glob=False)
        except (OSError, pl.exceptions.PolarsError):
            yield from map(_read_one, some)


def _read_one(path: Path) -> pl.DataFrame:
    """Read one table.

    Raises:
        StoreError: It is damaged.
    """
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StoreError(
            f"Cannot read {path}: {error}. Delete {path.parent} and run the study again."
        ) from error


def filtered(table: pl.DataFrame, where: str) -> pl.DataFrame:
    """Keep the rows for which an SQL expression holds.

    Raises:
        ConfigError: It cannot be understood; names the columns.
    """
    try:
        return table.filter(pl.sql_expr(where))
    except pl.exceptions.PolarsError as error:
        raise ConfigError(
            f'Cannot select where {where}: {_first_line(error)}. Expected SQL such as "language = '
            f"'swh_Latn' and baseline is null\"; columns: {', '.join(map(_quoted, table.columns))}."
        ) from error


def query(study: Path, sql: str) -> pl.DataFrame:
    """Answer an SQL query over the tables ``scores``, ``runs`` and ``predictions``.

    Raises:
        ConfigError: The query cannot be understood; names tables and columns.
        StoreError: No run is complete, or a table is damaged.
    """
    runs = run_table(study, plan_of(study))
    tables = {"scores": _joined(study, runs).lazy()} if "scores" in sql.lower() else {}
    tables["runs"] = runs.lazy()
    if "predictions" in sql.lower():
        done = _complete(study, runs)["run"]
        paths = [study / name / PREDICTIONS for name in done]
        tables["predictions"] = pl.scan_parquet(paths, glob=False)
    try:
        return pl.SQLContext(tables).execute(sql, eager=True)
    except (pl.exceptions.PolarsError, OSError) as error:
        known = {
            name: ", ".join(map(_quoted, frame.collect_schema().names()))
            for name, frame in tables.items()
        }
        listed = "; ".join(f"{name} ({columns})" for name, columns in known.items())
        raise ConfigError(
            f"Cannot answer the query: {_first_line(error)}. Expected polars' SQL, e.g. "
            f'"{_EXAMPLE}"; tables: {listed}.'
        ) from error


def _quoted(name: str) -> str:
    """Write a column's name as SQL wants it."""
    return f'"{name}"' if "." in name else name


def _first_line(error: Exception) -> str:
    """Give an error's first line without a full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
