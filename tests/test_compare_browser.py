# SPDX-License-Identifier: GPL-2.0-only
"""A comparison's page in Chromium: it fits each window, its text stands out, it loads nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kpatch.compare import conclusion, html
from tests.samplecomparisons import COMPARISONS
from tests.test_browser import CONTRAST, SIZES, browser, picture

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.check

__all__ = ["browser"]


@contextmanager
def opened(browser: Browser, name: str, size: str, tmp_path: Path, **more: Any) -> Iterator[Page]:
    """Show the page of the comparison ``name``; fail on a request for anything but the page."""
    width, height = SIZES[size]
    file = tmp_path / f"{name}.html"
    file.write_text(html.render(COMPARISONS[name]))
    context = browser.new_context(viewport={"width": width, "height": height}, **more)
    page = context.new_page()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    yield page
    context.close()
    assert set(requests) == {file.as_uri()}


# An element that sticks out of the window, outside of a table that is scrolled by itself.
STICKS_OUT = """\
() => [...document.querySelectorAll("body *:not(.scroll *):not(svg *)")].filter(
  e => e.getBoundingClientRect().right > window.innerWidth + 1
).map(e => e.outerHTML.slice(0, 100))
"""


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", COMPARISONS)
def test_page_fits_the_window(browser: Browser, name: str, size: str, tmp_path: Path) -> None:
    with opened(browser, name, size, tmp_path) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
        assert page.evaluate(STICKS_OUT) == []
        picture(page, f"compare-{name}-{size}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Browser, scheme: str, tmp_path: Path) -> None:
    with opened(browser, "both", "desktop", tmp_path, color_scheme=scheme) as page:
        assert page.evaluate(CONTRAST) >= 4.5  # WCAG 2.2, level AA
        picture(page, f"compare-{scheme}")


def test_plots_and_conclusion_are_shown_without_scripts(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, "both", "phone", tmp_path, java_script_enabled=False) as page:
        shown = " ".join(page.inner_text("body").split())
        boxes = [figure.bounding_box() for figure in page.locator("figure svg").all()]
    for line in conclusion.conclusion(COMPARISONS["both"]):
        assert line in shown
    assert len(boxes) == 10
    assert all(box is not None and box["height"] > 50 for box in boxes)
