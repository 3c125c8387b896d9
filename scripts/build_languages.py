# /// script
# requires-python = ">=3.11"
# dependencies = ["pycountry==26.2.16", "urielplus==1.3.2"]
# ///
"""Build the language catalogue, one row for each of the 205 languages of SIB-200.

The table joins facts from four places:

* names and two-letter codes: the ISO 639 tables in ``pycountry``;
* family, branch and a point on the map: the table of language lineages that the package
  ``urielplus`` ships (derived from Glottolog);
* XGLM, XLM-R and mT5: a folder of corpus tables given on the command line;
* BLOOM: the same folder for most languages, a constant in this file for the rest.

Where those sources have nothing, a value comes from a constant in this file and the row says
so in ``source_notes``. Nothing is fetched from the network, and ``urielplus`` is read as a
folder of data, not imported, because importing it changes the logging setup.

Run it as::

    python build_languages.py CORPUS_FOLDER languages.csv

The corpus folder holds ``languages.csv``, ``corpus_cc100.csv``, ``corpus_cc100xl.csv`` and
``corpus_mc4.csv``. The finished package needs neither that folder nor the two packages.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path

import pycountry

Row = dict[str, str]

COLUMNS = (
    "code",
    "iso639_3",
    "name",
    "script",
    "iso639_1",
    "family",
    "branch",
    "latitude",
    "longitude",
    "bloom_seen",
    "bloom_bytes",
    "xglm_seen",
    "xglm_tokens",
    "xlmr_seen",
    "xlmr_gib",
    "mt5_seen",
    "mt5_tokens_billions",
    "source_notes",
)

# The 204 codes of FLORES-200 (with sat_Olck, the script its Santali text is really in) and
# nqo_Nkoo, which SIB-200 has besides them.
CODE_LIST = """
ace_Arab ace_Latn acm_Arab acq_Arab aeb_Arab afr_Latn ajp_Arab aka_Latn als_Latn amh_Ethi
apc_Arab arb_Arab arb_Latn ars_Arab ary_Arab arz_Arab asm_Beng ast_Latn awa_Deva ayr_Latn
azb_Arab azj_Latn bak_Cyrl bam_Latn ban_Latn bel_Cyrl bem_Latn ben_Beng bho_Deva bjn_Arab
bjn_Latn bod_Tibt bos_Latn bug_Latn bul_Cyrl cat_Latn ceb_Latn ces_Latn cjk_Latn ckb_Arab
crh_Latn cym_Latn dan_Latn deu_Latn dik_Latn dyu_Latn dzo_Tibt ell_Grek eng_Latn epo_Latn
est_Latn eus_Latn ewe_Latn fao_Latn fij_Latn fin_Latn fon_Latn fra_Latn fur_Latn fuv_Latn
gaz_Latn gla_Latn gle_Latn glg_Latn grn_Latn guj_Gujr hat_Latn hau_Latn heb_Hebr hin_Deva
hne_Deva hrv_Latn hun_Latn hye_Armn ibo_Latn ilo_Latn ind_Latn isl_Latn ita_Latn jav_Latn
jpn_Jpan kab_Latn kac_Latn kam_Latn kan_Knda kas_Arab kas_Deva kat_Geor kaz_Cyrl kbp_Latn
kea_Latn khk_Cyrl khm_Khmr kik_Latn kin_Latn kir_Cyrl kmb_Latn kmr_Latn knc_Arab knc_Latn
kon_Latn kor_Hang lao_Laoo lij_Latn lim_Latn lin_Latn lit_Latn lmo_Latn ltg_Latn ltz_Latn
lua_Latn lug_Latn luo_Latn lus_Latn lvs_Latn mag_Deva mai_Deva mal_Mlym mar_Deva min_Arab
min_Latn mkd_Cyrl mlt_Latn mni_Beng mos_Latn mri_Latn mya_Mymr nld_Latn nno_Latn nob_Latn
npi_Deva nqo_Nkoo nso_Latn nus_Latn nya_Latn oci_Latn ory_Orya pag_Latn pan_Guru pap_Latn
pbt_Arab pes_Arab plt_Latn pol_Latn por_Latn prs_Arab quy_Latn ron_Latn run_Latn rus_Cyrl
sag_Latn san_Deva sat_Olck scn_Latn shn_Mymr sin_Sinh slk_Latn slv_Latn smo_Latn sna_Latn
snd_Arab som_Latn sot_Latn spa_Latn srd_Latn srp_Cyrl ssw_Latn sun_Latn swe_Latn swh_Latn
szl_Latn tam_Taml taq_Latn taq_Tfng tat_Cyrl tel_Telu tgk_Cyrl tgl_Latn tha_Thai tir_Ethi
tpi_Latn tsn_Latn tso_Latn tuk_Latn tum_Latn tur_Latn twi_Latn tzm_Tfng uig_Arab ukr_Cyrl
umb_Latn urd_Arab uzn_Latn vec_Latn vie_Latn war_Latn wol_Latn xho_Latn ydd_Hebr yor_Latn
yue_Hant zho_Hans zho_Hant zsm_Latn zul_Latn
"""
CODES = CODE_LIST.split()

# Names where the ISO 639-3 reference name is dated, ambiguous or carries a comment.
NAMES = {
    "ace": "Acehnese",
    "ajp": "South Levantine Arabic",
    "apc": "North Levantine Arabic",
    "arb": "Modern Standard Arabic",
    "azb": "South Azerbaijani",
    "azj": "North Azerbaijani",
    "bem": "Bemba",
    "ell": "Greek",
    "hat": "Haitian Creole",
    "ilo": "Ilocano",
    "kac": "Jingpho",
    "kam": "Kamba",
    "khm": "Khmer",
    "kir": "Kyrgyz",
    "lim": "Limburgish",
    "lua": "Luba-Kasai",
    "luo": "Luo",
    "lus": "Mizo",
    "mni": "Meitei",
    "npi": "Nepali",
    "nso": "Northern Sotho",
    "nya": "Nyanja",
    "oci": "Occitan",
    "pan": "Eastern Panjabi",
    "swh": "Swahili",
    "uig": "Uyghur",
    "war": "Waray",
}

# Rows that are a further script of a language whose usual script has its own row.
SECOND_SCRIPTS = {
    "ace_Arab": "Arabic script",
    "arb_Latn": "Latin script",
    "bjn_Arab": "Arabic script",
    "kas_Deva": "Devanagari script",
    "knc_Arab": "Arabic script",
    "min_Arab": "Arabic script",
    "taq_Tfng": "Tifinagh script",
}
# Written Chinese has no single usual script: both rows are named after theirs.
CHINESE = {"zho_Hans": "Chinese (Simplified)", "zho_Hant": "Chinese (Traditional)"}

# ISO 639-3 macrolanguages of the languages that have no two-letter code of their own.
MACROLANGUAGES = {
    **dict.fromkeys(("acm", "acq", "aeb", "ajp", "apc", "arb", "ars", "ary", "arz"), "ara"),
    **dict.fromkeys(("azb", "azj"), "aze"),
    **dict.fromkeys(("bjn", "min", "zsm"), "msa"),
    **dict.fromkeys(("ckb", "kmr"), "kur"),
    **dict.fromkeys(("ltg", "lvs"), "lav"),
    **dict.fromkeys(("pes", "prs"), "fas"),
    "als": "sqi",
    "ayr": "aym",
    "fuv": "ful",
    "gaz": "orm",
    "khk": "mon",
    "knc": "kau",
    "npi": "nep",
    "ory": "ori",
    "pbt": "pus",
    "plt": "mlg",
    "quy": "que",
    "swh": "swa",
    "uzn": "uzb",
    "ydd": "yid",
    "yue": "zho",
}

# Lineage and point are keyed by Glottocode. urielplus maps ISO codes to Glottocodes but leaves
# out these, all of them macrolanguages.
GLOTTOCODES = {
    "est": "esto1258",
    "grn": "para1311",
    "kon": "koon1244",
    "srd": "sard1257",
    "zho": "mand1415",
}
GLOTTOCODE_NOTES = {
    "est": "family and point of Estonian without Voro (esto1258)",
    "grn": "family and point of Paraguayan Guarani (para1311)",
    "kon": "family and point of South-Central Koongo (koon1244)",
    "srd": "family and point of Sardinian as a group (sard1257)",
    "zho": "family and point of Mandarin (mand1415)",
}

# Node of the lineage -> branch. The first node listed here that occurs in the lineage wins, so
# narrower nodes stand before wider ones. Without any, the second node of the lineage is taken.
BRANCHES = {
    "Narrow Bantu": "Bantu",
    "Igboid": "Igboid",
    "Defoid": "Defoid",
    "Kwa Volta-Congo": "Kwa",
    "Gur": "Gur",
    "Ubangi": "Ubangi",
    "North-Central Atlantic": "Atlantic",
    "Germanic": "Germanic",
    "Romance": "Romance",
    "Slavic": "Slavic",
    "Eastern Baltic": "Baltic",
    "Indo-Aryan": "Indo-Aryan",
    "Iranian": "Iranian",
    "Celtic": "Celtic",
    "Albanian": "Albanian",
    "Armenic": "Armenian",
    "Greek": "Greek",
    "Oceanic": "Oceanic",
    "Kipchak": "Kipchak",
    "Turkestan": "Karluk",
    "Oghuz": "Oghuz",
    "Tupi-Guarani": "Tupi-Guarani",
    "Southern Quechua": "Quechua II",
    "Mundaic": "Munda",
    "Japanesic": "Japonic",
    "South Dravidian": "Dravidian",
}

# N'Ko is listed by urielplus as an artificial language without a point. It is the written
# standard of the Manding languages; Kankan in Guinea is where it comes from.
BY_HAND = {
    "nqo": {
        "family": "Mande",
        "branch": "Western Mande",
        "latitude": "10.385",
        "longitude": "-9.306",
    },
}

# Bytes in ROOTS (Table 1 of arXiv 2211.05100) of the languages the corpus folder leaves out.
ROOTS_BYTES = {
    "lug_Latn": 4_568_367,
    "nya_Latn": 1_187_405,
    "pan_Guru": 1_572_109_752,
    "run_Latn": 3_272_550,
    "sot_Latn": 751_034,
    "tsn_Latn": 1_502_200,
    "tso_Latn": 707_634,
    "zho_Hant": 762_489_150,
}
# All natural languages of that table together: 1,614,479,114,961 less 174,700,245,772 of code.
ROOTS_TOTAL = 1_439_778_869_189

# Two-letter code in the corpora -> the row that gets its numbers. Only where the row is an
# individual language and the corpus names the macrolanguage, or uses another code than ISO 639.
CORPUS_ROWS = {
    "ar": "arb_Arab",
    "az": "azj_Latn",
    "ceb": "ceb_Latn",
    "fa": "pes_Arab",
    "fil": "tgl_Latn",
    "iw": "heb_Hebr",
    "ku": "kmr_Latn",
    "lv": "lvs_Latn",
    "mg": "plt_Latn",
    "mn": "khk_Cyrl",
    "ms": "zsm_Latn",
    "ne": "npi_Deva",
    "no": "nob_Latn",
    "om": "gaz_Latn",
    "or": "ory_Orya",
    "ps": "pbt_Arab",
    "qu": "quy_Latn",
    "sq": "als_Latn",
    "sw": "swh_Latn",
    "uz": "uzn_Latn",
    "yi": "ydd_Hebr",
    "zh": "zho_Hans",
}
CC100_ROWS = {"Chinese (Simplified)": "zho_Hans", "Chinese (Traditional)": "zho_Hant"}

# An entry that covers two written standards, both of them rows here: the numbers go to the
# first, and for the second it is unknown whether and how much of it was in the data.
UNDECIDED = {
    ("xglm", "zho_Hant"): "XGLM: one entry for Chinese, counted under zho_Hans",
    ("mt5", "zho_Hant"): "mC4: one entry for Chinese, counted under zho_Hans",
    ("xlmr", "nno_Latn"): "CC-100: one entry for Norwegian, counted under nob_Latn",
    ("mt5", "nno_Latn"): "mC4: one entry for Norwegian, counted under nob_Latn",
}

CREOLE_NOTE = "creole, classed with the language most of its words come from"
SAME_POINT_NOTE = "point of Akan as a whole"
SWAP_NOTE = "mC4: copies of the table disagree, Malayalam and Mongolian 2.7 and 1.8 or 1.8 and 2.7"
NOTES = {
    "aka_Latn": "BLOOM lists Akan and Twi apart",
    "epo_Latn": "constructed language: the point is a convention of the source",
    "eus_Latn": "no family in the source: isolate",
    "hat_Latn": CREOLE_NOTE,
    "kea_Latn": CREOLE_NOTE,
    "khk_Cyrl": SWAP_NOTE,
    "mal_Mlym": SWAP_NOTE,
    "mya_Mymr": "CC-100: sum of its two Burmese entries (1.6 and 0.4), one in Zawgyi encoding",
    "nqo_Nkoo": "family, branch and point by hand (written Manding; Kankan)",
    "pap_Latn": CREOLE_NOTE,
    "tpi_Latn": CREOLE_NOTE,
    "twi_Latn": SAME_POINT_NOTE,
}

CORPUS_AMOUNTS = {
    "bloom": "bloom_bytes",
    "xglm": "xglm_tokens",
    "xlmr": "xlmr_gib",
    "mt5": "mt5_tokens_billions",
}


def read_csv(path: Path) -> list[Row]:
    """Read a comma-separated file with a header line.

    Args:
        path: The file, in UTF-8.

    Returns:
        Its rows, each as a mapping from column name to text.
    """
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def name_of(code: str) -> str:
    """Return the English name of a row, with the script where it tells two rows apart.

    Args:
        code: A code such as ``ace_Arab``.

    Returns:
        The name, for instance ``Acehnese (Arabic script)``.
    """
    if code in CHINESE:
        return CHINESE[code]
    iso = code[:3]
    name = NAMES.get(iso) or pycountry.languages.get(alpha_3=iso).name
    script = SECOND_SCRIPTS.get(code)
    return f"{name} ({script})" if script else name


def own_iso639_1(iso: str) -> str:
    """Return the two-letter code of exactly this ISO 639-3 language, or an empty text."""
    language = pycountry.languages.get(alpha_3=iso)
    return getattr(language, "alpha_2", "") if language else ""


def iso639_1_of(iso: str) -> str:
    """Return the two-letter code of a language or else of its macrolanguage, or an empty text."""
    return own_iso639_1(iso) or own_iso639_1(MACROLANGUAGES.get(iso, ""))


def uriel_folder() -> Path:
    """Find the data tables of the installed ``urielplus`` without importing it.

    Returns:
        The folder with its CSV files.

    Raises:
        SystemExit: If the package is not installed.
    """
    spec = importlib.util.find_spec("urielplus")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("urielplus is not installed")
    return Path(spec.submodule_search_locations[0]) / "database" / "urielplus_csvs"


def read_lineages() -> dict[str, Row]:
    """Read lineage and point of every language needed.

    Returns:
        The rows of ``urielplus``'s table, by ISO 639-3 code.
    """
    folder = uriel_folder()
    by_glottocode = {row["language_id"]: row for row in read_csv(folder / "lang_fam_geo.csv")}
    pairs = {
        row["iso_code"]: row["glottocode"] for row in read_csv(folder / "uriel_glottocode_map.csv")
    }
    isos = {code[:3] for code in CODES}
    return {iso: by_glottocode[GLOTTOCODES.get(iso) or pairs[iso]] for iso in isos}


def family_and_branch(lineage: str) -> tuple[str, str]:
    """Take the family and one mid-level node out of a lineage.

    Args:
        lineage: Node names from the top down, separated by commas; empty for an isolate.

    Returns:
        The top node and the branch.
    """
    nodes = [node.strip() for node in lineage.split(",") if node.strip()]
    if not nodes:
        return "Isolate", "Isolate"
    family = nodes[0]
    for node, branch in BRANCHES.items():
        if node in nodes:
            return family, branch
    return family, nodes[1] if len(nodes) > 1 else family


def degrees(text: str) -> str:
    """Write a coordinate with at most four decimals, longitudes from 180 west to 180 east.

    Args:
        text: Decimal degrees; the source also counts eastwards past 180.

    Returns:
        The same angle between -180 and 180.
    """
    value = Decimal(text)
    if value > Decimal(180):
        value -= Decimal(360)
    value = round(value, 4)
    return f"{value:f}".rstrip("0").rstrip(".") if "." in f"{value:f}" else f"{value:f}"


def place_of(iso: str, source: Row) -> Row:
    """Return family, branch, latitude and longitude of a language.

    Args:
        iso: Its ISO 639-3 code.
        source: Its row in ``urielplus``'s table.

    Returns:
        The four columns.
    """
    if iso in BY_HAND:
        return BY_HAND[iso]
    family, branch = family_and_branch(source["lineage"])
    return {
        "family": family,
        "branch": branch,
        "latitude": degrees(source["latitude"]),
        "longitude": degrees(source["longitude"]),
    }


def corpus_rows() -> dict[str, str]:
    """Map the two-letter codes of the corpora to the row that gets their numbers.

    Returns:
        Codes of this table by corpus code; every corpus code leads to one row at most.
    """
    rows = {}
    for code in CODES:
        two = own_iso639_1(code[:3])
        if two and code not in SECOND_SCRIPTS and code not in CHINESE:
            rows[two] = code
    return rows | CORPUS_ROWS


def read_cc100(path: Path) -> dict[str, str]:
    """Read the sizes of CC-100, on which XLM-R was trained.

    Entries marked ``-`` are romanised text of languages that are there in their own script;
    they are left out. Several entries of one row are added up.

    Args:
        path: The table, one entry a line.

    Returns:
        GiB by code of this table.
    """
    to_code = corpus_rows()
    sizes: dict[str, Decimal] = defaultdict(Decimal)
    for entry in read_csv(path):
        code = CC100_ROWS.get(entry["Language"]) or to_code.get(entry["ISO code"])
        if code:
            sizes[code] += Decimal(entry["Size (GiB)"])
    return {code: str(size) for code, size in sizes.items()}


def read_mc4(path: Path) -> dict[str, str]:
    """Read the sizes of mC4, on which mT5 was trained.

    Entries in another script (``hi-Latn`` and the like) and ``und`` have no row here.

    Args:
        path: The table, one entry a line.

    Returns:
        Tokens in billions by code of this table.
    """
    to_code = corpus_rows()
    entries = ((to_code.get(row["Language"]), row["Tokens (Billions)"]) for row in read_csv(path))
    return {code: tokens for code, tokens in entries if code}


def read_amounts(folder: Path) -> dict[str, dict[str, str]]:
    """Read how much of each language every model saw.

    Args:
        folder: The corpus folder.

    Returns:
        For each model the amounts by code of this table.

    Raises:
        SystemExit: If the ROOTS numbers do not add up to the published total.
    """
    known = read_csv(folder / "languages.csv")
    roots = {row["sib200_code"]: row["bloom_roots_bytes"] for row in known}
    roots |= {code: str(size) for code, size in ROOTS_BYTES.items()}
    bloom = {code: size for code, size in roots.items() if size}
    if sum(map(int, bloom.values())) != ROOTS_TOTAL:
        raise SystemExit("the ROOTS sizes do not add up to the total of the table")
    return {
        "bloom": bloom,
        "xglm": {row["sib200_code"]: row["xglm_tokens"] for row in known if row["xglm_tokens"]},
        "xlmr": read_cc100(folder / "corpus_cc100.csv"),
        "mt5": read_mc4(folder / "corpus_mc4.csv"),
    }


def corpus_columns(code: str, amounts: dict[str, dict[str, str]]) -> Row:
    """Return the columns that say what the models saw of one row.

    Args:
        code: The row.
        amounts: The result of ``read_amounts``.

    Returns:
        For each model whether it saw the language (empty if undecided) and how much.
    """
    columns = {}
    for model, amount_column in CORPUS_AMOUNTS.items():
        amount = amounts[model].get(code, "")
        seen = "1" if amount else "0"
        columns[f"{model}_seen"] = "" if (model, code) in UNDECIDED else seen
        columns[amount_column] = amount
    return columns


def notes_of(code: str) -> str:
    """Return the remarks on where a row's values come from, separated by semicolons."""
    notes = [GLOTTOCODE_NOTES.get(code[:3]), NOTES.get(code)]
    notes += [note for (_, undecided), note in UNDECIDED.items() if undecided == code]
    return "; ".join(note for note in notes if note)


