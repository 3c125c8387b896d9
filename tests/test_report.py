"""The report is one file that asks nobody, escapes what it shows, and draws what the tables say."""

import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from scipy.stats import linregress
from sklearn.metrics import confusion_matrix, recall_score
from statsmodels.stats.contingency_tables import mcnemar

from polyprompt.analysis.account import Arm
from polyprompt.analysis.change import change_between, changes_from_baselines
from polyprompt.analysis.facts import language_facts
from polyprompt.analysis.mistakes import confident_mistakes, confusions, recalls
from polyprompt.analysis.prompt_path import plane_of
from polyprompt.analysis.series import Trend
from polyprompt.analysis.summary import summarise
from polyprompt.languages.catalogue import catalogue
from polyprompt.report.chapters import (
    Chapter,
    Confusion,
    Listing,
    Notes,
    Words,
    figures_of,
    lightened,
    tables_of,
)
from polyprompt.report.distance_figures import against_facts, against_table, distance_figure
from polyprompt.report.figure import FORMATS, Figure
from polyprompt.report.language_figures import (
    TrainingCurve,
    curve_figure,
    group_figure,
    label_figure,
)
from polyprompt.report.page import page
from polyprompt.report.palette import DIVERGING, SEQUENCE, ink_on, shade, themed, variables
from polyprompt.report.projection import HEIGHT, WIDTH, equal_earth
from polyprompt.report.score_tables import Table, script_table
from polyprompt.report.setting_figures import change_figure, heat_map, overview, paired_dots, trend
from polyprompt.report.world import world_map
from polyprompt.scoring.intervals import Interval

LANGUAGES = (
    "eng_Latn", "deu_Latn", "swh_Latn", "yor_Latn", "rus_Cyrl", "hin_Deva", "arb_Arab", "zho_Hans",
    "tur_Latn", "fin_Latn", "tam_Taml", "jpn_Jpan",
)  # fmt: skip
LABELS = ("a", "b", "c")


def predictions(rates: dict[str, float], seeds: int = 3, items: int = 60, seed: int = 0):
    """Answers of some runs that are right with a rate per language, and a baseline that is not."""
    rng = np.random.default_rng(seed)
    rows = []
    for run in range(seeds):
        for language, rate in rates.items():
            for item in range(items):
                label = LABELS[item % 3]
                for baseline, own in ((None, rate), ("majority", 0.0)):
                    right = rng.random() < own
                    others = [name for name in LABELS if name != label]
                    answer = label if right else others[int(rng.integers(2))]
                    answer = "a" if baseline else answer
                    scores = [2.0 if name == answer else float(rng.random()) for name in LABELS]
                    rows.append(
                        {
                            "run": f"r{run}", "baseline": baseline, "task": "t",
                            "language": language, "id": f"{item:03}", "label": label,
                            "prediction": answer, "scores": scores,
                        }
                    )  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"baseline": pl.String})


@pytest.fixture(scope="module")
def answers():
    rates = {code: 0.95 - 0.06 * number for number, code in enumerate(LANGUAGES)}
    return predictions(rates)


@pytest.fixture(scope="module")
def summary(answers):
    return summarise(answers, parallel=True)


class Checker(HTMLParser):
    """Finds tags that are not closed, and tables whose rows have other numbers of cells."""

    VOID = {"meta", "input", "br", "link"}

    def __init__(self):
        super().__init__()
        self.open, self.cells, self.rows, self.ids = [], 0, [], []

    def handle_starttag(self, tag, attrs):
        self.ids += [value for key, value in attrs if key == "id"]
        if tag in self.VOID:
            return
        self.open.append(tag)
        self.cells += tag in {"td", "th"}
        if tag == "table":
            self.rows.append([])

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for key, value in attrs if key == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "tr":
            self.rows[-1].append(self.cells)
            self.cells = 0


def check(html):
    """Parse a page; every tag is closed, every id its own, every table has whole rows."""
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    assert all(len(set(rows)) == 1 for rows in checker.rows)
    return checker


