"""Pages that tests render, and their comparison with committed ones.

SHIP_WRITE_GOLDEN=1 writes these anew, to be read.
"""

import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from reports.answer import Answer
from reports.cells import Table
from reports.charts import make_study_charts
from reports.render.page import report_page
from reports.render.terminal import make_terminal_view, render_plain_text
from reports.report import Report, make_report
from reports.tables.build import build_tables
from tests.reports.builder import StoreBuilder, prompt_len
from tests.reports.studies import collapsing, over_datasets


def eventful() -> list[Table]:
    """The packaged study with every kind of accident, selected on test."""
    builder = prompt_len(selection="test")
    eight = next(run for run in builder.runs if run.tags["ship.assignment"].endswith("8}"))
    builder.runs.remove(eight)
    kept = {k: v for k, v in eight.metrics.items() if not k.endswith(("/seed_3", "/seed_4"))}
    builder.trial({"generator.n_ctx": 8}, {s: {} for s in (0, 1, 2)})
    builder.runs[-1].metrics.update(kept)
    reason = "NonFiniteLoss: selection_generator, epoch 3, seed 3"
    builder.trial({"generator.n_ctx": 8}, {3: {}}, state="FAIL", reason=reason)
    builder.trial({"generator.n_ctx": 32}, {s: {} for s in range(5)}, state="PRUNED")
    builder.trial({"generator.n_ctx": 1}, {0: {}, 1: {}}, key="old", want=False)
    for seed in (0, 1):
        builder.runs[-1].metrics.update(
            {f"test/{name}/seed_{seed}": 50.0 for name in ("base", "new", "harmonic_mean")}
        )
    return build_tables(builder.study())


def torn() -> list[Table]:
    """Methods over datasets, two cells without a result."""
    skip = {("wgan", "dtd"): "FAIL", ("vae", "caltech101"): "MISSING"}
    return build_tables(over_datasets(skip=skip).study())


def collapsed() -> list[Table]:
    """Generalized zero-shot with quality and flags."""
    return build_tables(collapsing().study())


def terminal_text(tables: list[Table], width: int) -> str:
    """What a terminal so wide shows of some tables, and of that of quality."""
    shown = [replace(table, place="page") if table.name == "quality" else table for table in tables]
    return render_plain_text(make_terminal_view(shown, width, legend=True), width)


def page_of(tables: list[Table]) -> str:
    """A page of some tables, without an answer and without figures."""
    study = prompt_len().study()
    return report_page(Report(study, "harmonic_mean", Answer((), ()), tuple(tables)))


def whole_page(builder: StoreBuilder) -> str:
    """The page of a study as ship-report writes it."""
    report = make_report(builder.study())
    return report_page(report, make_study_charts(report))


class Parsed(HTMLParser):
    """The tags, the handlers of events and the texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers |= {name for name, _ in attrs if name.startswith("on")}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def check_golden(path: Path, text: str) -> None:
    """The page is, to the character, the one that was looked at and committed."""
    if os.environ.get("SHIP_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def shortened(text: str) -> str:
    """With six digits of each number, and 0 for what rounding left: the rest is the machine's."""

    def number(match: re.Match[str]) -> str:
        return f"{float(match[0]):.6g}" if abs(float(match[0])) > 1e-9 else "0"

    return re.sub(r"-?\d+\.\d{6,}(e-\d+)?", number, text)
