"""Slopes against the model of single answers, statsmodels and made-up data."""

import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf

from polyprompt.analysis.transfer import best_setting, mixed_model, regress, script_pairs


def answers(rng, languages=10, seeds=2, items=25):
    """Single answers with effects of language, item, seed; the second setting flattens the slope."""
    distance = np.linspace(0.2, 0.9, languages)
    shape = (2, languages, seeds, items)
    p = 0.9 - 0.5 * distance[None, :, None, None] + np.zeros(shape)
    p[1] += 0.05 + 0.2 * distance[:, None, None]
    p += rng.normal(0, 0.08, (1, languages, 1, 1)) + rng.normal(0, 0.04, (2, languages, 1, 1))
    p += rng.normal(0, 0.15, (1, 1, 1, items)) + rng.normal(0, 0.02, (1, 1, seeds, 1))
    return distance, (rng.random(shape) < p).astype(float)


def test_slopes_equal_those_of_the_model_of_single_answers():
    """Random language, language × setting, seed and item, every answer a row."""
    distance, values = answers(np.random.default_rng(0))
    arm, language, seed, item = np.meshgrid(*map(np.arange, values.shape), indexing="ij")
    frame = {
        "y": values.ravel(), "language": language.ravel(), "arm": arm.ravel(),
        "seed": seed.ravel(), "item": item.ravel(),
        "distance": (distance - distance.mean())[language.ravel()],
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = smf.mixedlm(
            "y ~ distance * arm", pd.DataFrame(frame), groups=np.ones(values.size),
            vc_formula={
                "l": "0 + C(language)", "la": "0 + C(language):C(arm)",
                "s": "0 + C(seed)", "i": "0 + C(item)",
            },
        ).fit(reml=True, method="powell")  # fmt: skip
    found = mixed_model(values.mean(3), distance)
    for ours, name in (
        (found.slope, "distance"),
        (found.change, "distance:arm"),
        (found.gain, "arm"),
    ):
        assert ours.value == pytest.approx(whole.fe_params[name], abs=1e-6)
        half = (ours.high - ours.low) / 2 / 2.306  # t with 8 degrees of freedom
        assert half == pytest.approx(whole.bse_fe[name], rel=0.05)


def test_a_weaker_correlation_is_not_a_smaller_slope():
    """Noise on one setting weakens its r; the change of slope stays around zero."""
    rng = np.random.default_rng(1)
    distance = rng.uniform(0.2, 0.9, 60)
    clean = 0.9 - 0.5 * distance
    noisy = clean + rng.normal(0, 0.15, 60)
    both = np.stack([clean, noisy])[:, :, None] + rng.normal(0, 0.002, (2, 60, 4))
    r = [abs(np.corrcoef(distance, one.mean(1))[0, 1]) for one in both]
    found = mixed_model(both, distance)
    assert r[1] < r[0] - 0.2
    assert found.change.low < 0 < found.change.high
    assert found.slope.value == pytest.approx(-0.5, abs=0.05)


def test_languages_without_a_distance_are_left_out_and_counted():
    distance, values = answers(np.random.default_rng(2))
    distance[:3] = np.nan
    assert mixed_model(values.mean(3), distance).n == 7
    distance[:] = np.nan
    assert mixed_model(values.mean(3), distance) is None


def test_a_setting_may_be_a_number_such_as_the_length():
    """Accuracy falls by 0.02 per doubling, and by 0.03 more per unit of distance."""
    rng = np.random.default_rng(3)
    distance = np.linspace(0, 1, 12)
    steps = np.log2([1, 2, 5, 10, 20, 30])
    mean = 0.8 - 0.02 * steps[:, None] - 0.03 * steps[:, None] * (distance - 0.5)
    values = mean[:, :, None] + rng.normal(0, 0.003, (6, 12, 4))
    found = mixed_model(values, distance, steps)
    assert found.gain.value == pytest.approx(-0.02, abs=0.002)
    assert found.change.value == pytest.approx(-0.03, abs=0.004)


def test_along_a_number_errors_are_those_of_random_slopes():
    """Languages that differ in how they go along the number do not make distance look at work."""
    rng = np.random.default_rng(6)
    distance, steps = np.linspace(0, 1, 40), np.log2([1, 2, 5, 10, 20, 30])
    found = []
    for _ in range(200):
        own = rng.normal(0, 0.005, 40)
        mean = 0.8 - 0.1 * distance + own * steps[:, None]
        found.append(
            mixed_model((mean + rng.normal(0, 0.01, (6, 40)))[:, :, None], distance, steps)
        )
    for name in ("change", "gain"):
        share = np.mean([getattr(one, name).p < 0.05 for one in found])
        assert 0.01 < share < 0.1
    values = mean + rng.normal(0, 0.01, (6, 40))
    frame = {
        "y": values.T.ravel(), "language": np.repeat(np.arange(40), 6),
        "distance": np.repeat(distance - 0.5, 6), "setting": np.tile(steps, 40),
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = smf.mixedlm(
            "y ~ distance * setting", pd.DataFrame(frame), groups="language", re_formula="~setting"
        ).fit(reml=True, method="powell")
    ours = mixed_model(values[:, :, None], distance, steps).change
    assert ours.value == pytest.approx(whole.fe_params["distance:setting"], abs=1e-6)
    half = (ours.high - ours.low) / 2 / 2.0244  # t with 38 degrees of freedom
    assert half == pytest.approx(whole.bse_fe["distance:setting"], rel=0.05)


def test_accuracies_that_are_all_alike_give_no_slopes():
    assert mixed_model(np.full((2, 10, 3), 0.5), np.linspace(0, 1, 10)) is None


def test_regressions_equal_statsmodels_and_say_who_was_left_out():
    rng = np.random.default_rng(4)
    x, z = rng.normal(size=30), rng.normal(size=30)
    y = 0.3 * x - 0.2 * z + rng.normal(0, 0.1, 30)
    z[0] = np.nan
    families = [str(i % 10) for i in range(30)]
    found = regress(y, {"distance": x, "corpus": z}, families)
    plain = sm.OLS(y[1:], sm.add_constant(np.column_stack([x, z])[1:])).fit()
    assert found.effects["distance"].value == pytest.approx(plain.params[1])
    assert found.effects["corpus"].value == pytest.approx(plain.params[2])
    assert (found.n, found.families, found.left_out) == (29, 10, 1)
    assert found.effects["distance"].low < 0.3 < found.effects["distance"].high


def test_predictors_that_depend_on_one_another_give_no_regression():
    x = np.arange(20.0)
    assert regress(x, {"a": x, "b": 2 * x}, [str(i) for i in range(20)]) is None


def test_the_best_setting_is_told_with_its_doubt():
    rng = np.random.default_rng(5)
    clear = np.stack([rng.random((4, 100)) < 0.5, rng.random((4, 100)) < 0.9]).astype(float)
    assert best_setting(clear)[1] > 0.99
    same = np.ones((2, 4, 100))
    assert best_setting(same) == pytest.approx([0.5, 0.5])


def test_pairs_of_scripts_are_found():
    codes = ["zho_Hant", "eng_Latn", "arb_Arab", "arb_Latn", "zho_Hans"]
    assert script_pairs(codes) == [("arb_Arab", "arb_Latn"), ("zho_Hans", "zho_Hant")]
