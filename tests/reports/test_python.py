"""The Python interface for notebooks."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import reports
from reports.errors import ReportError
from tests.reports.analysis.planted import make_planted_grid
from tests.reports.builder import make_prompt_len


@pytest.fixture
def study(store_uri: str) -> Any:
    """Return the packaged study, read from a store."""
    return reports.load_study("prompt_len", make_prompt_len().write(store_uri))


def test_rows_are_those_of_the_store(study: Any) -> None:
    """The frame has a row per configuration and seed, and columns for metrics and the factor."""
    assert len(study.rows) == 45
    assert {"generator.n_ctx", "seed", "state", "test/harmonic_mean"} <= set(study.rows.columns)
    assert repr(study) == "<study prompt_len: 9 configurations, 45 rows>"


def test_the_answer_is_text_and_html(study: Any) -> None:
    """str() has a line per finding, and a notebook shows the same findings as HTML."""
    text, page = str(study.answer()), study.answer()._repr_html_()
    assert text.splitlines()[0].startswith("n_ctx: ")
    assert ">higher</em>" in page and "baseline (n_ctx 4) against the controls" in page


def test_a_table_is_a_frame_and_markup(study: Any) -> None:
    """The default is the first table, and its frame has all numbers at full precision."""
    table = study.table()
    assert study.tables[0] == "generator.n_ctx"
    mean = study.rows.filter(pl.col("generator.n_ctx") == 8)["test/harmonic_mean"].mean()
    mean_in_frame = table.frame.filter(pl.col("level") == "8")["harmonic_mean_mean"].item()
    assert mean_in_frame == pytest.approx(mean)
    assert table.markdown().startswith("### prompt_len: generator.n_ctx")
    assert r"\begin{tabular}" in table.latex() and "<table" in table._repr_html_()


def test_a_figure_is_shown_and_saved(study: Any, tmp_path: Path) -> None:
    """The file name's suffix selects the format. An unknown suffix is an error of one line."""
    figure = study.figure("generator.n_ctx")
    assert figure._repr_svg_().startswith("<svg") and repr(figure) == "<figure generator.n_ctx>"
    figure.save(tmp_path / "x.pdf")
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ReportError, match=r"x\.gif: .* one of png, svg, pdf, got 'gif'"):
        figure.save(tmp_path / "x.gif")


def test_a_figure_has_its_specification(study: Any) -> None:
    """Changes to the specification leave the study's figure as it is."""
    figure = study.figure("generator.n_ctx")
    figure.spec["layer"].clear()
    assert figure.spec["layer"] and figure.spec["description"] == figure.chart.caption


def test_importance_is_a_frame(store_uri: str) -> None:
    """The frame has the factors' shares with intervals and p, and the largest share is first."""
    uri = make_planted_grid((2, 3), lambda s: 3.0 * s["f0"]).write(store_uri)
    frame = reports.load_study("planted", uri).importance()
    assert frame.columns == ["factors", "share", "low", "high", "p", "n"]
    assert frame["factors"][0] == "f0" and frame["share"][0] > 50


@pytest.mark.parametrize(
    ("access", "message"),
    [
        (lambda study: study.table("x"), "prompt_len: no table 'x' (choices: generator.n_ctx)"),
        (lambda study: study.figure("x"), "prompt_len: no figure 'x' (choices: generator.n_ctx, "),
        (
            lambda study: study.importance(),
            "prompt_len: no importance: only generator.n_ctx varies",
        ),
    ],
)
def test_unknown_tables_and_figures_are_one_line_errors_with_the_choices(
    study: Any, access: Any, message: str
) -> None:
    """The errors are ReportErrors."""
    with pytest.raises(ReportError) as error:
        access(study)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_write_creates_the_files_and_prints_nothing(
    study: Any, tmp_path: Path, capsys: Any
) -> None:
    """The formats are those of ship-report."""
    files = study.write(tmp_path / "out")
    assert {file.suffix for file in files} >= {".html", ".md", ".csv", ".png", ".svg", ".pdf"}
    assert capsys.readouterr().out == ""


def test_importing_the_package_is_light() -> None:
    """`import reports` imports polars, vl-convert, SciPy and MLflow only when they are needed."""
    code = (
        "import sys, reports\n"
        "heavy = {'polars', 'vl_convert', 'scipy', 'mlflow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert reports.load_study and 'polars' in sys.modules\n"
        "try:\n    reports.nothing\nexcept AttributeError:\n    sys.exit(0)\nsys.exit(1)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
