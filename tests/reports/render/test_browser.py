"""The page in a real browser: no errors, and its controls work."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.charts import make_study_charts
from reports.errors import ReportError
from reports.render import make_overview_files
from reports.render.page import report_page
from reports.report import make_report
from tests.reports.builder import prompt_len
from tests.reports.pages import whole_page
from tests.reports.studies import crossed, leveled, over_datasets

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
DRIVER = shutil.which("chromedriver") or ""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="needs chromium and chromedriver (Debian: chromium-driver)",
    ),
]


def open_browser() -> Any:
    """A headless Chromium."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "window-size=1400,900"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(DRIVER))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium without a network."""
    driver = open_browser()
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", {
        "offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0,
    })  # fmt: skip
    yield driver
    driver.quit()


def show(browser: Any, text: str, folder: Path, width: int = 1400, height: int = 900) -> None:
    """Open a page from a file, in a window of so many pixels."""
    path = folder / "page.html"
    path.write_text(text, encoding="utf-8")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500,
    })  # fmt: skip
    browser.get(path.as_uri())
    # on a busy machine it returns before the last rows of a large page are there
    wait(browser, "return document.readyState === 'complete'")


def wait(browser: Any, script: str) -> Any:
    """What a script returns, once it is true."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 20).until(lambda driver: driver.execute_script(script))


def column(browser: Any, place: int, table: int = 0) -> list[str]:
    """The visible texts of a column of a table, its groups one after the other."""
    script = (
        "const table = document.querySelectorAll('.table-box table')[arguments[1]];"
        "return [...table.tBodies[0].rows].filter(r => r.cells.length > 1 && !r.hidden)"
        ".map(r => r.cells[arguments[0]].textContent)"
    )
    return list(browser.execute_script(script, place, table))


def press(browser: Any, place: int) -> None:
    """Press the heading of a column of the first table by keyboard."""
    from selenium.webdriver.common.keys import Keys

    buttons = browser.find_elements("css selector", ".table-box:first-of-type th button")
    buttons[place].send_keys(Keys.ENTER)


def linked() -> str:
    """The packaged study's page as read from a store, with links to its runs."""
    from dataclasses import replace

    study = replace(
        prompt_len().study(), runs_address="http://127.0.0.1:5000/#/experiments/1/runs/"
    )
    report = make_report(study)
    return report_page(report, make_study_charts(report))


def test_charts_are_drawn_without_errors(browser: Any, tmp_path: Path) -> None:
    """Every chart is an SVG with a mark per seed, the console is empty, and nothing is fetched."""
    show(browser, linked(), tmp_path)
    dots = "return document.querySelectorAll('.chart svg .mark-symbol.seeds_marks path').length"
    assert wait(browser, dots) == 25
    assert browser.get_log("browser") == []
    named = "return document.querySelector('.chart summary').getAttribute('aria-label')"
    assert wait(browser, named) == "Save this chart"


def test_a_dot_shows_its_seed_and_opens_its_run(browser: Any, tmp_path: Path) -> None:
    """Hovering shows the seed and the value, and a click opens the run in a new window."""
    from selenium.webdriver.common.action_chains import ActionChains

    show(browser, linked(), tmp_path)
    wait(browser, "return document.querySelector('.chart svg .seeds_marks path')")
    dot = browser.execute_script(
        "document.querySelector('.chart').scrollIntoView({block: 'center'});"
        "return [...document.querySelectorAll('.chart svg .seeds_marks path')].find(dot => {"
        "const box = dot.getBoundingClientRect();"
        "const at = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);"
        "return at === dot; })"  # the first that no mean covers
    )
    ActionChains(browser).move_to_element(dot).perform()
    tooltip = wait(
        browser, "return document.querySelector('#vg-tooltip-element.visible')?.textContent"
    )
    assert "seed" in tooltip and "n_ctx" in tooltip
    page_itself = browser.current_window_handle
    ActionChains(browser).move_to_element(dot).click().perform()
    (opened,) = [name for name in browser.window_handles if name != page_itself]
    browser.switch_to.window(opened)
    address = browser.current_url
    browser.close()
    browser.switch_to.window(page_itself)
    assert address.startswith("http://127.0.0.1:5000/#/experiments/1/runs/run")


def test_tables_sort_within_their_groups(browser: Any, tmp_path: Path) -> None:
    """A heading sorts by number, up and then down. Controls stay below the levels."""
    show(browser, whole_page(prompt_len()), tmp_path)
    place = 5  # H
    before = column(browser, place)
    press(browser, place)
    levels = [float(text.split()[0]) for text in column(browser, place)[:5]]
    assert levels == sorted(levels) and sorted(before[:5]) == sorted(column(browser, place)[:5])
    press(browser, place)
    assert [float(text.split()[0]) for text in column(browser, place)[:5]] == levels[::-1]
    heading = browser.find_elements("css selector", ".table-box:first-of-type th")[place]
    assert heading.get_attribute("aria-sort") == "descending"
    assert [name.split(" ")[0] for name in column(browser, 0)[5:]] != []


