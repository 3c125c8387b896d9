"""Write the numbers that papers print as tables that results are compared with.

Usage: python scripts/build_paper_tables.py REFERENCE_FOLDER

The folder holds ``philippy2024_table4.csv`` (language, model, freeze, mean, std, as the paper has
them) and ``languages.csv`` (the language's name there and its SIB-200 code). Facts are taken, and
nothing else: percent become shares, names become codes.
"""

import csv
import sys
from pathlib import Path

OUT = Path(__file__).parent.parent / "src" / "polyprompt" / "analysis" / "data"
FREEZING = {"w/": "frozen", "w/o": "not frozen"}


def main() -> None:
    """Convert Table 4 of Philippy et al. (2024)."""
    folder = Path(sys.argv[1])
    with (folder / "languages.csv").open(encoding="utf-8") as stream:
        codes = {row["language"]: row["sib200_code"] for row in csv.DictReader(stream)}
    with (folder / "philippy2024_table4.csv").open(encoding="utf-8") as stream:
        cells = list(csv.DictReader(stream))
    with (OUT / "philippy2024_table4.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("column", "language", "accuracy", "deviation"))
        for cell in cells:
            column = f"{cell['model']} {FREEZING[cell['freeze']]}"
            values = (float(cell[key]) / 100 for key in ("mean", "std"))
            writer.writerow((column, codes[cell["language"]], *(f"{v:.4f}" for v in values)))


if __name__ == "__main__":
    main()