def labels_of(svg):
    """The marks' descriptions; those of axes and legends are left out."""
    found = re.findall(r'aria-label="([^"]*)"', svg)
    return [text for text in found if not re.match(r"[XY]-axis|Symbol legend|Gradient", text)]


def test_a_page_escapes_everything_and_asks_no_server(summary):
    evil = '<script>alert("x")</script>&'
    figure = overview({evil: summary, "other": summary})
    table = Table(evil, ("language", evil), ((evil, "1"),), "lr")
    counts = {evil: np.array([[1, 2, 0], [0, 3, 0]])}
    blocks = (
        Words(evil, "headline"), Notes([evil]), Listing(evil, evil), table, figure,
        Confusion(evil, (evil, "b"), counts),
    )  # fmt: skip
    html = page(evil, [Chapter(evil, blocks), Chapter("two", (), [Chapter("three", blocks)])])
    check(html)
    assert "<script>alert" not in html
    assert "default-src 'none'" in html
    assert "http" not in html.replace("http-equiv", "")
    assert not re.search(r"""\bsrc=|@import|url\((?!#)""", html)


def test_totals_stay_below_when_rows_are_sorted_and_long_tables_scroll_beneath_their_heads(summary):
    rows = tuple((f"l{i}", str(i)) for i in range(30))
    long = Table("long", ("language", "n"), (*rows, ("all", "435")), "lr", totals=1)
    html = page("x", [Chapter("one", (long, script_table(summary)))])
    feet = re.findall(r"<tfoot>(.*?)</tfoot>", html, re.DOTALL)
    assert len(feet) == 2
    assert ">435<" in feet[0]
    assert "all languages" in feet[1]
    bodies = re.findall(r"<tbody>(.*?)</tbody>", html, re.DOTALL)
    assert bodies[0].count("<tr>") == 30
    assert html.count('class="scroll tall"') == 1


def test_the_coastlines_stand_once_on_a_page(summary):
    maps = [world_map(f"m{i}", summary, "majority") for i in range(3)]
    html = page("t", [Chapter("c", maps)])
    check(html)
    assert html.count('id="land"') == 1
    assert html.count('href="#land"') == 2
    assert len(html) < len(maps[0].svg) * 2


def test_optional_figures_give_way_when_there_are_too_many_and_tables_stay():
    table = Table("t", ("a",), (("1",),), "l")
    figure = Figure("f", "F", "c", "x" * 100)
    one = Chapter("s", (table,), [Chapter("below", (figure, figure))], optional=True)
    chapters = [Chapter("fixed", (figure,)), Chapter("all", (), [one, one, one])]
    light = lightened(chapters, 450)
    assert len(figures_of(light)) == 5
    assert len(tables_of(light)) == 3
    (last,) = light[1].chapters[-1:]
    assert "--figures" in last.blocks[-1].text
    assert len(figures_of(lightened([one], 150))) == 0


def test_the_projection_keeps_areas():
    step = 1e-4
    areas = []
    for latitude in (-50.0, -20.0, 0.0, 33.0, 60.0, 80.0):
        for longitude in (-150.0, 0.0, 75.0):
            x0, y0 = equal_earth(latitude, longitude)
            x1, y1 = equal_earth(latitude, longitude + step)
            x2, y2 = equal_earth(latitude + step, longitude)
            area = abs((x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0))
            areas.append(area / np.cos(np.radians(latitude)))
    assert np.ptp(areas) / np.mean(areas) < 1e-3
    assert equal_earth(0, -180)[0] == pytest.approx(0)
    assert equal_earth(0, 180)[0] == pytest.approx(WIDTH)
    assert equal_earth(84, 0)[1] == pytest.approx(0)