def build_rows(folder: Path) -> list[Row]:
    """Put the table together.

    Args:
        folder: The corpus folder.

    Returns:
        One row for each code, in the order of the codes.
    """
    lineages = read_lineages()
    amounts = read_amounts(folder)
    rows = []
    for code in sorted(CODES):
        iso, script = code.split("_")
        row = {
            "code": code,
            "iso639_3": iso,
            "name": name_of(code),
            "script": script,
            "iso639_1": iso639_1_of(iso),
            "source_notes": notes_of(code),
        }
        rows.append(row | place_of(iso, lineages[iso]) | corpus_columns(code, amounts))
    return rows


def check_rows(rows: list[Row]) -> list[str]:
    """Look for mistakes within the table.

    Args:
        rows: The whole table.

    Returns:
        One line for each mistake.
    """
    problems = []
    if len(rows) != 205:
        problems.append(f"{len(rows)} rows instead of 205")
    for column in ("code", "name"):
        counts = Counter(row[column] for row in rows)
        problems += [f"{column} {value} repeats" for value, count in counts.items() if count > 1]
    for row in rows:
        if abs(float(row["latitude"])) > 90 or abs(float(row["longitude"])) > 180:
            problems.append(f"{row['code']}: point outside the globe")
    return problems


def check_reference(rows: list[Row], known: list[Row]) -> list[str]:
    """Compare the table with the 52 languages of the corpus folder's ``languages.csv``.

    That file repeats the family as branch of the Atlantic-Congo languages, where this table has
    a narrower node; such a difference is intended and not reported.

    Args:
        rows: The whole table.
        known: The rows of that file.

    Returns:
        One line for each difference.
    """
    pairs = {
        "iso639_1": "iso639_1",
        "script": "script",
        "family": "family",
        "branch": "branch",
        "bloom_roots_bytes": "bloom_bytes",
        "xglm_tokens": "xglm_tokens",
    }
    by_code = {row["code"]: row for row in rows}
    differences = []
    for theirs in known:
        ours = by_code[theirs["sib200_code"]]
        for their_column, our_column in pairs.items():
            refined = their_column == "branch" and theirs["branch"] == "Atlantic-Congo"
            if theirs[their_column] != ours[our_column] and not refined:
                values = f"{theirs[their_column]!r} there, {ours[our_column]!r} here"
                differences.append(f"{ours['code']} {our_column}: {values}")
    return differences


