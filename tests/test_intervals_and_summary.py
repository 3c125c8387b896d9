"""Intervals resample seeds and items; tables hold what the predictions say."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import bootstrap, norm

from polyprompt.analysis.diagnosis import diagnose
from polyprompt.analysis.summary import item_values, summarise
from polyprompt.errors import StoreError
from polyprompt.report.score_tables import headline, language_table, markdown
from polyprompt.scoring.intervals import (
    bootstrap_mean,
    bootstrap_mean_over_languages,
    proportion_interval,
)
from polyprompt.scoring.score import SCORE_COLUMNS, score_predictions


def answers(rows: dict[tuple[str, str | None, str], list[int]]) -> pl.DataFrame:
    """Make predictions from 0/1 lists by run, baseline and language."""
    records = [
        {
            "run": run, "baseline": baseline, "task": "t", "language": language, "id": str(i),
            "label": "a", "prediction": "a" if right else "b",
        }
        for (run, baseline, language), values in rows.items()
        for i, right in enumerate(values)
    ]  # fmt: skip
    return pl.DataFrame(records, schema_overrides={"baseline": pl.String})


def test_with_one_seed_the_interval_is_scipys_bootstrap():
    values = np.random.default_rng(0).random((1, 60))
    ours = bootstrap_mean(values, resamples=9999)
    scipys = bootstrap((values[0],), np.mean, method="percentile", n_resamples=9999, rng=1)
    assert ours.low == pytest.approx(scipys.confidence_interval.low, abs=0.006)
    assert ours.high == pytest.approx(scipys.confidence_interval.high, abs=0.006)


def test_parallel_items_do_not_make_languages_independent():
    rng = np.random.default_rng(0)
    item = (rng.random(200) < 0.7).astype(float)
    same = [np.tile(item, (2, 1)) for _ in range(20)]
    together = bootstrap_mean_over_languages(same, parallel=True)
    naive = bootstrap_mean_over_languages(same, parallel=False)
    one = norm.ppf(0.975) * np.sqrt(0.7 * 0.3 / 200)
    assert (together.high - together.low) / 2 == pytest.approx(one, rel=0.15)
    assert (naive.high - naive.low) < 0.4 * (together.high - together.low)


def test_seeds_are_resampled_too():
    values = np.repeat([[0.0], [1.0]], 50, axis=1)
    interval = bootstrap_mean(values)
    assert (interval.low, interval.high) == (pytest.approx(0.0), pytest.approx(1.0))


def test_languages_of_different_sizes_count_the_same():
    values = [np.ones((1, 10)), np.zeros((1, 90))]
    assert bootstrap_mean_over_languages(values, parallel=False).mean == 0.5


def test_wilsons_interval_of_a_known_case():
    interval = proportion_interval(8, 10)
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.4902, 0.9433)


def test_answers_stay_with_their_runs_languages_and_items():
    table = answers({("r1", None, "eng_Latn"): [1, 0, 1], ("r2", None, "eng_Latn"): [0, 0, 1],
                     ("r1", None, "fra_Latn"): [1, 1, 1], ("r2", None, "fra_Latn"): [0, 1, 0]})  # fmt: skip
    shuffled = table.sample(fraction=1.0, shuffle=True, seed=3)
    values = item_values(shuffled, None)
    assert values["eng_Latn"].tolist() == [[1, 0, 1], [0, 0, 1]]
    assert values["fra_Latn"].tolist() == [[1, 1, 1], [0, 1, 0]]


def test_a_summary_pairs_each_run_with_its_own_baseline():
    rng = np.random.default_rng(1)
    rows, languages = {}, ("eng_Latn", "fra_Latn", "arb_Arab")
    for run in ("r1", "r2"):
        for language in languages:
            base = (rng.random(100) < 0.5).astype(int)
            better = np.maximum(base, (rng.random(100) < 0.2).astype(int))
            rows[run, None, language] = better.tolist()
            rows[run, "zero_shot", language] = base.tolist()
    table = answers(rows)
    summary = summarise(table, parallel=True)
    difference = summary.differences["zero_shot"]
    overall = summary.overall
    assert difference.mean == pytest.approx(overall.accuracy.mean - overall.baselines["zero_shot"])
    assert difference.excludes_zero()
    assert [(row.name, row.languages) for row in summary.scripts] == [("Latn", 2), ("Arab", 1)]
    own = np.array([[np.mean(rows[r, None, l]) for l in languages] for r in ("r1", "r2")])
    assert overall.accuracy.mean == pytest.approx(own.mean())
    assert overall.deviation == pytest.approx(own.mean(1).std(ddof=1))
    assert "the prompt is better" in headline(summary)
    assert "fra_Latn" in markdown(language_table(summary))


def test_items_with_other_ids_are_not_taken_for_the_same():
    table = answers({("r", None, "eng_Latn"): [1, 0], ("r", None, "fra_Latn"): [1, 1]})
    assert summarise(table, parallel=True).shared_items
    moved = pl.when(pl.col("language") == "fra_Latn").then(pl.col("id") + "x").otherwise("id")
    assert not summarise(table.with_columns(id=moved), parallel=True).shared_items


def test_runs_tested_on_different_items_are_refused():
    table = answers({("r1", None, "eng_Latn"): [1, 0], ("r2", None, "eng_Latn"): [1, 1, 0]})
    with pytest.raises(StoreError, match="tested on different items"):
        summarise(table, parallel=True)


def test_all_right_is_not_certain():
    summary = summarise(answers({("r", None, "eng_Latn"): [1] * 35}), parallel=True)
    interval = summary.languages[0].accuracy
    assert interval.mean == 1.0
    assert 0.85 < interval.low < 0.95
    assert summary.overall.accuracy == summary.scripts[0].accuracy == interval
    assert headline(summary).startswith(
        "Mean accuracy over 1 language: 100.0 % (95 % interval 90.1"
    )


@pytest.mark.parametrize(("parallel", "items"), [(True, 35), (False, 70)])
def test_all_wrong_in_several_languages_is_not_certain_either(parallel, items):
    rows = {("r", None, code): [0] * 35 for code in ("eng_Latn", "deu_Latn")}
    found = summarise(answers(rows), parallel=parallel).overall.accuracy
    assert found == proportion_interval(0, items)
    assert found.high > 0.04


def test_a_better_baseline_is_said_loudly():
    table = answers(
        {("r", None, "eng_Latn"): [1, 0] * 50, ("r", "zero_shot", "eng_Latn"): [1, 1] * 50}
    )
    summary = summarise(table, parallel=True)
    assert "THE BASELINE IS BETTER" in headline(summary)
    sentences = diagnose(table, summary, {"r": 0.5}, ["a", "b"])
    assert any("below zero-shot (50.0 against 100.0" in s for s in sentences)
    assert any("baseline zero-shot is better by 50.0 points" in s for s in sentences)


def test_what_looks_wrong_is_said_in_words():
    table = answers({("r1", None, "eng_Latn"): [1] * 9 + [0], ("r2", None, "eng_Latn"): [0] * 10})
    summary = summarise(table, parallel=True)
    sentences = diagnose(table, summary, {"r1": 0.7, "r2": 0.1}, ["a", "b"])
    assert any("Run r1" in s and "not below guessing" in s for s in sentences)
    assert any("seeds lie 90.0 points apart" in s for s in sentences)
    assert not any("Run r2: the training loss" in s for s in sentences)


def test_one_class_everywhere_is_noticed():
    table = answers({("r", None, "eng_Latn"): [1] * 10})
    summary = summarise(table, parallel=True)
    assert "English 100 % 'a'" in diagnose(table, summary, {"r": None}, ["a", "b"])[0]


def test_scores_have_their_columns_and_leave_unlabelled_rows_out():
    table = answers({("r", None, "eng_Latn"): [1, 0, 1, 1]})
    table = table.with_columns(label=pl.when(pl.col("id") == "3").then(None).otherwise("label"))
    scores = score_predictions(table)
    assert tuple(scores.columns) == SCORE_COLUMNS
    row = scores.filter(pl.col("metric") == "accuracy").row(0, named=True)
    assert (row["value"], row["n"], row["baseline"]) == (pytest.approx(2 / 3), 3, None)
