"""Distances between languages: against an independent table, symmetry, and what is missing."""

import csv

import pytest

from conftest import SHARED
from polyprompt.errors import ConfigError
from polyprompt.languages.catalogue import catalogue
from polyprompt.languages.distance import KINDS, PREDICTED_KINDS, distance, same_script

REFERENCE = SHARED / "reference" / "uriel_from_english.csv"


@pytest.mark.shared
@pytest.mark.skipif(not REFERENCE.is_file(), reason="the table of distances is not there")
def test_distances_from_english_equal_those_computed_by_urielplus():
    """The reference was computed by urielplus's own function, pair by pair."""
    compared = 0
    with REFERENCE.open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["sib200_code"] == "eng_Latn":
                continue
            for kind in KINDS:
                ours = distance("eng_Latn", row["sib200_code"], kind)
                theirs = row[kind] or row[f"fb_{kind}"]
                assert (ours.value is None) == (theirs == ""), (row["language"], kind)
                if row[kind]:
                    assert ours.shared == int(row[f"n_{kind}"])
                if ours.value is not None:
                    assert ours.value == pytest.approx(float(theirs), abs=2e-4)
                    compared += 1
            for kind in PREDICTED_KINDS:
                ours = distance("eng_Latn", row["sib200_code"], kind, "predicted")
                assert ours.value == pytest.approx(float(row[f"knn_ang_{kind}"]), abs=2e-4)
    assert compared == 282


def test_distances_do_not_depend_on_the_order():
    assert distance("fra_Latn", "deu_Latn", "genetic") == distance(
        "deu_Latn", "fra_Latn", "genetic"
    )
    assert distance("eng_Latn", "eng_Latn", "syntactic").value == 0


def test_what_no_feature_supports_is_missing_and_says_on_how_much_it_rests():
    nothing = distance("eng_Latn", "tum_Latn", "syntactic")
    assert (nothing.value, nothing.shared) == (None, 0)
    assert distance("eng_Latn", "tum_Latn", "syntactic", "predicted").value is not None
    one = distance("eng_Latn", "npi_Deva", "phonological")
    assert (one.value, one.shared) == (0.0, 1)


def test_a_stand_in_is_named():
    assert distance("eng_Latn", "arb_Arab", "inventory").stand_in == ("ara",)
    assert distance("eng_Latn", "fra_Latn", "inventory").stand_in == ()


def test_every_pair_of_sib200_has_a_genetic_and_a_geographic_distance():
    codes = list(catalogue())
    for kind in ("genetic", "geographic"):
        for code in codes:
            value = distance("eng_Latn", code, kind).value
            assert value is not None
            assert 0 <= value <= 1


def test_scripts_are_compared():
    assert same_script("eng_Latn", "swh_Latn")
    assert not same_script("ace_Arab", "ace_Latn")


def test_an_unknown_distance_names_the_nearest():
    with pytest.raises(
        ConfigError, match="There is no distance 'syntax'. Did you mean 'syntactic'"
    ):
        distance("eng_Latn", "fra_Latn", "syntax")
    with pytest.raises(ConfigError, match="nothing is predicted"):
        distance("eng_Latn", "fra_Latn", "genetic", "predicted")
