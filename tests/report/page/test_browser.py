"""The pages in a real browser: no requests, no errors, all content visible and accessible."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tcs_edge.report.page.comparison import comparison_page
from tcs_edge.report.page.run import run_page

pytestmark = pytest.mark.slow

VIEWS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "has_touch": True},
    "phone-dark": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True},
    "small": {"viewport": {"width": 320, "height": 640}, "color_scheme": "light", "has_touch": True},
}
CLASSES = ("a shirt", "<b>hat</b>", "كلب", "🐶 dog", "x" * 90)
NAMES = (
    "longsleeve", "Kraftfahrzeughaftpflichtversicherungsgesellschaft", "手書きの数字とひらがなの混ざった長いクラス名",
    "كلب صغير يلعب في الحديقة", "👩‍👩‍👧‍👦 family", "night_gown_with_a_belt", "Straßenverkehrsordnungen", "t-shirt",
)  # fmt: skip
# Elements wider than the page, except scrollable ones.
TOO_WIDE = """() => [...document.querySelectorAll('body *')]
  .filter(found => found.getBoundingClientRect().right > innerWidth + 1 && !found.closest('.scroll, nav, .skip'))
  .map(found => found.outerHTML.slice(0, 80))"""


# Words of up to 24 letters that take more than one line in a card of a mistake. A line may break after a separator.
BROKEN_WORDS = """() => {
  const broken = [];
  for (const name of document.querySelectorAll('.gallery dd bdi')) {
    const texts = document.createTreeWalker(name, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      for (const word of texts.currentNode.data.matchAll(/[^\\s-]+/g)) {
        if (word[0].length > 24) continue;
        const range = document.createRange();
        range.setStart(texts.currentNode, word.index);
        range.setEnd(texts.currentNode, word.index + word[0].length);
        const tops = new Set([...range.getClientRects()].map(box => Math.round(box.top)));
        if (tops.size > 1) broken.push(word[0]);
      }
    }
  }
  return broken;
}"""
# Tables whose hint contradicts them: [name, wider than its place, hint visible].
WRONG_HINTS = """() => [...document.querySelectorAll('.scroll')].map(found => [
  found.getAttribute('aria-label'), found.scrollWidth > found.clientWidth + 2,
  found.querySelector('.more').offsetHeight > 10,
]).filter(([name, wider, hint]) => wider !== hint)"""
# Rows of tables, except those with long class names, that are higher than eight lines.
TALL_ROWS = """() => [...document.querySelectorAll('tr')].filter(found => found.offsetHeight > 180
  && !found.querySelector('.long')).map(found => found.textContent)"""
WIDE_CAPTIONS = """() => [...document.querySelectorAll('caption')].filter(found => found.offsetHeight
  && found.getBoundingClientRect().right > innerWidth + 1).map(found => found.textContent)"""
# Texts of charts outside of their chart, and labels of ticks that overlap.
CROWDED_CHARTS = """() => {
  const wrong = [];
  for (const chart of document.querySelectorAll('figure svg')) {
    const frame = chart.getBoundingClientRect();
    if (!frame.width) continue;
    for (const text of chart.querySelectorAll('text')) {
      const box = text.getBoundingClientRect();
      if (box.left < frame.left - 2 || box.right > frame.right + 2) wrong.push('outside: ' + text.textContent);
    }
    const ticks = [...chart.querySelectorAll('text.tick')].map(text => text.getBoundingClientRect());
    ticks.forEach((one, at) => ticks.slice(at + 1).forEach(other => {
      const apart = one.right <= other.left || other.right <= one.left || one.bottom <= other.top + 3
        || other.bottom <= one.top + 3;
      if (!apart) wrong.push('ticks overlap in ' + chart.getAttribute('aria-label'));
    }));
  }
  return wrong;
}"""


class Watched:
    """A page with its console messages and its requests."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def outside(self) -> list[str]:
        return [url for url in self.asked if not url.startswith(("file:", "data:", "blob:"))]


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Watched]]:
    """visit(path, view="phone"): open the page."""
    contexts = []

    def go(path: Path, view: str = "light") -> Watched:
        contexts.append(browser.new_context(**VIEWS[view]))
        watched = Watched(contexts[-1].new_page())
        watched.page.goto(path.as_uri())
        return watched

    yield go
    for context in contexts:
        context.close()


