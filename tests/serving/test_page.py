"""The playground in a real browser: what it shows, that user text stays text, keyboard, narrow and dark screens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

import httpx
import pytest
from browser import browser, find_chromium
from serving_fakes import FakeModel, live

PAGE = resources.files("retrieveall.serving") / "page"
NAMES = ("index.html", "style.css", "app.js", "render.js")


def test_the_page_comes_with_its_policy(http: httpx.Client) -> None:
    for path, kind in {"/": "text/html", "/style.css": "text/css", "/app.js": "text/javascript"}.items():
        answer = http.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]


def test_nothing_is_loaded_from_elsewhere_and_no_markup_is_made_of_text() -> None:
    for name in NAMES:
        source = (PAGE / name).read_text("utf-8")
        assert not re.search(r"https?://|//cdn|@import", source), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", source), name
        assert not re.search(r"\son\w+=|\sstyle=|<script>", source), name  # the policy would refuse them


pytest.importorskip("playwright", reason="the page is tested with Playwright")
needs_chromium = pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed (Debian: chromium)")


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[Any, str, FakeModel]]:
    if find_chromium() is None:
        pytest.skip("no Chromium is installed")
    model = FakeModel()
    with live(model) as (url, _), browser() as opened:
        yield opened, url, model


@pytest.fixture
def page(site: tuple[Any, str, FakeModel]) -> Iterator[Any]:
    opened, url, _ = site
    context = opened.new_context(viewport={"width": 1000, "height": 900})
    made = context.new_page()
    made.set_default_timeout(60_000)
    errors: list[str] = []
    asked: list[str] = []
    made.on("pageerror", lambda error: errors.append(str(error)))
    made.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    made.on("request", lambda request: asked.append(request.url))
    made.goto(url)
    made.locator("#labels input").first.wait_for()
    yield made
    context.close()
    assert [error for error in errors if "413" not in error and "422" not in error] == []
    assert all(each.startswith((url, "data:")) for each in asked)


def extract(page: Any, text: str) -> None:
    page.locator("#input").fill(text)
    page.evaluate("document.querySelector('#levels').replaceChildren()")  # else those of the text before are waited for
    page.locator("#go").click()
    page.locator("#levels h3").nth(2).wait_for()


def marks(page: Any) -> list[str]:
    """The marked texts, without their labels."""
    found: list[str] = page.eval_on_selector_all("#text mark", "nodes => nodes.map(node => node.firstChild.data)")
    return found


@needs_chromium
@pytest.mark.slow
def test_it_shows_the_answer(page: Any) -> None:
    text = "heute war Anna in Köln"
    extract(page, text)
    assert marks(page) == ["Anna", "Köln"]
    cells = page.locator("#entities tbody tr").first.locator("td").all_inner_texts()
    assert cells == ["PER", "Anna", "0.900", "10", "14"]
    assert page.locator("#status").inner_text() == "2 entities found."
    assert page.locator("#votes li").all_inner_texts()[0].split() == ["English", "75%"]
    width = page.eval_on_selector("#votes li .bar span", "node => node.style.width")
    assert width == "75%"
    assert page.locator("#sentences bdi").first.inner_text() == "AnnaPER war da."
    assert "de: PER 2" in page.locator("#names").inner_text()
    assert page.locator("#levels h3").all_inner_texts() == [
        "Without example sentences", "Without known names", "Without both",
    ]  # fmt: skip
    page.locator("summary").click()
    assert page.locator("#prompts pre").inner_text() == f"context entity | {text}"


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "👩‍👩‍👧 𝕏 Anna 👍🏽 Köln",
        "e\u0301 Zoe\u0308 x",
        "ذهبت Ada إلى القاهرة",
        "王小明在北京。𠀀 Anna",
        "a\n\nAnna\tKarl",
        "<img src=x onerror=alert(1)> <b>Anna</b> &amp; <script>alert(1)</script>",
    ],
)
def test_marks_are_at_code_points_and_text_stays_text(page: Any, site: tuple[Any, str, FakeModel], text: str) -> None:
    extract(page, text)
    _, url, _ = site
    wanted = httpx.post(f"{url}/v1/extract", json={"texts": text}, trust_env=False).json()["results"][0]["entities"]
    assert marks(page) == [text[each["start"] : each["end"]] for each in wanted]
    shown = page.eval_on_selector(
        "#text", "node => [...node.childNodes].map(n => n.nodeName === 'MARK' ? n.firstChild.data : n.data).join('')"
    )
    assert shown == text
    assert page.locator("#text img, #text b, #text script").count() == 0


@needs_chromium
@pytest.mark.slow
def test_levels_that_matter_are_shown(page: Any) -> None:
    """``difference`` on two lists that differ."""
    found = page.evaluate(
        """async () => {
            const { difference } = await import('./render.js');
            const entity = (start, score, label = 'PER') => ({ start, end: start + 1, label, score, text: 'x' });
            const result = difference([entity(0, .9), entity(2, .9), entity(4, .9)],
                                      [entity(0, .9), entity(2, .5), entity(4, .9, 'LOC')]);
            return [result.gone.length, result.added.length, result.moved.length, result.moved[0].to];
        }"""
    )
    assert found == [1, 1, 1, 0.5]


@needs_chromium
@pytest.mark.slow
def test_errors_and_choices(page: Any, site: tuple[Any, str, FakeModel]) -> None:
    page.locator("#language").select_option("de")
    extract(page, "Anna")
    assert "you chose the language" in page.locator("#route").inner_text()
    page.locator("#labels input").first.uncheck()
    extract(page, "Anna")
    assert marks(page) == []
    page.locator("#labels input").first.check()
    page.locator("#input").fill("poison")
    page.locator("#go").click()
    page.locator("#error:not([hidden])").wait_for()
    assert "refuses" in page.locator("#error").inner_text()
    page.locator("#input").fill("x" * 50_001)
    assert page.locator("#go").is_disabled()
    assert "50,001 of 50,000" in page.locator("#count").inner_text()
    extract(page, "Anna \ud800 Karl")  # a lone half of a pair
    assert marks(page) == ["Anna", "Karl"]


@needs_chromium
@pytest.mark.slow
def test_keyboard_and_screen_readers(page: Any) -> None:
    page.locator("#input").focus()
    page.keyboard.type("Anna")
    page.keyboard.press("Control+Enter")
    page.locator("#levels h3").nth(2).wait_for()
    assert marks(page) == ["Anna"]
    seen = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"language", "threshold", "go", "text", "SUMMARY"} <= seen
    nameless = page.eval_on_selector_all(
        "input, select, textarea, button",
        "nodes => nodes.filter(n => !(n.labels?.length || n.textContent.trim() || n.ariaLabel)).map(n => n.outerHTML)",
    )
    assert nameless == []
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.get_by_role("status").count() == 1
    levels = page.eval_on_selector_all("h1, h2, h3", "nodes => nodes.map(node => Number(node.tagName[1]))")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))


_CONTRAST = """() => {
    const lum = ([r, g, b]) => [r, g, b].map(v => v / 255)
        .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
    const rgb = color => color.match(/[\\d.]+/g).map(Number);
    const back = node => { for (; node; node = node.parentElement) {
        const c = rgb(getComputedStyle(node).backgroundColor); if (c.length < 4 || c[3] > 0) return c; }
        return [255, 255, 255]; };
    const texts = [...document.querySelectorAll('body *')].filter(n => n.offsetParent && !n.disabled
        && [...n.childNodes].some(c => c.nodeType === 3 && c.data.trim()));
    return texts.map(n => { const a = lum(rgb(getComputedStyle(n).color)), b = lum(back(n));
        return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), n.tagName + '.' + n.className]; })
        .filter(([ratio]) => ratio < 4.5);
}"""


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(page: Any, scheme: str) -> None:
    """WCAG AA for all text, and for every colour of labels."""
    page.emulate_media(color_scheme=scheme)
    extract(page, "heute war Anna in Köln")
    page.evaluate(
        "() => document.querySelectorAll('#text mark').forEach((mark, i) => { for (let k = 0; k < 6; k++) {"
        "const copy = mark.cloneNode(true); copy.className = 'k' + k; mark.after(copy); } })"
    )
    assert page.evaluate(_CONTRAST) == []


@needs_chromium
@pytest.mark.slow
def test_narrow_screens_and_long_texts(page: Any) -> None:
    page.set_viewport_size({"width": 320, "height": 700})
    extract(page, "Anna " * 3000 + "Donaudampfschifffahrtsgesellschaft" * 20)
    assert len(marks(page)) == 3001
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate("document.getElementById('text').scrollHeight > document.getElementById('text').clientHeight")


@needs_chromium
@pytest.mark.slow
def test_right_to_left(page: Any) -> None:
    extract(page, "ذهبت Ada إلى القاهرة")
    for name in ("#input", "#text"):
        assert page.eval_on_selector(name, "node => getComputedStyle(node).direction") == "rtl"