def test_dots_stand_where_languages_are_spoken_and_rings_where_chance_is_not_beaten(summary):
    svg = world_map("m", summary, "majority").svg
    pattern = r'cx="([\d.]+)" cy="([\d.]+)" r="[\d.]+" fill="(#\w+)"[^>]*data-code="(\w+)"'
    dots = {code: (float(x), float(y), fill) for x, y, fill, code in re.findall(pattern, svg)}
    assert set(dots) == set(LANGUAGES)
    for row in summary.languages:
        language = catalogue()[row.code]
        x, y, fill = dots[row.code]
        wanted = equal_earth(language.latitude, language.longitude)
        assert np.hypot(x - wanted[0], y - wanted[1]) < 6
        above = row.accuracy.low > row.baselines["majority"]
        assert (fill == "#ffffff") != above
    told = next(text for text in labels_of(svg) if text.startswith("Swahili"))
    swahili = next(row for row in summary.languages if row.code == "swh_Latn")
    assert f"{100 * swahili.accuracy.mean:.1f} %" in told
    assert f"n {swahili.n}" in told


def test_dots_of_neighbours_do_not_cover_one_another():
    codes = [code for code, own in catalogue().items() if own.latitude is not None]
    many = summarise(predictions(dict.fromkeys(codes, 0.5), 1, 3), parallel=True)
    found = world_map("m", many, None)
    places = np.array(
        [
            (float(x), float(y))
            for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"[^>]*data-code', found.svg)
        ]
    )
    assert len(places) == len(codes) > 190
    far = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    far[np.diag_indices(len(far))] = 99
    assert far.min() > 3
    assert (places >= 0).all()
    assert (places <= [WIDTH, HEIGHT]).all()


def test_a_language_without_a_place_is_named_beneath_the_map():
    rates = {"eng_Latn": 0.9, "xxx_Latn": 0.5}
    found = world_map("m", summarise(predictions(rates), parallel=True), None)
    assert "not on the map: xxx_Latn" in found.caption
    alone = summarise(predictions({"xxx_Latn": 0.5}), parallel=True)
    assert world_map("m", alone, None) is None


def test_figures_say_the_numbers_of_the_tables(summary):
    other = summarise(predictions(dict.fromkeys(LANGUAGES, 0.5), seed=1), parallel=True)
    both = {"first": summary, "second": other}
    mean = f"{100 * summary.overall.accuracy.mean:.1f} %"
    assert any(text.startswith(mean) for text in labels_of(overview(both).svg))
    assert any("majority" in text for text in labels_of(overview(both).svg))
    swahili = next(row for row in summary.languages if row.code == "swh_Latn")
    shown = f"Swahili, swh_Latn: {100 * swahili.accuracy.mean:.1f} %"
    assert any(text.startswith(shown) for text in labels_of(paired_dots(both).svg))
    cells = labels_of(heat_map(both).svg)
    assert f"Swahili, first: {100 * swahili.accuracy.mean:.1f} %" in cells
    assert len(cells) == 2 * len(LANGUAGES)
    assert heat_map({"first": summary}) is None
    assert paired_dots({"first": summary}) is None


def test_more_settings_than_signs_are_named_as_left_out(summary):
    many = {f"setting {number}": summary for number in range(9)}
    assert "3 more settings are not drawn" in paired_dots(many).caption


def test_a_trend_says_every_mean(summary):
    means = {
        float(shots): Interval(0.5 + shots / 100, 0.4, 0.7) for shots in (1, 2, 4, 8)
    }  # fmt: skip
    lines = [Trend("shots", "frozen", means, 4), Trend("shots", "full", means, 3)]
    figure = trend("t", lines, "accuracy")
    assert figure.title == "Average against shots"
    assert "3 seeds" in figure.caption
    assert sum("interval 40.0–70.0" in text for text in labels_of(figure.svg)) == 8


