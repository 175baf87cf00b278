# SPDX-License-Identifier: GPL-2.0-only
"""report.html in a real browser, Chromium: on a screen, on a phone, on paper, without scripts.

The pictures are in the folder that REPORT_PICTURES names (out/pictures if it is not set), for a
person to look at.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kpatch.report.review import html, words
from tests.samplereviews import BAD, REVIEWS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.check

INSTALL = "`make browser-ready` installs it"

PICTURES = Path(os.environ.get("REPORT_PICTURES", "out/pictures"))

SIZES = {"desktop": (1200, 900), "phone": (390, 844), "narrow": (320, 600)}

# An element that sticks out of the window at its right, or that has to be scrolled sideways.
TOO_WIDE = """\
() => [...document.querySelectorAll("body *")].filter(e => {
  const box = e.getBoundingClientRect();
  return box.right > window.innerWidth + 1 || (e.clientWidth && e.scrollWidth > e.clientWidth + 1);
}).map(e => e.outerHTML.slice(0, 100))
"""

# The contrast of a text's colour and its ground (WCAG 2.2), the least of all elements with text.
CONTRAST = """\
() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const part = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const texts = [...document.querySelectorAll("body *")].filter(e =>
    [...e.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
  return Math.min(...texts.map(e => {
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }));
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a running Chromium. Fails, instead of a skip, if there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.fail(f"playwright is not installed; {INSTALL}")
    if program is None:
        pytest.fail(f"chromium is not installed; {INSTALL}")
    # Its own sandbox does not work for root. What it shows has no script and no network.
    options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=program, args=options)
        yield running
        running.close()


@contextmanager
def opened(browser: Browser, name: str, size: str, tmp_path: Path, **more: Any) -> Iterator[Page]:
    """Show the page of the review ``name``; fail on a request for anything but the page."""
    width, height = SIZES[size]
    file = tmp_path / f"{name}.html"
    file.write_text(html.render(REVIEWS[name]))
    context = browser.new_context(viewport={"width": width, "height": height}, **more)
    page = context.new_page()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    yield page
    context.close()
    assert set(requests) == {file.as_uri()}


def picture(page: Page, name: str) -> None:
    """Take a picture of the page, of its top if the whole is too long for a picture."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    height = page.evaluate("document.documentElement.scrollHeight")
    page.screenshot(path=PICTURES / f"{name}.png", full_page=height < 6000)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", REVIEWS)
def test_nothing_is_wider_than_the_window(
    browser: Browser, name: str, size: str, tmp_path: Path
) -> None:
    with opened(browser, name, size, tmp_path) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
        assert page.evaluate(TOO_WIDE) == []
        if size != "narrow":
            picture(page, f"{name}-{size}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["bad", "good", "unjudged"])
def test_text_stands_out_from_its_ground(
    browser: Browser, name: str, scheme: str, tmp_path: Path
) -> None:
    with opened(browser, name, "desktop", tmp_path, color_scheme=scheme) as page:
        assert page.evaluate(CONTRAST) >= 4.5  # WCAG 2.2, level AA
        picture(page, f"{name}-{scheme}")


@pytest.mark.parametrize("name", ["bad", "many", "hostile"])
def test_all_is_shown_without_scripts(browser: Browser, name: str, tmp_path: Path) -> None:
    with opened(browser, name, "phone", tmp_path, java_script_enabled=False) as page:
        shown = " ".join(page.inner_text("body").split())
    for check, found in REVIEWS[name].findings[: html.FINDINGS]:
        assert check.name in shown
        assert words.cause(found) in shown


def test_hostile_text_runs_nothing(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, "hostile", "desktop", tmp_path) as page:
        dialogs: list[str] = []
        page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        page.reload()
        assert page.locator("script").count() == 0
        assert dialogs == []


def test_table_leads_to_the_finding(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, "bad", "desktop", tmp_path) as page:
        page.locator("table td.cell a").first.click()
        assert page.locator("article:target .cause").inner_text() == words.cause(BAD.findings[0][1])


def test_outcomes_are_told_by_words_and_shapes(browser: Browser, tmp_path: Path) -> None:
    """Colour is not the only sign: each symbol has a name, and a shape of its own."""
    with opened(browser, "bad", "desktop", tmp_path) as page:
        uses = {
            symbol.get_attribute("aria-label"): symbol.locator("use").get_attribute("href")
            for symbol in page.locator("svg.symbol").all()
        }
        shapes = {page.locator(str(use)).inner_html() for use in uses.values()}
    assert None not in uses
    assert len(shapes) == len(html.MEANING)


def test_print_shows_what_is_folded(browser: Browser, tmp_path: Path) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    file = PICTURES / "bad-print.pdf"
    with opened(browser, "bad", "desktop", tmp_path) as page:
        page.pdf(path=file, format="A4")
        page.emulate_media(media="print")
        assert page.get_by_text("make -j2 bzImage").is_visible()
        assert (
            page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        )
    assert re.match(rb"%PDF-1\.\d", file.read_bytes())
