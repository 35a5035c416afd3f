"""Writes the README's table and image, and docs/results/prompt_len.md's table, from one store.

After `ship-sweep --space prompt_len.yaml`, in the folder of that run:

    python -m docs.draw_readme [STORE]

STORE is as load_study takes it, ./mlflow.db by default. The image needs Chromium
and chromedriver, as the tests of the page do. The first table of each page is replaced; it keeps
the columns that it has.
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


def first_table(text: str) -> list[list[str]]:
    """Rows of the first pipe table of a text, cell by cell: headings, rule, and what follows."""
    found = re.search(r"^(?:\|.*\n)+", text, flags=re.MULTILINE)
    lines = found[0].replace("\\", "").splitlines() if found else []  # brackets need no escape here
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def with_table(page: str, table: list[list[str]]) -> str:
    """Return a page whose first table has a table's cells, in the columns that it already has.

    Raises:
        ValueError: the table lacks a column that the page has.
    """
    places = [table[0].index(heading) for heading in first_table(page)[0]]
    lines = [f"|{' |'.join(row[place] for place in places)}|\n" for row in table]
    lines[1] = lines[1].replace(" ", "")  # the rule below the headings
    return re.sub(r"^(?:\|.*\n)+", lambda _: "".join(lines), page, count=1, flags=re.MULTILINE)


def image(page: str, table: list[list[str]]) -> bytes:
    """Return a PNG of a report's page in Chromium, of few colors, with its table as text."""
    from tests.reports.render.test_browser import open_browser, open_page, wait_for

    browser = open_browser()
    browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    try:
        with tempfile.TemporaryDirectory() as folder:
            open_page(browser, page, Path(folder), *SIZE)
            wait_for(browser, "return document.querySelector('.chart svg .seeds_marks path')")
            shot = browser.get_screenshot_as_png()
    finally:
        browser.quit()
    buffer, note = io.BytesIO(), PngInfo()
    note.add_itxt("table", json.dumps(table))
    few = Image.open(io.BytesIO(shot)).convert("RGB").quantize(method=Image.Quantize.MAXCOVERAGE)
    few.save(buffer, "PNG", optimize=True, pnginfo=note)
    return buffer.getvalue()


def main(store: str = "mlflow.db") -> None:
    """Write the tables and the image."""
    study = load_study(STUDY, store)
    table = first_table(study.table().markdown())
    for path in PAGES:
        path.write_text(with_table(path.read_text("utf-8"), table), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        study.write(folder)
        page = (Path(folder) / f"{STUDY}.html").read_text("utf-8")
    IMAGE.write_bytes(image(page, table))


if __name__ == "__main__":
    main(*sys.argv[1:])
