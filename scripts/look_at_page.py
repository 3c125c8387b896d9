"""Open a report in headless Chromium, use it, and check it with axe-core.

Needs Debian's ``chromium`` and Python's ``playwright``; ``axe.min.js`` comes from npm's package
``axe-core``. The browser is offline. Run it as::

    python scripts/look_at_page.py runs/demo/report.html --axe axe.min.js --shots FOLDER
"""

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


def opened(browser: Browser, path: Path, size: str, scheme: str) -> tuple[Page, list[str]]:
    """Open the page; what it says and asks for is collected."""
    width, height = SIZES[size]
    context = browser.new_context(
        offline=True, viewport={"width": width, "height": height}, color_scheme=scheme
    )
    page, faults = context.new_page(), []
    page.on("console", lambda message: faults.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on(
        "request",
        lambda asked: faults.append(f"request: {asked.url}") if asked.url[:5] != "file:" else None,
    )
    page.goto(path.resolve().as_uri())
    return page, faults


def used(page: Page) -> list[str]:
    """Sort and filter the first table that can be, walk over the first map; say what happened."""
    found = []
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    table = page.locator("table[data-filter]:visible").first
    if table.count():
        first = table.locator("tbody tr").first
        before = first.inner_text()
        table.locator("thead button").nth(1).click()
        table.locator("thead button").nth(1).click()
        found.append(f"sorting: {before.split()[0]} first, then {first.inner_text().split()[0]}")
        page.locator("input[type=search]:visible").first.fill("Latn")
        found.append(
            f"filtering: {page.locator('.tools [role=status]:visible').first.inner_text()}"
        )
        page.locator("input[type=search]:visible").first.fill("")
    drawing = page.locator(".drawing:has(svg.world):visible").first
    if drawing.count():
        dot = drawing.locator("circle[data-code]").first
        dot.hover()
        found.append(f"map, pointer: {page.locator('#tip').inner_text()}")
        drawing.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        found.append(f"map, keyboard: {page.locator('#tip').inner_text()}")
        page.keyboard.press("Enter")
        found.append(f"map, Enter: {page.locator('tr.chosen:visible').inner_text().split()[0]}")
        page.keyboard.press("Escape")
    return found


def violations(page: Page, axe: Path) -> list[str]:
    """List what axe-core finds, every part opened."""
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    page.evaluate(axe.read_text(encoding="utf-8"))
    result = page.evaluate("axe.run(document)")
    return [
        f"{one['impact']}: {one['id']} × {len(one['nodes'])}: {one['nodes'][0]['html'][:160]}"
        for one in result["violations"]
    ]


def main() -> None:
    """Look at the page in every size and theme."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--axe", type=Path)
    parser.add_argument("--shots", type=Path)
    arguments = parser.parse_args()
    chromium = shutil.which("chromium")
    print(f"{arguments.page}: {arguments.page.stat().st_size / 1e6:.2f} MB")
    with sync_playwright() as program:
        browser = program.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for size in SIZES:
            for scheme in ("light", "dark"):
                page, faults = opened(browser, arguments.page, size, scheme)
                print(f"{size}, {scheme}: {'; '.join(faults) or 'no message, no request'}")
                width = page.evaluate("document.documentElement.scrollWidth")
                print(f"  width of the page {width}, of the window {SIZES[size][0]}")
                if arguments.shots:
                    arguments.shots.mkdir(parents=True, exist_ok=True)
                    shot = arguments.shots / f"{arguments.page.stem}-{size}-{scheme}.png"
                    page.screenshot(path=shot, full_page=True)
                for line in used(page) if scheme == "light" else []:
                    print(f"  {line}")
                for line in violations(page, arguments.axe) if arguments.axe else []:
                    print(f"  axe {line}")
                page.context.close()
        browser.close()


if __name__ == "__main__":
    main()
