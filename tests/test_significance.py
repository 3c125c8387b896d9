"""Statistics against scipy, statsmodels, published values and cases computed by hand."""

import csv

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as theirs_mcnemar

from conftest import SHARED
from polyprompt.analysis.correlation import (
    coefficient,
    compare_dependent,
    correlate,
    family_interval,
    groups_of,
    williams,
)
from polyprompt.analysis.significance import (
    benjamini_hochberg,
    holm,
    mcnemar,
    permutation_test,
    t_interval,
    variance_components,
)

REFERENCE = SHARED / "reference"


@pytest.mark.shared
@pytest.mark.skipif(not REFERENCE.is_dir(), reason="paper A's tables are not there")
def test_the_data_correlations_of_paper_a_follow_from_its_table_4():
    """Table 1, column DATA, to four digits, English included; the shares are the authors'."""
    with (REFERENCE / "languages.csv").open(encoding="utf-8") as stream:
        languages = {row["language"]: row for row in csv.DictReader(stream)}
    with (REFERENCE / "philippy2024_table4.csv").open(encoding="utf-8") as stream:
        cells = list(csv.DictReader(stream))
    with (REFERENCE / "philippy2024_table1.csv").open(encoding="utf-8") as stream:
        printed = {(r["model"], r["freeze"]): float(r["DATA"]) for r in csv.DictReader(stream)}
    logarithmic = {}
    for (model, freeze), value in printed.items():
        rows = [r for r in cells if (r["model"], r["freeze"]) == (model, freeze)]
        column = f"{'bloom' if 'BLOOM' in model else 'xglm'}_share_authors"
        share = np.array([float(languages[r["language"]][column]) for r in rows])
        accuracy = np.array([float(r["mean"]) for r in rows])
        families = [languages[r["language"]]["family"] for r in rows]
        found = correlate(share, accuracy, families)
        assert found.r == pytest.approx(value, abs=5e-5)
        assert found.n == (38 if "BLOOM" in model else 30)
        assert found.low is not None
        assert found.r == pytest.approx(stats.pearsonr(share, accuracy).statistic)
        logarithmic[model, freeze] = correlate(np.log(share), accuracy, families).r
    # on log shares freezing no longer weakens the correlation, but for BLOOM-560M
    for model in ("BLOOM-1.1B", "XGLM-564M", "XGLM-1.7B"):
        assert logarithmic[model, "w/"] > logarithmic[model, "w/o"]
    assert logarithmic["BLOOM-560M", "w/"] < logarithmic["BLOOM-560M", "w/o"]


def test_signs_and_missing_values_are_kept_apart():
    x = np.array([0.1, 0.2, 0.3, 0.4, np.nan, 0.5])
    y = np.array([0.9, 0.8, 0.75, 0.6, 0.1, np.nan])
    found = correlate(x, y, ["a", "b", "c", "d", "e", "f"], "spearman")
    assert (found.r, found.n, found.families) == (-1.0, 4, 4)
    nothing = correlate(x, np.full(6, 0.5), ["a"] * 6)
    assert (nothing.r, nothing.low, nothing.n) == (None, None, 5)


def test_spearman_equals_scipys_with_ties():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 40).astype(float), rng.integers(0, 5, 40).astype(float)
    expected = stats.spearmanr(x, y).statistic
    assert correlate(x, y, [str(i) for i in range(40)], "spearman").r == pytest.approx(expected)
    assert coefficient("spearman")(x, y) == pytest.approx(expected)


