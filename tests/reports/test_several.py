"""The overview of several studies."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import reports
from reports.cli import app
from tests.reports.analysis.planted import make_planted_grid
from tests.reports.builder import StoreBuilder, make_prompt_len
from tests.reports.studies import make_multi_dataset_study


def run_command(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "140"})


@pytest.fixture
def uri(store_uri: str) -> str:
    """Return the URI of a store with three studies, and a fourth one without runs."""
    builder = make_planted_grid((2, 2), lambda assignment: 5.0 * assignment["f0"])
    for study in (make_prompt_len(), make_multi_dataset_study(), builder):
        study.write(store_uri)
    return StoreBuilder(name="empty").write(store_uri)


def test_the_overview_has_every_study_of_a_store(uri: str, tmp_path: Path) -> None:
    """Studies without a report are listed with the reason."""
    done = run_command("--all", "--tracking-uri", uri, "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    for name, study in reports.load_studies(uri).items():
        assert f'<a href="{name}.html">{name}</a>' in page
        assert f"<h1>{name}</h1>" in (tmp_path / "out" / f"{name}.html").read_text(encoding="utf-8")
        assert str(study.answer()).splitlines()[0] in done.output
    assert "empty: nothing to report, no run has ended yet" in page
    assert "no report: empty: nothing to report" in done.output
    assert 'data-dataset="[&#34;emoji&#34;, &#34;caltech101&#34;, &#34;dtd&#34;]"' in page
    assert "vae" in page and "(3 studies)" in done.output


def test_the_overview_has_the_named_studies(uri: str, tmp_path: Path) -> None:
    """An unknown name is an error."""
    arguments = ["--tracking-uri", uri, "--out", str(tmp_path / "out")]
    assert run_command("planted", "prompt_len", *arguments).exit_code == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"index.html", "planted.html", "prompt_len.html"}
    done = run_command("planted", "none", *arguments)
    assert done.exit_code == 2 and "unknown study 'none'" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either the names of one or more studies, or --all"),
        (["--all", "x"], "give either the names of one or more studies, or --all"),
        (
            ["x", "y", "--metric", "base", "--figures"],
            "accepts only --tracking-uri and --out",
        ),
    ],
)
def test_contradictory_arguments_are_one_line_errors(arguments: list[str], message: str) -> None:
    """The arguments are rejected before a store is read."""
    done = run_command(*arguments)
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert message in line


def test_names_with_markup_stay_text(store_uri: str, tmp_path: Path) -> None:
    """Names of studies are escaped on the overview."""
    make_prompt_len(name="a<b>\"&'").write(store_uri)
    run_command("--all", "--tracking-uri", store_uri, "--out", str(tmp_path))
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "a<b>" not in page and "a&lt;b&gt;&#34;&amp;&#39;" in page


def test_damaged_studies_do_not_stop_the_overview(uri: str, store_uri: str, tmp_path: Path) -> None:
    """One study has control characters in its name, and start times that are no dates.

    Another one has an invalid tag, and is listed with the reason why it has no report.
    """
    escape_name, invalid_name = "a\x1b[31m", "torn"
    for name in (escape_name, invalid_name):
        make_prompt_len(name=name).write(store_uri)
    experiment_id = "(SELECT experiment_id FROM experiments WHERE name = ?)"
    run_ids = f"(SELECT run_uuid FROM runs WHERE experiment_id = {experiment_id})"
    with closing(sqlite3.connect(store_uri.removeprefix("sqlite:///"))) as database, database:
        database.execute(
            f"UPDATE runs SET start_time = {10**17} WHERE run_uuid IN {run_ids}", [escape_name]
        )
        database.execute(
            "UPDATE tags SET value = 'nothing'"
            f" WHERE key = 'ship.factors' AND run_uuid IN {run_ids}",
            [invalid_name],
        )
    done = run_command("--all", "--tracking-uri", store_uri, "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.output and "not run" in done.output
    assert "no report: torn: invalid MLflow tag ship.factors" in done.output
    assert "torn" not in reports.load_studies(uri)
