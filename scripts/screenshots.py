"""Pictures of the playground for the documents, from a running ``retrieveall serve``.

python scripts/screenshots.py http://127.0.0.1:8080 docs/images
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PICTURES: dict[str, dict[str, Any]] = {
    "playground-light": {"example": "Deutsch"},
    "playground-dark": {"example": "English", "color_scheme": "dark"},
    "playground-narrow": {"example": "Русский", "width": 360},
    "playground-chinese": {"example": "中文"},
    "playground-arabic": {"example": "العربية"},
    "playground-levels": {"example": "日本語", "first": "#route-title", "last": "#names-title"},
}
WIDTH, HEIGHT = 900, 1000


def take(
    browser: Any,
    url: str,
    path: Path,
    example: str,
    width: int = WIDTH,
    color_scheme: str = "light",
    first: str | None = None,
    last: str | None = None,
) -> None:
    """One picture of an example and its answer: the top of the page, or from one heading to before another."""
    viewport = {"width": width, "height": HEIGHT}
    page = browser.new_page(viewport=viewport, color_scheme=color_scheme, device_scale_factor=1)
    page.set_default_timeout(120_000)
    page.goto(url)
    page.get_by_role("button", name=example, exact=True).click()
    page.locator("#levels h3").nth(2).wait_for()
    if first is None or last is None:
        page.screenshot(path=path)
    else:
        top, bottom = (page.locator(name).bounding_box()["y"] for name in (first, last))
        clip = {"x": 0, "y": top - 24, "width": width, "height": bottom - top - 8}
        page.screenshot(path=path, clip=clip, full_page=True)
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests" / "serving"))
    from browser import browser

    args.folder.mkdir(parents=True, exist_ok=True)
    with browser() as opened:
        for name, options in PICTURES.items():
            take(opened, args.url, args.folder / f"{name}.png", **options)


if __name__ == "__main__":
    main()