def check_cc100xl(rows: list[Row], entries: list[Row]) -> list[str]:
    """Compare XGLM's tokens with the table of CC-100 XL, its corpus, given in millions.

    Args:
        rows: The whole table.
        entries: The rows of ``corpus_cc100xl.csv``.

    Returns:
        One line for each number that differs by more than rounding.
    """
    to_code = corpus_rows()
    by_code = {row["code"]: row for row in rows}
    differences = []
    for entry in entries:
        code = to_code.get(entry["ISO Code"])
        tokens = by_code[code]["xglm_tokens"] if code else ""
        millions = int(entry["Tokens (M)"].replace(",", ""))
        if tokens and abs(int(tokens) / 1e6 - millions) > 0.5001:
            differences.append(f"{code}: {tokens} tokens here, {millions} million in CC-100 XL")
    return differences


def write_table(rows: list[Row], path: Path) -> None:
    """Write the table as UTF-8 with plain line feeds.

    Args:
        rows: The whole table.
        path: The file to write.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def summary(rows: list[Row]) -> str:
    """Return how many rows have a value in the columns that may lack one."""
    filled = {
        column: sum(bool(row[column]) for row in rows)
        for column in ("iso639_1", "family", "latitude")
    }
    seen = {f"{m}_seen": sum(row[f"{m}_seen"] == "1" for row in rows) for m in CORPUS_AMOUNTS}
    return ", ".join(f"{column} {count}" for column, count in (filled | seen).items())


def main() -> None:
    """Build the table, check it and write it.

    Raises:
        SystemExit: If a check fails; nothing is written then.
    """
    parser = argparse.ArgumentParser(description="Build the language catalogue.")
    parser.add_argument("corpora", type=Path, help="folder with the corpus tables")
    parser.add_argument("output", type=Path, help="CSV file to write")
    arguments = parser.parse_args()

    rows = build_rows(arguments.corpora)
    problems = check_rows(rows)
    problems += check_reference(rows, read_csv(arguments.corpora / "languages.csv"))
    problems += check_cc100xl(rows, read_csv(arguments.corpora / "corpus_cc100xl.csv"))
    if problems:
        raise SystemExit("\n".join(problems))
    write_table(rows, arguments.output)
    print(f"{len(rows)} rows: {summary(rows)}")


if __name__ == "__main__":
    main()
