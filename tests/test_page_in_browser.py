"""The report in headless Chromium, offline: sorts, filters, answers pointer and keyboard."""

import shutil

import numpy as np
import polars as pl
import pytest

from polyprompt.analysis.mistakes import confusions
from polyprompt.analysis.summary import summarise
from polyprompt.report.chapters import Chapter, Confusion
from polyprompt.report.language_figures import group_figure
from polyprompt.report.language_tables import full_language_table
from polyprompt.report.page import page
from polyprompt.report.world import world_map

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium to open a page in")

LANGUAGES = (
    "eng_Latn", "deu_Latn", "swh_Latn", "rus_Cyrl", "hin_Deva", "arb_Arab", "zho_Hans", "tur_Latn",
    "fin_Latn",
)  # fmt: skip
LABELS = ("a", "b")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page of one setting, the languages falling from 100 % by 5 points."""
    rows = []
    for place, language in enumerate(LANGUAGES):
        for item in range(20):
            right = item >= place
            label = LABELS[item % 2]
            answer = label if right else LABELS[1 - item % 2]
            rows.append(
                {
                    "run": "r", "baseline": None, "task": "t", "language": language,
                    "id": f"{item:02}", "label": label, "prediction": answer,
                }
            )  # fmt: skip
    table = pl.DataFrame(rows, schema_overrides={"baseline": pl.String})
    summary = summarise(table, parallel=True)
    counts = confusions(table, LABELS)
    of_language = {row.name: counts[row.code] for row in summary.languages}
    every = {"all languages": np.sum(list(of_language.values()), axis=0)}
    blocks = (
        world_map("map", summary, None), full_language_table(summary),
        group_figure("family", summary, "family"),
        Confusion("Answers", LABELS, every | of_language),
    )  # fmt: skip
    folded = Chapter("Folded", blocks, folded=True)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page("A report", [Chapter("Result", blocks), folded]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as program:
        found = program.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["desktop", "phone"])
def opened(browser, report, request):
    """The page in a window; whatever it says or asks for is a fault."""
    width, height = request.param
    context = browser.new_context(offline=True, viewport={"width": width, "height": height})
    tab, faults = context.new_page(), []
    tab.on("console", lambda message: faults.append(message.text))
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("request", lambda asked: faults.append(asked.url))
    tab.goto(report.as_uri())
    yield tab
    context.close()
    assert faults == [report.as_uri()]


def first_column(tab):
    return tab.locator("table[data-filter]").first.locator("tbody tr:visible th").all_inner_texts()


def test_the_page_is_no_wider_than_the_window(opened):
    width = opened.evaluate("document.documentElement.scrollWidth")
    assert width == opened.viewport_size["width"]


def test_a_table_sorts_by_numbers_and_by_words(opened):
    heads = opened.locator("table[data-filter]").first.locator("thead th")
    best = first_column(opened)
    assert best[0] == "English"
    heads.nth(1).locator("button").click()
    assert first_column(opened) == best
    assert heads.nth(1).get_attribute("aria-sort") == "descending"
    heads.nth(1).locator("button").click()
    assert first_column(opened) == best[::-1]
    heads.nth(0).locator("button").click()
    assert first_column(opened) == sorted(best)
    assert heads.nth(1).get_attribute("aria-sort") is None


def test_a_table_is_filtered_by_every_word(opened):
    field = opened.get_by_label("Filter").first
    field.fill("latn indo")
    assert sorted(first_column(opened)) == ["English", "German"]
    assert "2 of 9 rows" in opened.locator(".tools [role=status]").first.inner_text()
    field.fill("")
    assert len(first_column(opened)) == 9


def test_the_map_answers_the_pointer(opened):
    dot = opened.locator("circle[data-code=swh_Latn]").first
    dot.scroll_into_view_if_needed()
    dot.hover()
    assert opened.locator("#tip").inner_text().startswith("Swahili, swh_Latn: 90.0 %")
    dot.click()
    chosen = opened.locator("tr.chosen")
    assert chosen.locator("th").inner_text() == "Swahili"


def test_the_map_answers_the_keyboard(opened):
    drawing = opened.locator(".drawing").first
    drawing.focus()
    opened.keyboard.press("ArrowRight")
    assert opened.locator("#tip").inner_text().startswith("English")
    opened.keyboard.press("ArrowRight")
    assert opened.locator("#tip").inner_text().startswith("German")
    opened.keyboard.press("ArrowLeft")
    opened.keyboard.press("ArrowLeft")
    assert opened.locator("#tip").inner_text().startswith("Finnish")
    opened.keyboard.press("Enter")
    assert opened.locator("tr.chosen th").inner_text() == "Finnish"
    opened.keyboard.press("Escape")
    assert opened.locator("#tip").is_hidden()


def test_the_map_zooms_and_dots_do_not_grow_with_it(opened):
    frame = opened.locator("svg.frame").first
    dot = opened.locator("circle[data-code=swh_Latn]").first
    before, radius = frame.get_attribute("viewBox"), float(dot.get_attribute("r"))
    opened.get_by_label("Zoom in").first.click()
    assert float(frame.get_attribute("viewBox").split()[2]) == pytest.approx(600)
    assert float(dot.get_attribute("r")) < radius
    opened.get_by_label("Show the whole world").first.click()
    assert frame.get_attribute("viewBox").split()[2] == before.split()[2]
    assert float(dot.get_attribute("r")) == pytest.approx(radius)


def test_confusions_of_any_language_can_be_chosen(opened):
    part = opened.locator(".confusion").first
    cells = lambda: part.locator("tbody td").all_inner_texts()  # noqa: E731
    assert cells()[0] == str(sum(10 - (place + 1) // 2 for place in range(9)))
    part.locator("select").select_option("Finnish")
    assert cells() == ["6", "4", "60 %", "4", "6", "60 %"]


def test_figures_and_tables_are_saved(opened):
    with opened.expect_download() as saved:
        opened.get_by_label("Save as CSV: Accuracy per language (%)").first.click()
    lines = saved.value.path().read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith('"language","prompt"')
    assert len(lines) == 10
    with opened.expect_download() as saved:
        opened.get_by_label("Save as SVG: Accuracy by language").first.click()
    svg = saved.value.path().read_text(encoding="utf-8")
    assert "var(--" not in svg
    assert 'xmlns="http://www.w3.org/2000/svg"' in svg
    assert "<use" not in svg


def test_a_link_opens_a_folded_part(opened):
    part = opened.locator("details").first
    assert part.get_attribute("open") is None
    opened.get_by_role("link", name="Folded").click()
    sync_api.expect(part).to_have_attribute("open", "")  # behind the event of the link