def test_changes_of_one_seed_are_mcnemars_after_benjamini_and_hochberg():
    first = predictions(dict.fromkeys(LANGUAGES, 0.5), seeds=1, items=120, seed=3)
    rates = {code: 0.95 if code in LANGUAGES[:4] else 0.5 for code in LANGUAGES}
    second = predictions(rates, seeds=1, items=120, seed=4)
    pairs = {"r0": (0, 0)}
    found = change_between(Arm("one", first, pairs), Arm("other", second, pairs))
    assert set(LANGUAGES[:4]) <= set(found.better())
    assert set(found.better()) | set(found.worse()) == found.clear
    values = {}
    for code in LANGUAGES:
        sides = []
        for frame in (first, second):
            own = frame.filter(pl.col("baseline").is_null(), language=code).sort("run", "id")
            sides.append((own["prediction"] == own["label"]).to_numpy())
        table = [[0, int((sides[0] & ~sides[1]).sum())], [int((~sides[0] & sides[1]).sum()), 0]]
        values[code] = mcnemar(table, exact=True).pvalue
        assert found.languages[code].mean == pytest.approx(
            _mean(second, code) - _mean(first, code), abs=1e-12
        )
    order = sorted(values, key=lambda code: values[code])
    wanted = {
        code
        for rank, code in enumerate(order, start=1)
        if any(values[c] * len(order) / r < 0.05 for r, c in enumerate(order, 1) if r >= rank)
    }
    assert found.clear == wanted
    figure = change_figure("c", found)
    names = [text.split(",")[0] for text in labels_of(figure.svg) if "points" in text]
    families = [(catalogue()[c].family, catalogue()[c].branch) for c in LANGUAGES]
    assert len(names) == len(LANGUAGES)
    by_name = {catalogue()[c].name: f for c, f in zip(LANGUAGES, families, strict=True)}
    assert [by_name[name] for name in names] == sorted(families)


@pytest.mark.parametrize("seeds", [1, 2, 3, 4])
def test_a_baseline_that_is_as_good_is_told_apart_in_no_language(seeds):
    """Ties among seeds are no mistakes: with two, both would have to be right."""
    rng = np.random.default_rng(seeds)
    rows = []
    for code in LANGUAGES:
        of_baseline = rng.random(204) < 0.7  # the same in every run
        for run in range(seeds):
            own = rng.random(204) < 0.7
            for baseline, right in ((None, own), ("zero_shot", of_baseline)):
                rows += [
                    {"run": f"r{run}", "baseline": baseline, "task": "t", "language": code,
                     "id": f"{i:03}", "label": "a", "prediction": "a" if r else "b"}
                    for i, r in enumerate(right)
                ]  # fmt: skip
    table = pl.DataFrame(rows, schema_overrides={"baseline": pl.String})
    (found,) = changes_from_baselines("prompt", table)
    assert len(found.clear) <= 1


def _mean(frame, code):
    own = frame.filter(pl.col("baseline").is_null(), language=code)
    return (own["prediction"] == own["label"]).mean()


def test_it_is_said_where_a_baseline_is_better():
    rows = predictions({"eng_Latn": 0.95, "swh_Latn": 0.0})
    (found,) = changes_from_baselines("prompt", rows)
    assert found.first == "majority"
    assert found.better() == ["eng_Latn"]
    assert found.worse() == ["swh_Latn"]


def test_lines_against_distance_are_those_of_least_squares(summary):
    facts = language_facts(LANGUAGES, ["eng_Latn"])
    found = against_facts(summary, facts, ["eng_Latn"], ["syntactic", "genetic", "log_corpus"])
    assert [one.fact for one in found] == ["syntactic", "genetic"]
    means = {row.code: row.accuracy.mean for row in summary.languages}
    chosen = [code for code in LANGUAGES if code != "eng_Latn"]
    x = [facts.values["syntactic"][LANGUAGES.index(code)] for code in chosen]
    wanted = linregress(x, [means[code] for code in chosen])
    one = found[0]
    assert one.regression.intercept == pytest.approx(wanted.intercept)
    assert one.regression.effects["syntactic"].value == pytest.approx(wanted.slope)
    assert one.correlation.r == pytest.approx(wanted.rvalue)
    figure = distance_figure("d", summary, facts, ["eng_Latn"], found)
    assert f"r {wanted.rvalue:+.2f}" in figure.svg
    assert f"slope {100 * wanted.slope:+.1f}" in figure.svg
    assert len([text for text in labels_of(figure.svg) if "distance" in text]) == 24
    assert against_table(found).rows[0][1].startswith(f"{wanted.rvalue:+.2f} [")


