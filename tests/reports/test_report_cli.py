"""The command ship-report: output, files, exit codes and error messages."""

import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
from typer.testing import CliRunner, Result

from reports import load_study
from reports.cli import app
from reports.errors import EmptyStudyError
from tests.addresses import WITH_PASSWORDS
from tests.reports.builder import StoreBuilder, make_prompt_len

FILES = {
    "prompt_len.txt", "prompt_len.md", "prompt_len.tex", "prompt_len.html",
    "prompt_len-generator.n_ctx.csv", "prompt_len-estimates.csv",
    "prompt_len-rows.csv",
    "prompt_len-generator.n_ctx.png", "prompt_len-generator.n_ctx.pdf",
    "prompt_len-generator.n_ctx.svg",
}  # fmt: skip


def run_command(*arguments: str | Path) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "140"})


def read_error_line(result: Result, code: int) -> str:
    """Return the only line on stderr of a run that ended with this exit code."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    (line,) = result.stderr.strip().splitlines()
    return line


@pytest.fixture
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty working directory, without a tracking URI in the environment."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


def test_a_removed_option_names_its_replacement(working_directory: Path) -> None:
    """The error comes before the study is looked up, as in ship-sweep."""
    line = read_error_line(run_command("small", "--export", "optuna:sqlite:///o.db"), 2)
    assert line.startswith("--export was removed. MLflow, the report and its NAME-estimates.csv")


def test_all_studies_of_a_missing_store_is_a_one_line_error(working_directory: Path) -> None:
    """The exit code is 2, as for one study, and there is no traceback."""
    line = read_error_line(
        run_command("--all", "--tracking-uri", f"sqlite:///{working_directory}/none.db"), 2
    )
    assert line.startswith(f"{working_directory}/none.db: no MLflow store found")


@pytest.mark.parametrize("uri", WITH_PASSWORDS)
def test_a_password_in_a_stores_address_is_not_printed(
    uri: str, working_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An invalid address, and one without a server, give one line and no traceback."""
    is_valid = uri.startswith("http://user:s3cr3t@")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # no server listens
    line = read_error_line(run_command("small", "--tracking-uri", uri), 2)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    if not is_valid:  # a second request to a valid address would be slow
        assert read_error_line(run_command("small"), 2) == line
    assert "s3cr3t" not in line and "PW" not in line
    assert line.startswith("http://***@127.0.0.1:9: c" if is_valid else "the store's address")


