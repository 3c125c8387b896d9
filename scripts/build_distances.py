# /// script
# requires-python = ">=3.11"
# dependencies = ["urielplus==1.3.2", "lang2vec==1.1.2", "numpy>=2", "polars>=1.20"]
# ///
"""Build the table of typological distances between all languages of SIB-200.

Source: URIEL (Littell et al. 2017) as the package ``urielplus`` 1.3.2 ships it – plain URIEL, no
further database integrated – and, for predicted features, the nearest-neighbour completion that
``lang2vec`` 1.1.2 ships. Both CC BY-SA 4.0, and so is the table.

A distance is 2 · arccos(cosine) / π of two languages' feature vectors over the features that are
known for both; a feature is present if any source says so. Kinds: syntactic (S_), phonological
(P_), inventory (INV_), featural (these three together), genetic (family tree), geographic. Beside
every value stands the number of shared features, since a distance may rest on one of them.

A language without any value of a kind takes its macro-language's or that one's main member's
(``STAND_INS``); which did is written to ``distance_stand_ins.csv``. What is then missing stays
missing.

``urielplus`` logs and writes into its own folder when it is imported, so that nothing but this
script imports it; ``lang2vec`` does not import at all, its file is read.

Run it as::

    python build_distances.py languages.csv OUTPUT_FOLDER
"""

from __future__ import annotations

import csv
import importlib.util
import itertools
import sys
from pathlib import Path

import numpy as np
import polars as pl

KINDS = {
    "syntactic": ("S_",),
    "phonological": ("P_",),
    "inventory": ("INV_",),
    "featural": ("S_", "P_", "INV_"),
}
MISSING = 65535
SCALE = 10_000

# Macro-languages of SIB-200's codes and main members of its macro-languages (ISO 639-3 tables).
STAND_INS = {
    "als": "sqi", "arb": "ara", "ayr": "aym", "azb": "aze", "azj": "aze", "dik": "din",
    "est": "ekk", "fuv": "ful", "gaz": "orm", "grn": "gug", "hat": "hat", "khk": "mon",
    "kmr": "kur", "knc": "kau", "kon": "kng", "lvs": "lav", "nob": "nor", "npi": "nep",
    "ory": "ori", "pbt": "pus", "pes": "fas", "plt": "mlg", "prs": "pes", "quy": "que",
    "srd": "src", "swh": "swa", "taq": "tmh", "twi": "aka", "uzn": "uzb", "ydd": "yid",
    "zho": "cmn", "zsm": "msa", "kas": "kas", "nno": "nor", "lim": "lim", "ckb": "kur",
}  # fmt: skip


def main() -> None:
    """Compute all pairs and write the table."""
    languages, out = Path(sys.argv[1]), Path(sys.argv[2])
    with languages.open(encoding="utf-8") as stream:
        codes = sorted({row["iso639_3"] for row in csv.DictReader(stream)})
    columns: dict[str, np.ndarray] = {}
    stand_ins: list[tuple[str, str, str]] = []
    first, second = np.array(list(itertools.combinations(range(len(codes)), 2))).T
    for kind, (vectors, instead) in attested(codes).items():
        distance, shared = angular(vectors)
        columns[kind] = encoded(distance[first, second])
        columns[f"{kind}_shared"] = shared[first, second].astype(np.uint16)
        stand_ins += [(code, kind, other) for code, other in instead.items()]
    for kind, vectors in predicted(codes).items():
        distance, _ = angular(vectors)
        columns[f"{kind}_predicted"] = encoded(distance[first, second])
    names = np.array(codes)
    frame = pl.DataFrame({"first": names[first], "second": names[second], **columns})
    frame.write_parquet(out / "distances.parquet", compression="zstd", compression_level=19)
    with (out / "distance_stand_ins.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([("iso639_3", "kind", "stand_in"), *stand_ins])
    for kind in [*KINDS, "genetic", "geographic"]:
        gaps = int((frame[kind] == MISSING).sum())
        print(f"{kind}: {len(frame) - gaps} of {len(frame)} pairs")
    print(f"{(out / 'distances.parquet').stat().st_size} bytes")


def attested(codes: list[str]) -> dict[str, tuple[np.ndarray, dict[str, str]]]:
    """Give every kind's feature vectors, NaN where unknown, and which languages had stand-ins."""
    import logging

    from urielplus.urielplus import URIELPlus

    logging.disable(logging.CRITICAL)
    uriel = URIELPlus()
    tables = {
        "typological": (uriel.langs[1], uriel.feats[1], uriel.data[1]),
        "genetic": (uriel.langs[0], uriel.feats[0], uriel.data[0]),
        "geographic": (uriel.langs[2], uriel.feats[2], uriel.data[2]),
    }
    found = {}
    for kind in [*KINDS, "genetic", "geographic"]:
        langs, feats, data = tables.get(kind, tables["typological"])
        chosen = np.array([name.startswith(KINDS.get(kind, ("",))) for name in feats])
        known = np.where(data[:, chosen] < 0, np.nan, data[:, chosen])
        with np.errstate(all="ignore"):
            values = np.fmax.reduce(known, axis=2)
        found[kind] = placed(codes, list(langs), values)
    return found


def placed(
    codes: list[str], langs: list[str], values: np.ndarray
) -> tuple[np.ndarray, dict[str, str]]:
    """Put rows into the order of ``codes``, with stand-ins for languages without a value."""
    place = {str(code): row for row, code in enumerate(langs)}
    rows = np.full((len(codes), values.shape[1]), np.nan)
    instead = {}
    for index, code in enumerate(codes):
        for candidate in (code, STAND_INS.get(code, code)):
            row = place.get(candidate)
            if row is not None and not np.isnan(values[row]).all():
                rows[index] = values[row]
                if candidate != code:
                    instead[code] = candidate
                break
    return rows, instead


def predicted(codes: list[str]) -> dict[str, np.ndarray]:
    """Give the completed feature vectors of the typological kinds."""
    spec = importlib.util.find_spec("lang2vec")
    assert spec is not None
    assert spec.origin is not None
    file = np.load(Path(spec.origin).parent / "data" / "feature_predictions.npz", allow_pickle=True)
    values, feats = file["data"][:, :, 0].astype(float), file["feats"]
    result = {}
    for kind, fronts in KINDS.items():
        chosen = np.array([str(name).startswith(fronts) for name in feats])
        result[kind], _ = placed(codes, list(map(str, file["langs"])), values[:, chosen])
    return result


def angular(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute 2 · arccos(cosine) / π over shared features, NaN without any, and their number."""
    known = ~np.isnan(vectors)
    filled = np.where(known, vectors, 0.0)
    shared = known.astype(float) @ known.T.astype(float)
    dots = filled @ filled.T
    squares = (filled**2) @ known.T.astype(float)
    # as urielplus does it, a vector without any feature present counts as one that is even
    zero, sums = squares == 0, known.astype(float) @ filled.T
    dots = np.where(zero & zero.T, shared, np.where(zero, sums, np.where(zero.T, sums.T, dots)))
    squares = np.where(zero, shared, squares)
    with np.errstate(all="ignore"):
        cosine = np.clip(dots / np.sqrt(squares * squares.T), -1, 1)
    distance = np.where(shared > 0, 2 * np.arccos(cosine) / np.pi, np.nan)
    return distance, shared


def encoded(distance: np.ndarray) -> np.ndarray:
    """Write distances in ten-thousandths; a missing one as ``MISSING``."""
    return np.where(np.isnan(distance), MISSING, np.round(distance * SCALE)).astype(np.uint16)


if __name__ == "__main__":
    main()
