"""Run a small study from Python: one prompt length against another, in six languages.

Run it with ``python examples/study.py [FOLDER]``; results are kept in the folder (``runs`` if it is
left out), and a second call computes nothing again.
"""

import sys

import polars as pl

from polyprompt import run_study

# the example
results = run_study(
    {
        "name": "lengths",
        "title": "Prompt length on everyday topics",
        "task": "sample_topics",
        "targets": ["eng_Latn", "deu_Latn", "hin_Deva", "swh_Latn", "tur_Latn", "yor_Latn"],
        "shots": 8,
        "training": {"epochs": 5},
        "output": sys.argv[1] if len(sys.argv) > 1 else "runs",
        "grid": {"parts.task.length": [1, 10], "seed": [0, 1]},
    }
)
for title, headline in results.headlines.items():
    print(f"{title}: {headline}\n")

table = results.languages().pivot(on="setting", index="name", values="value")
with pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True, float_precision=3):
    print(table)
print(results.write_report())
