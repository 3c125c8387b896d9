"""Heads and baselines against arithmetic done another way."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.metrics.pairwise import cosine_similarity

from polyprompt.baselines.text import majority, tfidf_svm
from polyprompt.baselines.vectors import closed_form, logistic_regression
from polyprompt.heads.head import States
from polyprompt.heads.similarity import SimilarityHead
from polyprompt.scoring.metrics import accuracy, macro_f1

RNG = np.random.default_rng(0)
DESCRIBED = RNG.normal(size=(3, 8)).astype(np.float32)
LABELS = np.array([0, 1, 2] * 6)
TRAIN = (DESCRIBED[LABELS] + RNG.normal(size=(18, 8)) * 0.5).astype(np.float32)
TEST_LABELS = RNG.integers(0, 3, 40)
TEST = (DESCRIBED[TEST_LABELS] + RNG.normal(size=(40, 8)) * 0.5).astype(np.float32)


def states(vectors: np.ndarray) -> States:
    rows = torch.from_numpy(vectors)
    nothing = np.zeros(len(rows), dtype=np.int64), ((),) * len(rows)
    return States(rows, rows, rows[:, None][:, :0], rows[:0], *nothing)


def test_scores_are_cosines_over_the_temperature():
    head = SimilarityHead(torch.from_numpy(DESCRIBED), 0.05)
    expected = cosine_similarity(TEST, DESCRIBED) / 0.05
    np.testing.assert_allclose(head.scores(states(TEST)).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("weight", [0.5, 1.0, 3.0])
def test_a_fitted_head_on_frozen_vectors_is_the_closed_form(weight):
    head = SimilarityHead(torch.from_numpy(DESCRIBED), 1.0, 1.0, weight)
    fitted = head.fitted(states(TRAIN), torch.from_numpy(LABELS))
    scores = closed_form(DESCRIBED, TRAIN, LABELS, weight, TEST)
    np.testing.assert_allclose(fitted.scores(states(TEST)).numpy(), scores, atol=1e-5)
    units = TRAIN / np.linalg.norm(TRAIN, axis=1, keepdims=True)
    means = np.stack([units[c == LABELS].mean(0) for c in range(3)])
    named = DESCRIBED / np.linalg.norm(DESCRIBED, axis=1, keepdims=True)
    np.testing.assert_allclose(scores, cosine_similarity(TEST, named + weight * means), atol=1e-5)


def test_a_class_without_examples_keeps_its_description():
    head = SimilarityHead(torch.from_numpy(DESCRIBED), 1.0)
    few = head.fitted(states(TRAIN[:2]), torch.from_numpy(LABELS[:2]))
    expected = DESCRIBED[2] / np.linalg.norm(DESCRIBED[2])
    np.testing.assert_allclose(few.class_vectors()[2].numpy(), expected, atol=1e-6)


def test_no_weight_of_examples_leaves_the_head_as_it_is():
    head = SimilarityHead(torch.from_numpy(DESCRIBED), 1.0, 1.0, 0.0)
    assert head.fitted(states(TRAIN), torch.from_numpy(LABELS)) is head
    assert not head.uses_examples


@pytest.mark.parametrize("extra", [None, DESCRIBED])
def test_logistic_regression_is_scikit_learns_at_one_c_of_the_grid(extra):
    from polyprompt.baselines.vectors import C_GRID, unit

    scores = logistic_regression(TRAIN, LABELS, extra, TEST, 3, 0)
    rows, labels = unit(TRAIN), LABELS
    if extra is not None:
        rows, labels = np.concatenate([rows, unit(extra)]), np.concatenate([labels, [0, 1, 2]])
    fits = [
        LogisticRegression(C=c, max_iter=2000).fit(rows, labels).predict_log_proba(unit(TEST))
        for c in C_GRID
    ]
    assert min(np.abs(scores - fit).max() for fit in fits) < 1e-4


def test_logistic_regression_with_one_example_per_class_still_answers():
    scores = logistic_regression(TRAIN[:3], LABELS[:3], None, TEST, 3, 0)
    assert scores.shape == (40, 3)


def test_classes_never_seen_are_never_answered():
    scores = logistic_regression(TRAIN[LABELS < 2], LABELS[LABELS < 2], None, TEST, 3, 0)
    assert scores.shape == (40, 3)
    assert set(tfidf_svm(["aa", "bb"], np.array([0, 2]), 3, ["aa b"]).argmax(1)) <= {0, 2}


def test_majority_takes_the_first_label_in_a_tie():
    assert majority([1, 0, 1, 0], 3, 2).argmax(1).tolist() == [0, 0]
    assert majority([1, 0, 2, 2], 3, 1).argmax(1).tolist() == [2]


def test_characters_tell_classes_apart():
    train = ["waves and sea", "sea water wave", "rocks on hills", "hill rock"]
    scores = tfidf_svm(train, np.array([0, 0, 1, 1]), 2, ["the wave", "a rock"])
    assert scores.argmax(1).tolist() == [0, 1]


def test_metrics_are_scikit_learns():
    truth, predicted = RNG.integers(0, 4, 50).tolist(), RNG.integers(0, 4, 50).tolist()
    truth, predicted = list(map(str, truth)), list(map(str, predicted))
    right = np.mean([a == b for a, b in zip(truth, predicted, strict=True)])
    assert accuracy(truth, predicted).value() == pytest.approx(right)
    expected = f1_score(truth, predicted, average="macro")
    assert macro_f1(truth, predicted).value() == pytest.approx(expected)
