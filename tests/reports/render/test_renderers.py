"""Requirements of all formats: width, precision, escaping, and notes on omissions."""

import io
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

from reports.cells import Column, Counts, Row, Table, Text, Value
from reports.errors import ReportError
from reports.formatting import format_p
from reports.render.files import (
    format_report,
    is_page_of,
    make_publication,
    print_report,
    write_files,
)
from reports.render.markup import escape_latex, format_tables_as_latex
from reports.render.page import render_report_page
from reports.render.spreadsheet import format_combined_csv
from reports.report import make_report
from reports.stats import Estimate
from reports.tables.build import build_tables
from tests.reports.builder import StoreBuilder, make_prompt_len
from tests.reports.pages import (
    ParsedPage,
    make_tables_with_failures,
    make_tables_with_flags,
    make_tables_with_gaps,
    render_page,
    render_terminal,
)
from tests.reports.studies import make_collapsing_study, make_multi_dataset_study

COOP_DATASETS = (
    "imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101",
    "fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101",
)  # fmt: skip
# Characters with a meaning in LaTeX, Markdown, HTML or CSV.
SPECIAL = r"""a_b & 100% $x$ #1 {y} ~^\ <b>|"q", *`[z]`* ± – − Δ"""


def make_special_table() -> Table:
    """Return a table whose texts consist of special characters."""
    columns = (Column("level", SPECIAL, align="left"), Column("n", "n"), Column("new", "New"))
    row = Row({"level": Text(SPECIAL), "n": Counts(1), "new": Value(Estimate(1.0, None, None, 1))})
    return Table("nasty", SPECIAL, columns, (row,), (SPECIAL,))


@pytest.mark.parametrize("width", [40, 60, 200])  # golden files have the widths 80 and 140
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """At 80 columns or more, no text is cut off."""
    text = render_terminal(make_tables_with_failures(), width)
    assert max(map(len, text.splitlines())) <= width
    if width >= 80:
        assert "…" not in text


def test_rows_as_paragraphs_have_their_counts_in_parentheses() -> None:
    """As in all other formats but the grids of a terminal, which have a line per count."""
    words = render_terminal(make_tables_with_failures(), 40).split()
    assert "8: n 3 of 5 (1 failed, 1 missing);" in " ".join(words)


