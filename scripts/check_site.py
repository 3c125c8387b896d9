"""Finds out whether a built site asks any other server, and whether its own links lead somewhere.

Run it with ``python scripts/check_site.py FOLDER``; ends with 1 and the faults if there are any.
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "object": "data"}
"""What a page loads by itself; links and style sheets are looked at apart."""
OUTSIDE = re.compile(r"""url\(\s*['"]?(?:https?:)?//|@import\s+['"]?(?:https?:)?//""")
STYLES = ("stylesheet", "preconnect", "preload", "icon", "dns-prefetch", "prefetch")


class Page(HTMLParser):
    """What a page loads, where it leads and which places it has."""

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element loads, where it leads and its name."""
        own = {name: value or "" for name, value in attrs}
        self.places |= {own[key] for key in ("id", "name") if key in own}
        if tag in LOADED and own.get(LOADED[tag]):
            self.loaded.append(own[LOADED[tag]])
        if tag == "link" and any(kind in own.get("rel", "") for kind in STYLES):
            self.loaded.append(own.get("href", ""))
        if tag == "a" and own.get("href"):
            self.links.append(own["href"])


def faults(folder: Path) -> Iterator[str]:
    """Look at all pages and style sheets of a site."""
    pages = {path.resolve(): _read(path) for path in folder.rglob("*.html")}
    for path, page in pages.items():
        where = path.relative_to(folder.resolve())
        for address in page.loaded:
            if urlsplit(address).scheme in {"http", "https"} or address.startswith("//"):
                yield f"{where} loads {address}"
        for address in page.links:
            if fault := _broken(path, address, pages):
                yield f"{where}: {fault}"
    for path in folder.rglob("*.css"):
        if found := OUTSIDE.search(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(folder)} loads {found.group()}…"


def _read(path: Path) -> Page:
    """Parse a page."""
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _broken(path: Path, address: str, pages: dict[Path, Page]) -> str:
    """Say what is wrong with a link; nothing of one that leads elsewhere."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return ""
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return f"{address} leads nowhere"
    known = pages.get(target)
    place = unquote(parts.fragment)
    return f"{address}: no such place" if known and place and place not in known.places else ""


if __name__ == "__main__":
    found = list(faults(Path(sys.argv[1])))
    print(*found[:50], sep="\n", end="\n" * bool(found))
    print(f"{len(found)} faults in {len(list(Path(sys.argv[1]).rglob('*.html')))} pages")
    sys.exit(bool(found))