@pytest.mark.parametrize("scheme", ["http", "postgresql+psycopg2"])
def test_an_unreachable_store_is_a_one_line_error_without_mlflows_retries(
    scheme: str, working_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow would retry a database ten times, for minutes, with warnings."""
    monkeypatch.setattr("mlflow.tracking.MlflowClient", Mock(side_effect=AssertionError))
    line = read_error_line(
        run_command("small", "--tracking-uri", f"{scheme}://me:s3cr3t@127.0.0.1:9/x"), 2
    )
    assert line.startswith(f"{scheme}://***@127.0.0.1:9/x: cannot read the MLflow store: ")
    assert "refused" in line or "No module named 'psycopg2'" in line


def test_each_study_is_shown_by_the_name_of_its_experiment(
    store_uri: str, working_directory: Path
) -> None:
    """NAME.2, which an earlier version created in addition to NAME, is another study."""
    uri = make_prompt_len().write(store_uri)
    make_prompt_len(name="prompt_len.2", seeds=(0, 1, 2)).write(uri)
    later = run_command("prompt_len.2", "--tracking-uri", uri)
    assert (later.exit_code, later.stderr) == (0, "")
    assert "prompt_len.2: generator.n_ctx" in later.stdout
    assert (working_directory / "prompt_len.2-report" / "prompt_len.2.md").is_file()
    first = run_command("prompt_len", "--tracking-uri", uri, "--format", "markdown")
    assert "### prompt_len: generator.n_ctx" in first.stdout and "seeds: 5" in first.stdout


def test_ship_report_prints_the_table_and_writes_all_files(
    store_uri: str, working_directory: Path
) -> None:
    """Without options it prints the folder's name and writes all files to ./NAME-report."""
    result = run_command("prompt_len", "--tracking-uri", make_prompt_len().write(store_uri))
    assert result.exit_code == 0, result.output
    assert "prompt_len: generator.n_ctx" in result.stdout
    assert (
        result.stdout.splitlines()[-1]
        == f"report: {working_directory / 'prompt_len-report'} (10 files)"
    )
    assert {path.name for path in (working_directory / "prompt_len-report").iterdir()} == FILES


def test_ship_report_finds_the_store_of_the_working_directory(
    store_uri: str, working_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default is ./mlflow.db, and MLFLOW_TRACKING_URI overrides it. A path works, too."""
    path = Path(make_prompt_len().write(store_uri).removeprefix("sqlite:///"))
    arguments = ("prompt_len", "--format", "markdown")
    assert run_command(*arguments, "--tracking-uri", path).exit_code == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri)
    assert run_command(*arguments).exit_code == 0
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    shutil.copy(path, working_directory / "mlflow.db")
    assert run_command(*arguments).exit_code == 0


@pytest.mark.parametrize(
    ("form", "start"),
    [
        ("terminal", "prompt_len: the answer"),
        ("markdown", "### prompt_len: the answer"),
        ("latex", "% needs"),
        ("csv", "table,n_ctx,n,failed"),
    ],
)
def test_format_prints_and_writes_no_files(
    store_uri: str, working_directory: Path, form: str, start: str
) -> None:
    """With --format, stdout contains only this format, so that it can be piped."""
    result = run_command(
        "prompt_len", "--tracking-uri", make_prompt_len().write(store_uri), "--format", form
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(start)
    assert list(working_directory.iterdir()) == []


def test_a_second_report_replaces_the_first(store_uri: str, working_directory: Path) -> None:
    """The same store gives the same bytes, except for SVG and PDF. No temporary file remains."""
    uri = make_prompt_len().write(store_uri)
    first, second = (
        {
            path.name: path.read_bytes()
            for path in load_study("prompt_len", uri).write(working_directory / "out")
            if path.suffix not in (".pdf", ".svg")
        }
        for _ in range(2)
    )
    assert first == second
    assert {path.name for path in (working_directory / "out").iterdir()} == FILES


def make_foreign_database(path: Path) -> None:
    """Create a database that is not MLflow's. MLflow would add its own tables to it."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE studies (id INTEGER)")


def make_deleted_study(path: Path) -> None:
    """Create a store whose only study was deleted in MLflow."""
    make_prompt_len().write(f"sqlite:///{path}")
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE experiments SET lifecycle_stage = 'deleted'")
        database.commit()


@pytest.mark.parametrize(
    ("make_store", "message"),
    [
        (lambda path: None, "no MLflow store found"),
        (
            lambda path: path.write_bytes(b"no sqlite" * 100),
            "cannot read the file as an MLflow store",
        ),
        (make_foreign_database, "cannot read the file as an MLflow store: no such"),
        (
            lambda path: make_prompt_len().write(f"sqlite:///{path}"),
            "studies in this store: prompt_len",
        ),
        (make_deleted_study, "unknown study 'promptlen' (studies in this store: none)"),
    ],
)
def test_a_store_without_the_study_is_a_one_line_error_and_unchanged(
    working_directory: Path, make_store: Callable[[Path], object], message: str
) -> None:
    """The error says whether the store is missing, is not MLflow's, or lacks the study."""
    make_store(working_directory / "mlflow.db")
    before = {path.name: path.read_bytes() for path in working_directory.iterdir()}
    assert message in read_error_line(run_command("promptlen"), 2)
    assert {path.name: path.read_bytes() for path in working_directory.iterdir()} == before


def test_a_study_without_ended_runs_exits_3(store_uri: str, working_directory: Path) -> None:
    """The command prints one line and creates no folder."""
    builder = StoreBuilder(seeds=(0,)).add_run({"generator.n_ctx": 4}, {0: {}}, state="RUNNING")
    uri = builder.write(store_uri)
    line = read_error_line(run_command("prompt_len", "--tracking-uri", uri), 3)
    assert line == "prompt_len: nothing to report, no run has ended yet"
    assert list(working_directory.iterdir()) == []
    with pytest.raises(EmptyStudyError):
        load_study("prompt_len", uri).write(working_directory / "out")