def test_confusions_and_recalls_are_sklearns(answers):
    found = confusions(answers, LABELS)
    own = answers.filter(pl.col("baseline").is_null(), language="swh_Latn")
    wanted = confusion_matrix(own["label"], own["prediction"], labels=LABELS)
    assert (found["swh_Latn"][:, :3] == wanted).all()
    assert not found["swh_Latn"][:, 3].any()
    expected = recall_score(own["label"], own["prediction"], labels=LABELS, average=None)
    assert list(recalls(found["swh_Latn"], LABELS).values()) == pytest.approx(list(expected))
    odd = own.with_columns(prediction=pl.lit("none"))
    assert confusions(odd, LABELS)["swh_Latn"][:, 3].sum() == odd.height
    svg = label_figure("l", {"Swahili": recalls(found["swh_Latn"], LABELS)}, LABELS).svg
    assert f"Swahili, a: {100 * expected[0]:.1f} %" in labels_of(svg)


def test_confident_mistakes_are_the_surest_and_not_all_of_one_language(answers):
    found = confident_mistakes(answers, LABELS, most=9, per_language=2)
    assert len(found) == 9
    assert [m.probability for m in found] == sorted((m.probability for m in found), reverse=True)
    assert max(sum(m.language == code for m in found) for code in LANGUAGES) == 2
    first = found[0]
    rows = answers.filter(
        pl.col("baseline").is_null(), language=first.language, id=first.id,
        prediction=first.prediction,
    )  # fmt: skip
    scores = np.array(rows["scores"].to_list())
    soft = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert first.probability == pytest.approx(soft.max(1).mean())
    assert first.runs == rows.height
    assert first.label != first.prediction


def test_mistakes_without_scores_of_labels_are_not_shown(answers):
    bare = answers.with_columns(scores=pl.lit([0.5], dtype=pl.List(pl.Float64)))
    assert confident_mistakes(bare, LABELS) == []


def test_long_curves_are_averaged_and_keep_their_ends_near(summary):
    values = np.linspace(2.0, 0.0, 1000)
    figure = curve_figure("c", [TrainingCurve("seed 0", "loss", np.arange(1000), values)])
    assert "averaged to 200 points" in figure.caption
    assert curve_figure("c", []) is None


def test_families_are_named_with_their_number_of_languages(summary):
    own = [row for row in summary.languages if row.family == "Indo-European"]
    mean = 100 * sum(row.accuracy.mean for row in own) / len(own)
    told = labels_of(group_figure("g", summary, "family").svg)
    assert f"Indo-European ({len(own)}): mean {mean:.1f} %" in told


def test_a_plane_holds_a_path_that_lies_in_it():
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(12, 2)))[0].T
    line = rng.normal(size=(6, 2))
    places, share = plane_of([(line @ axes).reshape(6, 3, 4)])
    assert share == pytest.approx(1.0)
    far = lambda points: np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))  # noqa: E731
    assert far(places[0]) == pytest.approx(far(line))
    still, whole = plane_of([np.ones((3, 1, 2))])
    assert whole == 1.0
    assert not still[0].any()


@pytest.mark.parametrize("form", FORMATS)
def test_figures_are_written_without_a_browser(summary, form):
    data = overview({"one": summary, "two": summary}).encoded(form)
    assert data.startswith({"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF"}[form])
    assert len(data) > 1000


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_words_and_lines_can_be_read_in_both_themes(dark):
    colours = dict(re.findall(r"--([\w-]+): (#\w+);", variables(dark=dark)))
    for name, colour in colours.items():
        if name not in {"paper", "rule"}:
            assert contrast(colour, colours["paper"]) >= 4.5, name


def test_sequences_grow_darker_so_that_they_print_in_grey():
    steps = [luminance(shade(share / 20)) for share in range(21)]
    assert steps == sorted(steps, reverse=True)
    assert shade(0) == SEQUENCE[0]
    assert shade(1, DIVERGING) == DIVERGING[-1]
    for colour in (*SEQUENCE, *DIVERGING):
        assert contrast(ink_on(colour), colour) >= 4.5


def test_an_svg_follows_the_theme_of_its_page():
    assert themed('<a fill="#1b1f24" stroke="#123456"/>') == (
        '<a fill="var(--ink)" stroke="#123456"/>'
    )
