"""The report's page in a real browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.charts import make_study_charts
from reports.errors import ReportError
from reports.render import make_overview_files
from reports.render.page import render_report_page
from reports.report import make_report
from tests.reports.builder import make_prompt_len
from tests.reports.pages import render_study_page
from tests.reports.studies import make_grid_study, make_multi_dataset_study, make_one_factor_study

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
    """Start a headless Chromium."""
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
    """Yield a headless Chromium without a network."""
    driver = open_browser()
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", {
        "offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0,
    })  # fmt: skip
    yield driver
    driver.quit()


def open_page(browser: Any, text: str, folder: Path, width: int = 1400, height: int = 900) -> None:
    """Write a page to a file and open it in a window of this size in pixels."""
    path = folder / "page.html"
    path.write_text(text, encoding="utf-8")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500,
    })  # fmt: skip
    browser.get(path.as_uri())
    # On a busy machine, get() returns before the last rows of a large page are loaded.
    wait_for(browser, "return document.readyState === 'complete'")


def wait_for(browser: Any, script: str) -> Any:
    """Run a script until it returns a true value, and return this value."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 20).until(lambda driver: driver.execute_script(script))


def read_column(browser: Any, column: int, table: int = 0) -> list[str]:
    """Return the visible texts of a table's column, from all groups of rows."""
    script = (
        "const table = document.querySelectorAll('.table-box table')[arguments[1]];"
        "return [...table.tBodies[0].rows].filter(r => r.cells.length > 1 && !r.hidden)"
        ".map(r => r.cells[arguments[0]].textContent)"
    )
    return list(browser.execute_script(script, column, table))


def press_heading(browser: Any, column: int) -> None:
    """Press the heading of a column of the first table, by keyboard."""
    from selenium.webdriver.common.keys import Keys

    buttons = browser.find_elements("css selector", ".table-box:first-of-type th button")
    buttons[column].send_keys(Keys.ENTER)


def make_linked_page() -> str:
    """Return the page of the packaged study, with links to its runs in MLflow."""
    from dataclasses import replace

    study = replace(
        make_prompt_len().make_study(), runs_address="http://127.0.0.1:5000/#/experiments/1/runs/"
    )
    report = make_report(study)
    return render_report_page(report, make_study_charts(report))


def test_charts_are_drawn_without_errors(browser: Any, tmp_path: Path) -> None:
    """Charts are SVGs with a mark per seed, the console is empty, and nothing is downloaded."""
    open_page(browser, make_linked_page(), tmp_path)
    dots = "return document.querySelectorAll('.chart svg .mark-symbol.seeds_marks path').length"
    assert wait_for(browser, dots) == 25
    assert browser.get_log("browser") == []
    label = "return document.querySelector('.chart summary').getAttribute('aria-label')"
    assert wait_for(browser, label) == "Save this chart"


def test_a_dot_shows_its_seed_and_opens_its_run(browser: Any, tmp_path: Path) -> None:
    """Hovering shows the seed and the value, and a click opens the run in a new window."""
    from selenium.webdriver.common.action_chains import ActionChains

    open_page(browser, make_linked_page(), tmp_path)
    wait_for(browser, "return document.querySelector('.chart svg .seeds_marks path')")
    dot = browser.execute_script(
        "document.querySelector('.chart').scrollIntoView({block: 'center'});"
        "return [...document.querySelectorAll('.chart svg .seeds_marks path')].find(dot => {"
        "const box = dot.getBoundingClientRect();"
        "const at = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);"
        "return at === dot; })"  # the first dot that no mark of a mean covers
    )
    ActionChains(browser).move_to_element(dot).perform()
    tooltip = wait_for(
        browser, "return document.querySelector('#vg-tooltip-element.visible')?.textContent"
    )
    assert "seed" in tooltip and "n_ctx" in tooltip
    report_window = browser.current_window_handle
    ActionChains(browser).move_to_element(dot).click().perform()
    (run_window,) = [name for name in browser.window_handles if name != report_window]
    browser.switch_to.window(run_window)
    address = browser.current_url
    browser.close()
    browser.switch_to.window(report_window)
    assert address.startswith("http://127.0.0.1:5000/#/experiments/1/runs/run")


