"""Rendered tables and pages, and their comparison with committed golden files.

SHIP_WRITE_GOLDEN=1 rewrites the golden files. Read the differences before committing them.
"""

import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from reports.answer import Answer
from reports.cells import Table
from reports.charts import make_study_charts
from reports.render.page import render_report_page
from reports.render.terminal import make_terminal_view, render_plain_text
from reports.report import Report, make_report
from reports.tables.build import build_tables
from tests.reports.builder import StoreBuilder, make_prompt_len
from tests.reports.studies import make_collapsing_study, make_multi_dataset_study


def make_tables_with_failures() -> list[Table]:
    """Return the tables of a study that was selected on test images and has many failures.

    It has failed, pruned and missing seeds, and a run that is not planned.
    """
    builder = make_prompt_len(selection="test")
    run_of_8 = next(run for run in builder.runs if run.tags["ship.assignment"].endswith("8}"))
    builder.runs.remove(run_of_8)
    metrics_of_3_seeds = {
        name: value
        for name, value in run_of_8.metrics.items()
        if not name.endswith(("/seed_3", "/seed_4"))
    }
    builder.add_run({"generator.n_ctx": 8}, {s: {} for s in (0, 1, 2)})
    builder.runs[-1].metrics.update(metrics_of_3_seeds)
    reason = "NonFiniteLoss: selection_generator, epoch 3, seed 3"
    builder.add_run({"generator.n_ctx": 8}, {3: {}}, state="FAIL", reason=reason)
    builder.add_run({"generator.n_ctx": 32}, {s: {} for s in range(5)}, state="PRUNED")
    builder.add_run({"generator.n_ctx": 1}, {0: {}, 1: {}}, key="old", is_planned=False)
    for seed in (0, 1):
        builder.runs[-1].metrics.update(
            {f"test/{name}/seed_{seed}": 50.0 for name in ("base", "new", "harmonic_mean")}
        )
    return build_tables(builder.make_study())


def make_tables_with_gaps() -> list[Table]:
    """Return the tables of a study over datasets, in which two cells have no result."""
    skip = {("wgan", "dtd"): "FAIL", ("vae", "caltech101"): "MISSING"}
    return build_tables(make_multi_dataset_study(skip=skip).make_study())


def make_tables_with_flags() -> list[Table]:
    """Return the tables of a study with quality metrics and flags."""
    return build_tables(make_collapsing_study().make_study())


def render_terminal(tables: list[Table], width: int) -> str:
    """Return the tables as a terminal of this width shows them, including that of quality."""
    shown_tables = [
        replace(table, place="everywhere") if table.name == "quality" else table for table in tables
    ]
    return render_plain_text(make_terminal_view(shown_tables, width, legend=True), width)


def render_page(tables: list[Table]) -> str:
    """Return a page with these tables, and without an answer or figures."""
    study = make_prompt_len().make_study()
    return render_report_page(Report(study, "harmonic_mean", Answer((), ()), tuple(tables)))


def render_study_page(builder: StoreBuilder) -> str:
    """Return the page of a study as ship-report writes it."""
    report = make_report(builder.make_study())
    return render_report_page(report, make_study_charts(report))


class ParsedPage(HTMLParser):
    """Parses a page into its tags, its event handlers and its texts."""

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
    """Assert that a text equals a golden file. With SHIP_WRITE_GOLDEN, write the file first."""
    if os.environ.get("SHIP_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def round_numbers(text: str) -> str:
    """Round long numbers to six digits, and rounding errors to 0, which differ by machine."""

    def round_number(match: re.Match[str]) -> str:
        value = float(match[0])
        return f"{value:.6g}" if abs(value) > 1e-9 else "0"

    return re.sub(r"-?\d+\.\d{6,}(e-\d+)?", round_number, text)