def test_an_interval_over_families_is_wider_than_one_over_languages():
    """Eight families of six languages that are alike within and differ between."""
    rng = np.random.default_rng(1)
    x = np.repeat(rng.normal(size=8), 6) + rng.normal(size=48) * 0.05
    y = np.repeat(rng.normal(size=8), 6) + rng.normal(size=48) * 0.05
    of_family = correlate(x, y, [str(i // 6) for i in range(48)])
    of_language = correlate(x, y, [str(i) for i in range(48)])
    assert of_family.high - of_family.low > 1.5 * (of_language.high - of_language.low)
    assert of_family.r == of_language.r


def test_one_family_has_no_interval():
    assert family_interval(groups_of(["a"] * 5), lambda rows: float(len(rows))) == (None, None)
    assert len(groups_of(["a", "", "a", ""])) == 3


def test_williams_agrees_with_the_published_example():
    """Steiger (1980), case of a shared variable: n 103, r .4, .5, .1 give t = -0.89, p = .37."""
    assert williams(0.4, 0.5, 0.1, 103) == pytest.approx(0.37, abs=0.01)
    t = stats.t.isf(williams(0.4, 0.5, 0.1, 103) / 2, 100)
    assert t == pytest.approx(0.89, abs=0.01)


def test_dependent_correlations_that_are_equal_do_not_differ():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=30), rng.normal(size=30)
    same = compare_dependent(x, y, y + 1e-9 * rng.normal(size=30), [str(i) for i in range(30)])
    assert same.difference == pytest.approx(0, abs=1e-6)
    assert same.low <= same.difference <= same.high
    apart = compare_dependent(x, x + 0.1 * y, y, [str(i) for i in range(30)])
    assert apart.low > 0
    assert apart.p < 0.01


def test_mcnemar_equals_statsmodels():
    rng = np.random.default_rng(3)
    first, second = rng.random(80) < 0.6, rng.random(80) < 0.7
    table = [
        [(first & second).sum(), (first & ~second).sum()],
        [(~first & second).sum(), (~first & ~second).sum()],
    ]
    assert mcnemar(first, second) == pytest.approx(theirs_mcnemar(table, exact=True).pvalue)
    assert mcnemar(first, first) == 1.0


def test_permutations_over_seeds_are_exact():
    """Four seeds that agree: 2 of 16 sign patterns are as extreme."""
    difference = np.full((4, 10), 0.1)
    assert permutation_test(difference, "seeds") == pytest.approx(2 / 16)


def test_permutations_over_items_agree_with_scipy():
    rng = np.random.default_rng(4)
    difference = rng.normal(0.15, 1, size=(3, 60))
    theirs = stats.permutation_test(
        (difference.mean(0), np.zeros(60)),
        lambda a, b, axis=-1: (a - b).mean(axis=axis),
        permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(0),
    ).pvalue  # fmt: skip
    assert permutation_test(difference, "items") == pytest.approx(theirs, abs=0.015)


def test_permutations_in_blocks_are_the_same_permutations(monkeypatch):
    difference = np.random.default_rng(4).normal(0.1, 1, size=(2, 61))
    whole = permutation_test(difference, "items")
    monkeypatch.setattr("polyprompt.analysis.significance._SIGNS_AT_ONCE", 61 * 7)
    assert permutation_test(difference, "items") == whole


def test_t_intervals_equal_scipys_and_refuse_one_seed():
    values = [0.71, 0.74, 0.69, 0.75]
    found = t_interval(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    with pytest.raises(ValueError, match="two seeds"):
        t_interval([0.7])


def test_adjustments_by_hand():
    """Holm: 3 · .01, max(.03, 2 · .02), max(.04, .04); BH: .01 · 3, .02 · 3 / 2, .04."""
    p = {"a": 0.01, "b": 0.04, "c": 0.02}
    assert holm(p) == pytest.approx({"a": 0.03, "b": 0.04, "c": 0.04})
    assert benjamini_hochberg(p) == pytest.approx({"a": 0.03, "b": 0.04, "c": 0.03})
    assert holm({}) == {}


def test_variance_components_are_recovered_on_average():
    """A thousand crossed designs of known components: the estimates are right on average."""
    rng = np.random.default_rng(5)
    wanted = np.array([0.04, 0.02, 0.01, 0.09, 0.25])
    found = []
    for _ in range(300):
        d, t, both, items = (rng.normal(0, np.sqrt(v), size) for v, size in zip(
            wanted[:4], [(4, 1, 1), (1, 4, 1), (4, 4, 1), (1, 1, 50)], strict=True
        ))  # fmt: skip
        values = d + t + both + items + rng.normal(0, np.sqrt(wanted[4]), (4, 4, 50))
        one = variance_components(values)
        found.append([one.draws, one.trainings, one.both, one.items, one.rest])
    np.testing.assert_allclose(np.mean(found, 0), wanted, rtol=0.2)


def test_variance_components_of_a_case_by_hand():
    """Only draws differ: 0 and 1; the draws' variance is 1/2, all else 0."""
    values = np.zeros((2, 2, 3))
    values[1] = 1
    found = variance_components(values)
    assert (found.draws, found.trainings, found.both, found.items, found.rest) == (0.5, 0, 0, 0, 0)
    assert found.of_mean(2, 5, 7) == pytest.approx(0.5)
