"""python -m tests.bench.bench_page [--settings N]: a large study's report, made and opened.

Prints how long the report of a sampled study takes to make, how many bytes its page has, and how
long Chromium needs to open it, from the first byte to the end of the load event and to the first
chart (the least of five times). Needs chromium and chromedriver.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reports.charts import study_charts
from reports.render.page import page
from reports.report import make_report
from tests.reports.builder import StoreBuilder, scores
from tests.reports.render.test_browser import CHROMIUM, DRIVER, open_browser

TIMES = 5


def sampled(settings: int) -> StoreBuilder:
    """A study of three ranges and a choice, with five seeds."""
    ranges = ("generator.kl_weight", "generator.n_ctx", "generator.latent_dim")
    factors: list[dict[str, Any]] = [
        {"key": key, "levels": None, "log": False, "baseline": None} for key in ranges
    ]
    names = ["clip_adapter", "tip_adapter_f"]
    factors.append({"key": "finetuner", "levels": names, "log": False, "baseline": names[0]})
    builder = StoreBuilder(name="large", factors=factors, sampler="random", trials=settings)
    rng = np.random.default_rng(0)
    for place in range(settings):
        values = dict(zip(ranges, map(float, rng.uniform(0.1, 1, 3)), strict=True))
        assignment = {**values, "finetuner": names[place % 2]}
        new = 50 + 5 * values[ranges[0]]
        results = {s: scores(new + s + float(rng.normal(0, 0.7))) for s in builder.seeds}
        builder.trial(assignment, results, key=str(place))
    return builder


def opened(text: str) -> tuple[float, float]:
    """Milliseconds to the end of the load event, and to the first chart."""
    loads, charts = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        path.write_text(text, encoding="utf-8")
        browser = open_browser()
        for _ in range(TIMES):
            started = time.perf_counter()
            browser.get(path.as_uri())
            timing = "return performance.getEntriesByType('navigation')[0].loadEventEnd"
            loads.append(float(browser.execute_script(timing)))
            while not browser.execute_script("return document.querySelector('.chart svg')"):
                time.sleep(0.01)
            charts.append(1000 * (time.perf_counter() - started))
        browser.quit()
    return min(loads), min(charts)


def main(words: Sequence[str] | None = None) -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=int, default=1000)
    parser.add_argument("--smoke", action="store_true", help="a few settings, no browser")
    options = parser.parse_args(words)
    study = sampled(20 if options.smoke else options.settings).study()
    started = time.perf_counter()
    made = make_report(study)
    sections = study_charts(made.analysis)
    middle = time.perf_counter()
    text = page(made, sections)
    print(f"{len(study.settings)} settings, {len(study.rows)} rows")
    ended = time.perf_counter()
    print(f"tables, analysis and charts {middle - started:.1f} s, page {ended - middle:.1f} s")
    print(f"page {len(text.encode()) / 1e6:.2f} MB")
    if CHROMIUM and DRIVER and not options.smoke:
        loaded, drawn = opened(text)
        print(f"opened in {loaded:.0f} ms, first chart after {drawn:.0f} ms")


if __name__ == "__main__":
    main()