@pytest.fixture
def report(noted_run, pictures, tmp_path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(run_page(noted_run(classes=CLASSES), pictures), encoding="utf-8")
    return path


@pytest.mark.parametrize("view", VIEWS)
def test_a_report_is_complete_and_makes_no_requests(report, visit, screenshots, view):
    visited = visit(report, view)
    page = visited.page
    assert visited.said == []
    assert visited.asked == [report.as_uri(), *(url for url in visited.asked if url.startswith("data:"))]
    for section in page.locator("main > section").all():
        assert section.is_visible()
        assert section.locator("h2").is_visible()
        box = section.bounding_box()
        assert box["height"] > 60
    assert page.locator("main > section").count() == 10
    assert page.evaluate(TOO_WIDE) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    page.screenshot(path=screenshots / f"report-{view}.png", full_page=True)


@pytest.mark.parametrize("view", VIEWS)
def test_names_tables_and_charts_fit_every_screen(noted_run, pictures, visit, tmp_path, view):
    path = tmp_path / "names.html"
    path.write_text(run_page(noted_run(classes=NAMES, latency_ms=0.05), pictures), encoding="utf-8")
    page = visit(path, view).page
    for details in page.locator("summary").all():
        details.click()
    assert page.evaluate(BROKEN_WORDS) == []
    assert page.evaluate(WRONG_HINTS) == []
    assert page.evaluate(TALL_ROWS) == []
    assert page.evaluate(WIDE_CAPTIONS) == []
    assert page.evaluate(CROWDED_CHARTS) == []
    assert page.evaluate(TOO_WIDE) == []
    hints = page.evaluate("[...document.querySelectorAll('.more')].filter(hint => hint.offsetHeight).length")
    assert (hints > 0) or view in ("light", "dark")


@pytest.mark.parametrize("view", VIEWS)
def test_six_runs_side_by_side_fit_every_screen(noted_run, visit, screenshots, tmp_path, view):
    names = ("a", "run with blanks and a long name", "b" * 60, "Fertigungslinie_Süd_2026-11-28", "短い", "كلب")
    runs = [noted_run(name=name, latency_ms=0.05 * 7**number) for number, name in enumerate(names)]
    path = tmp_path / "six.html"
    path.write_text(comparison_page(runs), encoding="utf-8")
    page = visit(path, view).page
    assert page.evaluate(WRONG_HINTS) == []
    assert page.evaluate(WIDE_CAPTIONS) == []
    assert page.evaluate(CROWDED_CHARTS) == []
    assert page.evaluate(TOO_WIDE) == []
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="accessibility is judged by axe-core")
    results = axe.Axe().run(page)
    assert [(found["id"], found["nodes"][0]["html"]) for found in results.response["violations"]] == []
    page.screenshot(path=screenshots / f"six-{view}.png", full_page=True)


def test_a_wide_table_scrolls_by_keyboard_with_visible_focus(report, visit):
    page = visit(report, "phone").page
    region = page.locator("#parity .scroll").first
    region.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    assert region.evaluate("found => found.scrollLeft") > 0
    assert region.evaluate("found => getComputedStyle(found).outlineStyle") == "solid"


def test_a_report_prints_with_all_sections_open(report, visit, screenshots):
    page = visit(report).page
    hidden = page.locator("#provenance details td.hash").first
    assert not hidden.is_visible()
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.pdf(path=screenshots / "report.pdf", format="A4")
    assert (screenshots / "report.pdf").read_bytes().startswith(b"%PDF")
    page.screenshot(path=screenshots / "report-print.png", full_page=True)


@pytest.mark.parametrize("view", VIEWS)
def test_a_report_is_accessible(report, visit, view):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="accessibility is judged by axe-core")
    page = visit(report, view).page
    for details in page.locator("summary").all():
        details.click()
    results = axe.Axe().run(page)
    assert [(found["id"], found["nodes"][0]["html"]) for found in results.response["violations"]] == []


def test_a_report_can_be_used_by_keyboard(report, visit):
    page = visit(report).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName + '.' + document.activeElement.className"))
    assert {"SUMMARY.", "DIV.scroll"} <= reached


def test_the_charts_follow_the_color_scheme(report, visit):
    colors = []
    for view in ("light", "dark"):
        text = visit(report, view).page.locator("#student .wide svg text").first
        colors.append(text.evaluate("found => getComputedStyle(found).fill"))
    assert colors[0] != colors[1]


def test_a_failed_run_and_a_comparison_make_no_requests(noted_run, visit, screenshots, tmp_path):
    failed = noted_run(name="failed", failed="onnxruntime: largest difference", classes=CLASSES)
    pages = {"failed": run_page(failed), "comparison": comparison_page([noted_run(name="good"), failed])}
    for name, content in pages.items():
        path = tmp_path / f"{name}.html"
        path.write_text(content, encoding="utf-8")
        visited = visit(path)
        assert visited.said == []
        assert visited.outside() == []
        assert visited.page.evaluate(TOO_WIDE) == []
        visited.page.screenshot(path=screenshots / f"{name}.png", full_page=True)
