"""One temperature, fitted on what was not learnt from; rows that are skipped, withheld, measured."""

import json
import re
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import torch
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from polyprompt import Classifier, Predictor
from polyprompt.analysis.confidence import confidence_by_language, from_predictions, reliability
from polyprompt.errors import StoreError
from polyprompt.experiments import calibrating
from polyprompt.experiments.calibrating import calibrate
from polyprompt.experiments.config import build_study
from polyprompt.experiments.reopen import settings_of
from polyprompt.experiments.study import run_study, study_folders
from polyprompt.experiments.task_data import task_of
from polyprompt.experiments.temperature import calibration_of, write_calibration
from polyprompt.scoring.calibration import (
    LEAST,
    SHRINKING,
    Calibration,
    calibrated,
    calibration_error,
    fit_temperature,
)
from programs import called


def drawn(n, temperature, seed=0, classes=4):
    """Scores whose probabilities are right at a temperature."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, classes)) * 3
    p = softmax(scores / temperature, axis=1)
    labels = np.array([rng.choice(classes, p=row) for row in p])
    return scores, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_that_of_the_least_loss(temperature):
    scores, labels = drawn(4000, temperature)
    found = fit_temperature(scores, labels)
    assert found.fitted == pytest.approx(temperature, rel=0.07)
    logits = torch.tensor(scores)
    logarithm = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logarithm], max_iter=100, tolerance_grad=1e-10)

    def closure():
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits / logarithm.exp(), torch.tensor(labels))
        loss.backward()
        return loss

    optimiser.step(closure)
    assert found.fitted == pytest.approx(float(logarithm.detach().exp()), rel=1e-3)
    assert found.loss_before == pytest.approx(log_loss(labels, calibrated(scores, 1.0)))
    assert found.loss_after == pytest.approx(
        log_loss(labels, calibrated(scores, found.temperature))
    )


def test_it_is_shrunk_towards_1_by_the_number_of_items():
    for n in (LEAST, 200, 1000):
        found = fit_temperature(*drawn(n, 3.0, seed=n))
        share = np.log(found.temperature) / np.log(found.fitted)
        assert share == pytest.approx(n / (n + SHRINKING))
        assert 1 < found.temperature < found.fitted


def test_under_fifty_items_nothing_is_fitted():
    found = fit_temperature(*drawn(LEAST - 1, 3.0))
    assert (found.temperature, found.fitted) == (1.0, None)
    assert found.error_before == found.error_after
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=int)).temperature == 1.0


def test_bins_of_reliability_are_sklearns():
    rng = np.random.default_rng(5)
    probabilities = softmax(rng.normal(0, 2, size=(300, 4)), axis=1)
    labels = rng.integers(4, size=300)
    found = reliability(probabilities, labels)
    surest = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    share, promised = calibration_curve(right, surest, n_bins=10, strategy="uniform")
    assert [one.accuracy for one in found] == pytest.approx(share)
    assert [one.confidence for one in found] == pytest.approx(promised)
    assert sum(one.n for one in found) == 300


@pytest.mark.parametrize(("items", "points"), [(35, 18), (204, 8), (2000, 2)])
def test_perfect_probabilities_seem_wrong_where_items_are_few(items, points):
    """As the page on statistics has it."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        sure = rng.uniform(0.3, 1, items)
        others = np.repeat(((1 - sure) / 6)[:, None], 6, axis=1)
        right = np.where(rng.random(items) < sure, 0, 1)
        found.append(calibration_error(np.concatenate([sure[:, None], others], axis=1), right))
    assert round(100 * np.mean(found)) == points


def test_the_calibration_error_is_torchmetrics():
    for temperature in (0.3, 1.0, 4.0):
        scores, labels = drawn(500, 1.0, seed=3)
        p = calibrated(scores, temperature)
        wanted = multiclass_calibration_error(
            torch.tensor(p), torch.tensor(labels), num_classes=4, n_bins=15, norm="l1"
        )
        assert calibration_error(p, labels) == pytest.approx(float(wanted), abs=1e-6)


