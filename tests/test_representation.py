"""CKA against its definition, scikit-learn's PCA, and cases whose answer is known."""

from itertools import permutations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from polyprompt.analysis.prompt_path import path_facts, principal_shares
from polyprompt.analysis.representation import align, debiased_cka, grams, hsic, mean_alignment


def states(items, width, seed, layers=1):
    return np.random.default_rng(seed).normal(size=(items, layers, width))


def test_hsic_is_the_u_statistic():
    k, m = grams(states(6, 3, 0))[0], grams(states(6, 4, 1))[0]
    terms = [
        k[i, j] * m[i, j] + k[i, j] * m[q, r] - 2 * k[i, j] * m[i, q]
        for i, j, q, r in permutations(range(6), 4)
    ]
    assert hsic(k, m) == pytest.approx(np.mean(terms), rel=1e-9)


def test_the_same_up_to_rotation_shift_and_scale_is_1():
    x = states(20, 5, 0)
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))
    found = debiased_cka(grams(x), grams(3 * x @ rotation + 7))
    assert found == pytest.approx([1.0])


def test_unrelated_states_are_at_0_where_the_plain_estimator_is_not():
    values, plain = [], []
    for seed in range(100):
        x, y = states(30, 200, 2 * seed), states(30, 200, 2 * seed + 1)
        values.append(float(debiased_cka(grams(x), grams(y))[0]))
        k, m = grams(x)[0], grams(y)[0]
        plain.append((k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()))
    assert abs(np.mean(values)) < 3 * np.std(values) / 10
    assert np.mean(plain) > 0.8


def test_alignment_finds_the_related_language_and_its_shuffled_baseline():
    shared = states(80, 10, 0, layers=2)
    near = shared + 0.5 * states(80, 10, 1, layers=2)
    far = states(80, 10, 2, layers=2)
    found = align({"eng": shared, "near": near, "far": far}, ["eng"], halves=100)
    assert found.languages == ("near", "far")
    assert (found.cka[:, 0] > 0.7).all()
    assert (abs(found.cka[:, 1]) < 0.1).all()
    assert (abs(found.shuffled) < 0.05).all()
    low, high = found.interval()
    assert (low < found.mean).all()
    assert (found.mean < high).all()
    assert mean_alignment([found, found]).mean == pytest.approx(found.mean)
    difference, low, high = found.minus(found)
    assert not difference.any()
    assert not low.any()
    assert not high.any()


def test_halves_spread_as_new_sentences_would():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(4, 12))

    def sample(seed):
        one = np.random.default_rng(seed)
        meaning = one.normal(size=(60, 4))
        source, target = (meaning @ mix + one.normal(size=(60, 12)) for _ in range(2))
        return {"a": source[:, None], "b": target[:, None]}

    estimates = [align(sample(s), ["a"], halves=2, shuffles=1).mean[0] for s in range(150)]
    widths = []
    for seed in range(20):
        low, high = align(sample(1000 + seed), ["a"], shuffles=1).interval()
        widths.append(high[0] - low[0])
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(estimates), rel=0.3)


def test_a_straight_path_and_a_detour():
    start, step = np.zeros((2, 3)), np.array([[0.0, 0, 0], [0, 1, 0]])
    start[:, 0] = 2.0
    straight = np.stack([start + i * step for i in range(4)])
    found = path_facts(straight, 3)
    assert found.moved == pytest.approx((0 + 1.5) / 2)
    assert found.straightness == pytest.approx(1)
    assert found.cosine == pytest.approx((1 + 2 / np.sqrt(13)) / 2)
    assert found.components[0] == pytest.approx(1)
    back = np.concatenate([straight, straight[:1]])
    assert path_facts(back, 4).moved == 0
    assert path_facts(back, 4).straightness == 0
    assert path_facts(back, 3) == found or path_facts(back, 3).moved == found.moved


def test_a_prompt_that_never_moved():
    still = np.ones((3, 2, 4))
    found = path_facts(still, 2)
    assert (found.moved, found.travelled) == (0, 0)
    assert np.isnan(found.straightness)
    assert found.components == (0, 0, 0)


def test_principal_shares_are_scikit_learns():
    vectors = np.random.default_rng(0).normal(size=(9, 2, 5))
    theirs = PCA().fit(vectors.reshape(9, -1)).explained_variance_ratio_[:3]
    assert principal_shares(vectors) == pytest.approx(tuple(theirs))