def test_a_terminal_has_the_first_rows_of_a_long_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A note gives the number of shown rows and the total. The file has all rows."""
    report = make_report(make_prompt_len().make_study())
    print_report(report, "the end")
    assert "the page has more" not in capsys.readouterr().out
    monkeypatch.setattr("reports.render.files.MAX_PRINTED_ROWS", 2)
    print_report(report, "the end")
    printed = " ".join(capsys.readouterr().out.split())
    assert "the first 2 of 5 rows; the page has more" in printed
    assert "the page has more" not in format_report("terminal", report)


def test_a_folder_without_all_files_has_no_page(tmp_path: Path) -> None:
    """The page is written last, because its stamp marks a complete report."""
    publication = make_publication(make_report(make_prompt_len().make_study()))
    (tmp_path / "prompt_len-generator.n_ctx.png").mkdir()
    with pytest.raises(ReportError, match="cannot write"):
        write_files(publication.files(), tmp_path)
    assert not is_page_of(tmp_path / publication.page, publication.stamp)


WIDE = make_multi_dataset_study([f"d{i}" for i in range(12)], skip={("vae", "d3"): "MISSING"})


@pytest.mark.parametrize(
    "builder", [make_prompt_len(), make_collapsing_study(), WIDE], ids=lambda b: b.name
)
def test_one_csv_of_all_tables_reads_back_typed(builder: StoreBuilder) -> None:
    """Polars and pandas infer the types of columns, and read equal means."""
    tables = build_tables(builder.make_study())
    text = format_combined_csv(tables)
    frame, other = pl.read_csv(io.StringIO(text)), pd.read_csv(io.StringIO(text))
    assert frame.columns == list(other.columns) and frame.columns[0] == "table"
    assert frame["table"].to_list() == [table.name for table in tables for _ in table.rows]
    means = [name for name in frame.columns if name.endswith(("_mean", "_low", "_high"))]
    assert means and {frame[name].dtype for name in means} == {pl.Float64}
    assert all(other[name].dtype.kind == "f" for name in means)
    for table in tables:
        rows = frame.filter(pl.col("table") == table.name)
        for source, row in zip(table.rows, rows.to_dicts(), strict=True):
            assert row["control"] == (source.control or None)
            for key, cell in source.cells.items():
                if isinstance(cell, Value):
                    assert row[f"{key}_mean"] == cell.estimate.mean


@pytest.mark.parametrize("max_runs", [1, 9])
def test_a_page_lists_the_runs_of_the_best_configurations(
    monkeypatch: pytest.MonkeyPatch, max_runs: int
) -> None:
    """If there are too many configurations, the page gives the number of those it lists."""
    monkeypatch.setattr("reports.render.page.MAX_CONFIGURATIONS", max_runs)
    study = replace(
        make_prompt_len().make_study(), runs_address="http://127.0.0.1:5000/#/experiments/1/runs/"
    )
    (list_of_runs,) = re.findall(
        '<details id="runs">.*?</details>', render_report_page(make_report(study)), re.DOTALL
    )
    assert ("the 1 of 5 configurations with the best selection scores" in list_of_runs) == (
        max_runs == 1
    )
    assert ("Every run" in list_of_runs) == (max_runs == 9)
    assert list_of_runs.count(">n_ctx") == min(max_runs, 5)


def test_latex_escapes_every_special_character() -> None:
    """No character of a text is interpreted as a command."""
    assert escape_latex("a_b 5% $x$ {y} <0.1 \\") == (
        r"a\_b 5\% \$x\$ \{y\} $<$0.1 \textbackslash{}"
    )
    assert (
        escape_latex("--set seeds=3, pseudo-new") == "-{}-set seeds=3, pseudo-new"
    )  # hyphens form no dash


def test_latex_has_no_box_for_missing_notes() -> None:
    """A table without notes ends with its last row."""
    table = make_tables_with_failures()[0]
    assert r"\parbox" in format_tables_as_latex([table])
    assert r"\parbox" not in format_tables_as_latex([replace(table, notes=())])


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path: Path) -> None:
    """The tables compile, and fit the width of a two-column page."""
    eleven_datasets = build_tables(
        make_multi_dataset_study(COOP_DATASETS, seeds=(0, 1)).make_study()
    )[:2]
    tables = [
        *make_tables_with_failures(),
        make_special_table(),
        *make_tables_with_gaps(),
        *make_tables_with_flags(),
        *eleven_datasets,
    ]
    body = format_tables_as_latex(tables).replace("{table}", "{table*}")
    head = (
        r"\documentclass[twocolumn]{article}\usepackage[T1]{fontenc}\usepackage{booktabs}"
        r"\usepackage[margin=2cm]{geometry}\begin{document}"
    )
    source = tmp_path / "page.tex"
    source.write_text(f"{head}\n{body}\n\\end{{document}}\n", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", source.name]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    log = process.stdout.decode("utf-8", "replace")
    assert process.returncode == 0, log[-2000:]
    assert "Overfull" not in log


def test_an_html_page_is_self_contained() -> None:
    """The page downloads nothing, and contains the table's footnotes and numbers."""
    tables = make_tables_with_failures()
    text = render_page(tables)
    parser = ParsedPage(text)
    assert not set(parser.tags) & {"link", "iframe", "img", "b"}
    assert not re.search(r"(src|href)=\"(?!#)|url\(|@import", text)
    for note in tables[0].notes:
        assert note in parser.texts
    assert "prompt_len: generator.n_ctx (selected on test)" in parser.texts
    assert "3 of 5 (1 failed, 1 missing)" in parser.texts
    parser.feed(
        render_page(make_tables_with_flags())
    )  # in wide tables, intervals are below their means
    assert "0.310\n±–\n/ 0.520" in parser.texts


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (1.0, "1.0"), (0.996, "1.0"), (0.953, "0.95"), (0.45, "0.45"), (0.0999, "0.10"),
        (0.0961, "0.096"), (0.0451, "0.045"), (0.00123, "0.0012"), (0.001, "0.0010"),
        (0.000999, "<0.001"), (0.0, "<0.001"),
    ],
)  # fmt: skip
def test_p_has_two_significant_digits(p: float, text: str) -> None:
    """A very small p is "<0.001", and never 0.00."""
    assert format_p(p) == text
