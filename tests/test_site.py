"""The documents as a site: built strictly, complete in itself, and readable in a browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.serving.browser import browser, find_chromium

for _name in ("mkdocs", "material", "mkdocstrings"):
    pytest.importorskip(_name, reason="the site needs: pip install '.[docs]'")

ROOT = Path(__file__).resolve().parent.parent
_OUTSIDE = re.compile(r"(?:https?:)?//", re.IGNORECASE)
_IN_STYLE = re.compile(r"(?:url\(|@import)\s*[\"']?([^\"')]+)")
_LOADING = {"script", "img", "iframe", "source", "video", "audio", "embed", "object", "use"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``make site`` does: a broken link or a name that is not there fails."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


class Loaded(HTMLParser):
    """What a page loads when it is opened, without links to follow."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "link" and values.get("rel") not in ("canonical", "next", "prev", "edit"):
            self.urls.append(values.get("href", ""))
        if tag in _LOADING:
            self.urls += [values[name] for name in ("src", "srcset", "data", "href") if name in values]
        self.urls += _IN_STYLE.findall(values.get("style", ""))


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text("utf-8")
        assert [url for url in Loaded(text).urls if _OUTSIDE.match(url)] == [], page
        assert 'class="mermaid"' not in text, "Material would load the library of diagrams"
    for style in site.rglob("*.css"):
        assert [url for url in _IN_STYLE.findall(style.read_text("utf-8")) if _OUTSIDE.match(url)] == [], style


def test_the_finder_of_loaded_files_can_fail() -> None:
    page = '<link rel="stylesheet" href="https://a/b.css"><script src="//c/d.js"></script><a href="https://e">f</a>'
    assert Loaded(page).urls == ["https://a/b.css", "//c/d.js"]


def test_files_outside_of_docs_are_pages(site: Path) -> None:
    assert "multilingual-e5-small" in (site / "files/src/retrieveall/models/base/card.html").read_text("utf-8")
    assert "retrieveall" in (site / "files/Dockerfile.html").read_text("utf-8")
    assert 'href="files/Dockerfile.html"' in (site / "serving.html").read_text("utf-8")


def test_the_reference_shows_signatures_and_errors(site: Path) -> None:
    page = (site / "reference.html").read_text("utf-8")
    for part in ('id="retrieveall.RetrieveAll.predict"', 'id="retrieveall.TrainingConfig"', "Raises:", "keep_prompts"):
        assert part in page


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
@pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed (Debian: chromium)")
def test_in_a_browser(address: str) -> None:
    """Search finds a word, a narrow page does not scroll sideways, nothing is asked of others, nothing fails."""
    pytest.importorskip("playwright", reason="the pages are tested with Playwright")
    asked: list[str] = []
    errors: list[str] = []
    with browser() as opened:
        page = opened.new_page(viewport={"width": 390, "height": 800})
        page.set_default_timeout(120_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        for name in ("index", "reference", "experiments"):
            page.goto(f"{address}/{name}.html")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
        page.set_viewport_size({"width": 1280, "height": 900})
        page.fill(".md-search__input", "Swahili")
        page.wait_for_selector(".md-search-result__item a[href*='add_language.html']", state="attached")
    assert asked
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert errors == []
