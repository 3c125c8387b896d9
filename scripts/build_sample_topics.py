"""Joins the English sentences and their translations into the shipped ``test.tsv``, checked.

Usage: python scripts/build_sample_topics.py FOLDER_OF_TRANSLATIONS

The folder holds a file ``CODE.tsv`` per language with lines ``id<TAB>text``, in the English order.
"""

import csv
import sys
import unicodedata
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "src" / "polyprompt" / "tasks" / "sample_topics"


def read_english() -> list[dict[str, str]]:
    """Read the English rows of all splits."""
    with (FOLDER / "english.tsv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def read_translation(path: Path, ids: list[str]) -> list[str]:
    """Read one language and refuse what is not in order."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    assert [row[0] for row in rows] == ids, f"{path}: ids differ"
    texts = [row[1] for row in rows]
    assert len(set(texts)) == len(texts), f"{path}: a text stands there twice"
    for text in texts:
        assert text, f"{path}: a text is empty"
        assert text == unicodedata.normalize("NFC", text).strip(), f"{path}: {text!r}"
    return texts


def main() -> None:
    """Write ``test.tsv``, English first, then by code."""
    english = [row for row in read_english() if row["split"] == "test"]
    ids = [row["id"] for row in english]
    languages = {"eng_Latn": [row["text"] for row in english]}
    for path in sorted(Path(sys.argv[1]).glob("*.tsv")):
        languages[path.stem] = read_translation(path, ids)
    lines = ["language\tid\tsplit\tlabel\ttext"]
    for code, texts in languages.items():
        for row, text in zip(english, texts, strict=True):
            lines.append(f"{code}\t{row['id']}\ttest\t{row['label']}\t{text}")
    (FOLDER / "test.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    print(f"{len(languages)} languages, {len(lines) - 1} sentences")


if __name__ == "__main__":
    main()