def test_tables_sort_within_their_groups(browser: Any, tmp_path: Path) -> None:
    """A heading sorts numbers in ascending and then in descending order, above the controls."""
    open_page(browser, render_study_page(make_prompt_len()), tmp_path)
    h_column = 5
    before = read_column(browser, h_column)
    press_heading(browser, h_column)
    after = read_column(browser, h_column)
    levels = [float(text.split()[0]) for text in after[:5]]
    assert levels == sorted(levels) and sorted(before[:5]) == sorted(after[:5])
    press_heading(browser, h_column)
    assert [float(text.split()[0]) for text in read_column(browser, h_column)[:5]] == levels[::-1]
    heading = browser.find_elements("css selector", ".table-box:first-of-type th")[h_column]
    assert heading.get_attribute("aria-sort") == "descending"
    assert [name.split(" ")[0] for name in read_column(browser, 0)[5:]] != []


def test_rows_filter_and_columns_hide(browser: Any, tmp_path: Path) -> None:
    """The search keeps the rows with all its words, and a checkbox hides a column."""
    open_page(browser, make_large_page(40), tmp_path)
    box = browser.find_element("css selector", ".table-box input[type=search]")
    box.send_keys("37")
    assert len(read_column(browser, 0)) < 40 and all("37" in text for text in read_rows(browser))
    browser.execute_script("document.querySelector('.table-box .tools details').open = true")
    browser.find_elements("css selector", ".table-box .columns input")[1].click()
    cell = "return document.querySelector('.table-box tbody tr td:nth-child(2)').hidden"
    assert browser.execute_script(cell) is True


def read_rows(browser: Any) -> list[str]:
    """Return the texts of the visible rows of the first table."""
    script = (
        "return [...document.querySelector('.table-box table').tBodies[0].rows]"
        ".filter(r => !r.hidden && r.cells.length > 1).map(r => r.textContent)"
    )
    return list(browser.execute_script(script))


def make_large_page(configurations: int) -> str:
    """Return the page of a grid of many configurations with two seeds each."""
    levels = {"generator.kl_weight": range(configurations // 2), "generator.name": ["vae", "wgan"]}
    return render_study_page(
        make_grid_study(levels, lambda level, _, s: 40.0 + level % 17 + s, 2, name="large")
    )


@pytest.mark.parametrize("width", [390, 1400])
def test_a_page_is_no_wider_than_its_window(browser: Any, tmp_path: Path, width: int) -> None:
    """Wide tables and charts scroll in their own boxes, also on a phone."""
    long = "descriptions/of_every_class_of_imagenet_in_full_" * 4
    builder = make_one_factor_study({f"{long}1": 50.0, f"{long}2": 55.0}, name=f"a_study_of_{long}")
    overview, *_ = make_overview_files(
        [make_report(builder.make_study()), ReportError("left out: " + long)]
    )
    for text in (make_linked_page(), render_study_page(builder), overview["index.html"].decode()):
        open_page(browser, text, tmp_path, width)
        wait_for(browser, "return document.querySelector('.chart svg, #filters')")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_sufficient_contrast(browser: Any, tmp_path: Path, scheme: str) -> None:
    """The contrast is at least 4.5 to 1, which WCAG 2.2 requires for small text."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    open_page(browser, render_study_page(make_prompt_len(selection="test")), tmp_path)
    wait_for(browser, "return document.querySelector('.chart svg text')")
    weak = browser.execute_script(CONTRAST)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert weak == []


def test_a_printed_page_has_every_chart_and_every_note(browser: Any, tmp_path: Path) -> None:
    """Printing draws the charts that were not visible before, and opens the notes."""
    import base64

    open_page(browser, render_study_page(make_prompt_len()), tmp_path)
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    wait_for(
        browser,
        "return [...document.querySelectorAll('.chart')].every(c => c.querySelector('svg'))",
    )
    assert browser.execute_script(
        "return [...document.querySelectorAll('details.notes')].every(d => d.open)"
    )
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert printed.startswith(b"%PDF")


# Returns the texts whose contrast with their background is below 4.5 to 1.
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
    """Filters are properties that studies share, and words."""
    reports = [
        make_report(study.make_study()) for study in (make_prompt_len(), make_multi_dataset_study())
    ]
    files, _, _ = make_overview_files(reports)
    open_page(browser, files["index.html"].decode(), tmp_path)
    shown = "return [...document.querySelectorAll('.study:not([hidden])')].map(entry => entry.id)"
    assert browser.execute_script(shown) == ["prompt_len", "main"]
    browser.execute_script(
        "const filter = document.querySelector('select[name=dataset]'); filter.value = 'dtd';"
        "filter.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    assert browser.execute_script(shown) == ["main"]
    browser.find_element("css selector", "input[name=text]").send_keys("n_ctx")
    assert browser.execute_script(shown) == []
    assert not [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