def test_the_right_temperature_makes_the_error_small():
    scores, labels = drawn(20000, 3.0)
    found = fit_temperature(scores, labels)
    assert found.error_before > 0.2
    assert found.error_after < 0.02


@pytest.fixture
def run(toy_study):
    """A run with 18 train examples and 6 dev examples."""
    study = build_study(toy_study | {"shots": "all", "grid": {}, "seed": 0}, "toy")
    for _ in run_study(study):
        pass
    return study_folders(study)[0]


def ended(events):
    """What a generator returns."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            return end.value


def test_folds_of_a_study_answer_what_they_did_not_learn_from(run, monkeypatch):
    """Its train and dev examples share their ids, and have other texts."""
    monkeypatch.setattr("polyprompt.scoring.calibration.LEAST", 5)
    seen = []
    train = calibrating.train_group

    def watched(group, watching):
        seen.extend(group.members)
        return (yield from train(group, watching))

    monkeypatch.setattr(calibrating, "train_group", watched)
    captured = []
    fit = fit_temperature
    monkeypatch.setattr(
        "polyprompt.scoring.calibration.fit_temperature",
        lambda *found: captured.append(found) or fit(*found),
    )
    drawn_again = []
    held_out = calibrating._held_out

    def noted(run, settings, card, draw):
        drawn_again.append(draw)
        return held_out(run, settings, card, draw)

    monkeypatch.setattr(calibrating, "_held_out", noted)
    found = ended(calibrate(run))
    record = run.record()
    (draw,) = drawn_again
    _, data = task_of(settings_of(run))
    for split, examples in (("train", draw.train), ("dev", draw.dev)):
        own = {(one.id, one.fields["text"]) for one in data.splits[split]}
        assert {(one.id, one.fields["text"]) for one in examples} <= own
        assert len(examples) == record[f"{split}_examples"]
    assert {one.id for one in draw.train} & {one.id for one in draw.dev}
    assert found.n == record["train_examples"] + record["dev_examples"] == 24
    assert found.fitted is not None
    assert len(seen) == 4  # folds, together
    assert all(len(member.train) < record["train_examples"] for member in seen)
    assert calibration_of(run) == found
    scores, labels = captured[0]
    assert scores.shape == (24, 3)
    assert np.bincount(labels).tolist() == [8, 8, 8]
    assert np.abs(scores).min(1).max() > 0  # every item was answered


def test_a_run_of_too_few_examples_trains_no_folds(run, monkeypatch):
    monkeypatch.setattr(calibrating, "train_group", lambda *_: pytest.fail("trained"))
    found = ended(calibrate(run))
    assert (found.temperature, found.fitted, found.n) == (1.0, None, 24)


def test_a_run_that_did_not_list_its_examples_says_why_it_has_no_folds(run):
    run.amend({"train_ids": []})
    with pytest.raises(StoreError, match="learnt from 18 examples, too many to be listed"):
        ended(calibrate(run))


def test_a_backbone_that_has_changed_is_refused(run, monkeypatch):
    monkeypatch.setattr("polyprompt.scoring.calibration.LEAST", 5)
    run.amend({"backbone_identity": "another"})
    with pytest.raises(StoreError, match="is not the model that"):
        ended(calibrate(run))


def test_predictions_take_the_temperature_and_keep_their_labels(run):
    texts = [{"text": text} for text in ("wave a", "rock b", "bus c", "abc")]
    before = Predictor.load(run.path).answer(texts)
    write_calibration(run, Calibration(2.0, 4.0, 50, 1.0, 0.9, 0.2, 0.1))
    after = Predictor.load(run.path).answer(texts)
    assert [a.prediction for a in after] == [b.prediction for b in before]
    p, q = (np.array([one.probabilities for one in side]) for side in (before, after))
    assert q.sum(1) == pytest.approx(np.ones(4))
    assert np.log(q[:, 0] / q[:, 1]) == pytest.approx(np.log(p[:, 0] / p[:, 1]) / 2, abs=1e-5)
    (run.path / "calibration.json").write_text('{"temperature": "hot"}')
    with pytest.raises(StoreError, match=r"calibration.json is damaged. Delete it"):
        Predictor.load(run.path)


def test_a_fit_of_fifty_examples_is_calibrated_by_its_folds(tiny_folder, tmp_path):
    rng = np.random.default_rng(0)
    texts = [
        f"{'wave' if i % 2 else 'rock'} {''.join(rng.choice(list('abc '), 9))}x" for i in range(60)
    ]
    labels = ["sea" if (i % 2) != (i % 10 == 0) else "hill" for i in range(60)]
    small = {"training": {"max_steps": 6, "batch_size": 8}}
    settings = {"backbone": {"name": str(tiny_folder), "max_tokens": 64}, **small}
    fitted = Classifier(**settings).fit(texts, labels, output=tmp_path / "fit")
    found = json.loads((tmp_path / "fit/calibration.json").read_text())
    assert found["n"] == 60
    assert found["fitted"] is not None
    table = pl.read_parquet(tmp_path / "fit/predictions.parquet")
    again = from_predictions(table, fitted.labels)
    assert again.temperature == pytest.approx(found["temperature"])
    few = Classifier(**settings).fit(texts[:20], labels[:20], output=tmp_path / "few")
    assert json.loads((tmp_path / "few/calibration.json").read_text())["temperature"] == 1.0
    assert few.labels == fitted.labels
    done = called("calibrate", str(tmp_path / "fit"))
    assert done.returncode == 1
    assert "it was calibrated when it was made" in done.stderr


def test_calibrate_says_why_it_leaves_probabilities_as_they_are(run):
    done = called("calibrate", str(run.path), "--quiet")
    assert done.returncode == 0, done.stderr
    assert "24 examples could be held out, and under 50" in " ".join(done.stdout.split())
    assert "mean over languages" in done.stdout
    (run.path / "config.yaml").write_text(
        re.sub("data: .*", "data: /nowhere", (run.path / "config.yaml").read_text())
    )
    assert called("calibrate", str(run.path)).returncode == 1


def test_errors_by_language_are_those_of_its_own_answers(run):
    labels = run.record()["labels"]
    found = {one.language: one for one in confidence_by_language(run.predictions(), labels, 1.5)}
    own = run.predictions().filter(pl.col("baseline").is_null(), language="swh_Latn")
    p = calibrated(np.array(own["scores"].to_list()), 1.5)
    truth = np.array([labels.index(label) for label in own["label"]])
    one = found["swh_Latn"]
    assert one.n == own.height
    assert one.accuracy == pytest.approx((own["prediction"] == own["label"]).mean())
    assert one.confidence == pytest.approx(p.max(1).mean())
    assert one.error == pytest.approx(calibration_error(p, truth))


CSV = "text,lang\nwave a,eng_Latn\n,eng_Latn\nrock,swh_Latn\none,two,three\nbus,fra_Latn\nx,\n"


def test_bad_rows_stop_or_are_reported_and_left_out(run, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text(CSV)
    stopped = called("predict", str(run.path), str(path))
    assert stopped.returncode == 1
    assert len(stopped.stdout.splitlines()) == 2
    assert "row 2: the text is empty. The 1 rows before it are written" in stopped.stderr
    assert "--bad-rows skip" in stopped.stderr
    done = called("predict", str(run.path), str(path), "--bad-rows", "skip")
    assert done.returncode == 0, done.stderr
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == [
        "text", "wave a", "rock", "bus", "x",
    ]  # fmt: skip
    told = [line for line in done.stderr.splitlines() if line.startswith("skipped: ")]
    assert "row 2: the text is empty" in told[0]
    assert "line 5: the row does not have 2 cells but 3" in told[1]
    assert "2 skipped" in done.stderr.splitlines()[-1]
    lines = '{"text": "wave"}\nnonsense\n{"text": 3}\n' + "[" * 5000 + '\n{"text": "bus"}\n'
    args = ("predict", str(run.path), "-", "--format", "jsonl", "--bad-rows", "skip")
    done = called(*args, text=lines)
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["wave", "bus"]
    assert "3 skipped" in done.stderr


def test_a_row_carries_what_was_measured_in_its_language(run, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("text,lang\nwave,eng_Latn\nrock,swh_Latn\nbus,tam_Taml\nx,\n")
    done = called("predict", str(run.path), str(path), "--language-column", "lang")
    assert done.returncode == 0, done.stderr
    rows = [line.split(",") for line in done.stdout.splitlines()]
    at, n = rows[0].index("measured:accuracy"), rows[0].index("measured:n")
    scores = run.scores().filter(pl.col("baseline").is_null(), metric="accuracy")
    known = {r["language"]: (r["value"], r["n"]) for r in scores.iter_rows(named=True)}
    for row in rows[1:3]:
        assert float(row[at]) == pytest.approx(known[row[1]][0], abs=1e-6)
        assert int(row[n]) == known[row[1]][1]
    assert rows[3][at] == rows[3][n] == rows[4][at] == ""
    done = called("predict", str(run.path), "-", "--language", "swh_Latn", text="wave\n")
    assert f"{known['swh_Latn'][0]:.6f}" in done.stdout
    assert "measured" not in called("predict", str(run.path), "-", text="wave\n").stdout
    args = ("predict", str(run.path), "-", "--format", "jsonl", "--language-column", "lang")
    line = '{"text": "wave", "lang": "tam_Taml"}\n'
    assert json.loads(called(*args, text=line).stdout)["measured:accuracy"] is None


def test_labels_of_low_probability_are_withheld(run):
    text = "wave a\nrock b\nabc\n"
    table = [
        line.split(",")
        for line in called("predict", str(run.path), "-", text=text).stdout.splitlines()
    ]
    sure = [max(map(float, row[2:])) for row in table[1:]]
    threshold = (sorted(sure)[0] + sorted(sure)[1]) / 2
    done = called("predict", str(run.path), "-", "--abstain-below", f"{threshold}", text=text)
    rows = [line.split(",") for line in done.stdout.splitlines()[1:]]
    assert [not row[1] for row in rows] == [value < threshold for value in sure]
    assert [row[2:] for row in rows] == [row[2:] for row in table[1:]]
    assert "1 of them without a label" in done.stderr
    wrong = called("predict", str(run.path), "-", "--abstain-below", "1.5", text=text)
    assert wrong.returncode == 2


PEAK = """
import sys
from polyprompt.cli.main import main
sys.argv = ["polyprompt", "predict", *sys.argv[1:]]
try:
    main()
finally:
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    sys.stderr.write(f"peak {peak.split()[1]}\\n")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_five_thousand_lines_take_no_more_memory_than_one_thousand(run, tmp_path):
    """Rows of 20 kB, so that those that are held would be seen: 80 MB of the difference."""
    peaks = {}
    for number in (1000, 5000):
        path = tmp_path / f"{number}.csv"
        with path.open("w") as stream:
            stream.write("text,rest\n")
            for row in range(number):
                stream.write(f"wave {row},{'x' * 20_000}\n")
        command = [sys.executable, "-W", "ignore", "-c", PEAK, str(run.path), str(path)]
        output = tmp_path / "out.csv"
        done = subprocess.run(
            [*command, "-o", str(output)], capture_output=True, text=True, check=True
        )
        assert re.search(rf"{number} rows answered in .* a second\)", done.stderr)
        peaks[number] = int(re.search(r"peak (\d+)", done.stderr)[1])
        with output.open() as stream:
            assert sum(1 for _ in stream) == number + 1
    assert peaks[5000] - peaks[1000] < 40_000
