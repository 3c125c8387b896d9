"""Reads tables of any of the usual kinds."""

from pathlib import Path

import polars as pl

from polyprompt.errors import DataError


def read_table(path: Path) -> pl.DataFrame:
    """Read a parquet, CSV, TSV or JSON-lines table; every cell of a text table is a string.

    Raises:
        DataError: The file is missing, empty, broken or of another kind.
    """
    readers = {
        ".parquet": pl.read_parquet,
        ".csv": lambda p: pl.read_csv(p, infer_schema=False),
        ".tsv": lambda p: pl.read_csv(p, separator="\t", infer_schema=False, quote_char=None),
        ".jsonl": pl.read_ndjson,
        ".ndjson": pl.read_ndjson,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"Cannot read {path}: expected one of {', '.join(readers)}.")
    try:
        return reader(path)
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = "it is empty" if isinstance(error, pl.exceptions.NoDataError) else str(error)
        raise DataError(f"Cannot read {path}: {reason}. Expected a {path.suffix} table.") from error
