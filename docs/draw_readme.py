"""Write the README's table and image, and the table of docs/results/prompt_len.md.

Run this after `ship-sweep --space prompt_len.yaml`, in the same folder:

    python -m docs.draw_readme [STORE]

STORE is the tracking store for load_study, by default ./mlflow.db. The image requires Chromium and
chromedriver. The first table of each page is replaced, and keeps its columns.
"""

import io
import json
import re
import sys
import tempfile
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from reports import load_study

STUDY = "prompt_len"
ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "results" / f"{STUDY}.md")
IMAGE = ROOT / "docs" / "images" / "report.png"
SIZE = (1200, 1400)  # pixels: the answer, the figure, and the whole table


def read_first_table(text: str) -> list[list[str]]:
    """Return the cells of the first table of a page, row by row, or [] if it has none.

    The second row is the rule below the headings.
    """
    match = re.search(r"^(?:\|.*\n)+", text, flags=re.MULTILINE)
    lines = match[0].replace("\\", "").splitlines() if match else []  # without escaped brackets
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def replace_first_table(page: str, table: list[list[str]]) -> str:
    """Return a page in which the first table has new rows. Its columns are unchanged.

    Args:
        page: Text of the page.
        table: Rows as in read_first_table. It may have more columns than the page's table.

    Raises:
        ValueError: The table lacks a column of the page's table.
    """
    columns = [table[0].index(heading) for heading in read_first_table(page)[0]]
    lines = [f"|{' |'.join(row[column] for column in columns)}|\n" for row in table]
    lines[1] = lines[1].replace(" ", "")  # the rule below the headings
    return re.sub(r"^(?:\|.*\n)+", lambda _: "".join(lines), page, count=1, flags=re.MULTILINE)


def render_page(page: str, table: list[list[str]]) -> bytes:
    """Return a PNG of a report's page in Chromium.

    Args:
        page: HTML of the page.
        table: Table that is stored in the PNG's metadata, for a test.
    """
    from tests.reports.render.test_browser import open_browser, show, wait

    browser = open_browser()
    browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    try:
        with tempfile.TemporaryDirectory() as folder:
            show(browser, page, Path(folder), *SIZE)
            wait(browser, "return document.querySelector('.chart svg .seeds_marks path')")
            screenshot = browser.get_screenshot_as_png()
    finally:
        browser.quit()
    buffer, metadata = io.BytesIO(), PngInfo()
    metadata.add_itxt("table", json.dumps(table))
    image = Image.open(io.BytesIO(screenshot)).convert("RGB")
    small_palette = image.quantize(method=Image.Quantize.MAXCOVERAGE)  # makes the file smaller
    small_palette.save(buffer, "PNG", optimize=True, pnginfo=metadata)
    return buffer.getvalue()


def main(store: str = "mlflow.db") -> None:
    """Write the tables and the image."""
    study = load_study(STUDY, store)
    table = read_first_table(study.table().markdown())
    for path in PAGES:
        path.write_text(replace_first_table(path.read_text("utf-8"), table), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        study.write(folder)
        page = (Path(folder) / f"{STUDY}.html").read_text("utf-8")
    IMAGE.write_bytes(render_page(page, table))


if __name__ == "__main__":
    main(*sys.argv[1:])