def test_rows_filter_and_columns_hide(browser: Any, tmp_path: Path) -> None:
    """The search keeps the rows with all its words, and a checkbox hides a column."""
    show(browser, large(40), tmp_path)
    box = browser.find_element("css selector", ".table-box input[type=search]")
    box.send_keys("37")
    assert len(column(browser, 0)) < 40 and all("37" in text for text in rows(browser))
    browser.execute_script("document.querySelector('.table-box .tools details').open = true")
    browser.find_elements("css selector", ".table-box .columns input")[1].click()
    cell = "return document.querySelector('.table-box tbody tr td:nth-child(2)').hidden"
    assert browser.execute_script(cell) is True


def rows(browser: Any) -> list[str]:
    """The texts of the visible rows of the first table."""
    script = (
        "return [...document.querySelector('.table-box table').tBodies[0].rows]"
        ".filter(r => !r.hidden && r.cells.length > 1).map(r => r.textContent)"
    )
    return list(browser.execute_script(script))


def large(configurations: int) -> str:
    """The page of a grid of many settings, two seeds each."""
    levels = {"generator.kl_weight": range(configurations // 2), "generator.name": ["vae", "wgan"]}
    return whole_page(crossed(levels, lambda level, _, s: 40.0 + level % 17 + s, 2, name="large"))


@pytest.mark.parametrize("width", [390, 1400])
def test_a_page_is_no_wider_than_its_window(browser: Any, tmp_path: Path, width: int) -> None:
    """Tables and charts scroll in their own boxes, also on a telephone."""
    long = "descriptions/of_every_class_of_imagenet_in_full_" * 4
    named = leveled({f"{long}1": 50.0, f"{long}2": 55.0}, name=f"a_study_of_{long}")
    overview, *_ = make_overview_files(
        [make_report(named.study()), ReportError("left out: " + long)]
    )
    for text in (linked(), whole_page(named), overview["index.html"].decode()):
        show(browser, text, tmp_path, width)
        wait(browser, "return document.querySelector('.chart svg, #filters')")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_sufficient_contrast(browser: Any, tmp_path: Path, scheme: str) -> None:
    """In both color schemes it is at least 4.5 to 1, as WCAG 2.2 requires of small text."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    show(browser, whole_page(prompt_len(selection="test")), tmp_path)
    wait(browser, "return document.querySelector('.chart svg text')")
    weak = browser.execute_script(CONTRAST)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert weak == []


def test_a_printed_page_has_every_chart_and_every_note(browser: Any, tmp_path: Path) -> None:
    """Printing draws the charts that were not in view yet, and unfolds the notes."""
    import base64

    show(browser, whole_page(prompt_len()), tmp_path)
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    wait(
        browser,
        "return [...document.querySelectorAll('.chart')].every(c => c.querySelector('svg'))",
    )
    assert browser.execute_script(
        "return [...document.querySelectorAll('details.notes')].every(d => d.open)"
    )
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert printed.startswith(b"%PDF")


# The texts whose color is less than 4.5 to 1 from what is painted behind them.
CONTRAST = """
const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (node) => {
  for (let n = node; n; n = n.parentElement) {
    const c = rgb(getComputedStyle(n).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c;
  }
  return [255, 255, 255];
};
const weak = [];
const words = 'h1,h2,h3,p,dt,dd,li,td,th button,summary,figcaption,.verdict,.chart text';
for (const node of document.querySelectorAll(words)) {
  const style = getComputedStyle(node);
  const ink = node.closest('svg') ? style.fill : style.color;
  const [a, b] = [light(rgb(ink)), light(ground(node))].sort((x, y) => y - x);
  if ((a + 0.05) / (b + 0.05) < 4.5) weak.push([node.tagName, node.textContent.slice(0, 30), ink]);
}
return weak;
"""


def test_the_overview_filters_studies(browser: Any, tmp_path: Path) -> None:
    """It filters by shared properties and by words."""
    reports = [make_report(study.study()) for study in (prompt_len(), over_datasets())]
    files, _, _ = make_overview_files(reports)
    show(browser, files["index.html"].decode(), tmp_path)
    shown = "return [...document.querySelectorAll('.study:not([hidden])')].map((one) => one.id)"
    assert browser.execute_script(shown) == ["prompt_len", "main"]
    browser.execute_script(
        "const one = document.querySelector('select[name=dataset]'); one.value = 'dtd';"
        "one.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    assert browser.execute_script(shown) == ["main"]
    browser.find_element("css selector", "input[name=text]").send_keys("n_ctx")
    assert browser.execute_script(shown) == []
    assert not [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
