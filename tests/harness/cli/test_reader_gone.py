"""Commands whose standard output is a closed pipe, as in `| head`, or cannot be written."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config.study_config import StudyConfig
from tests.harness.driver import make_driver_study

ROOT = Path(__file__).parents[3]
HELP = "from harness.cli.main import main; import sys; sys.argv[1:] = ['--help']; main()"
LIST_STUDIES = HELP.replace("--help", "list")
LIST_DATASETS = "from harness.data.cli import main; import sys; sys.argv[1:] = ['list']; main()"
# A report without charts and their script, which take seconds to create.
REPORT = (
    "from reports.render import files, page; files.render_chart = lambda chart: {}; "
    "page.make_page_script = str; from reports.cli import main; main()"
)
# A study that prints progress and a report, and ends with the exit code in its last argument.
STUDY = """
import sys
import typer
from harness.cli import main as module
from harness.progress import SteadyConsole
code = int(sys.argv.pop())
app = typer.Typer()
@app.command()
def study():
    SteadyConsole().print("progress")
    typer.echo("the report")
    raise typer.Exit(code)
module.app = app
module.main()
"""


def run_without_reader(program: str, *arguments: str) -> tuple[int, str]:
    """Run a program whose standard output is a closed pipe; return its exit code and stderr."""
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    _, stderr = process.communicate(timeout=120)
    return process.returncode, stderr


@pytest.mark.parametrize("program", [HELP, LIST_STUDIES, LIST_DATASETS])
def test_a_command_without_a_reader_ends_quietly(program: str) -> None:
    """Its exit code is the shell's for a closed pipe, and stderr is empty."""
    assert run_without_reader(program) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("code", [0, 130])
def test_a_study_without_a_reader_continues(code: int) -> None:
    """The exit code is that of the study, because Ctrl-C also ends readers such as tee."""
    assert run_without_reader(STUDY, str(code)) == (code, "")


def test_a_study_whose_log_is_on_a_full_disk_continues() -> None:
    """Only the printed lines are lost."""
    command = [sys.executable, "-c", STUDY, "3"]
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (process.returncode, process.stderr) == (3, "")


@pytest.mark.slow
def test_a_report_without_a_reader_is_written(
    run_undisturbed: Callable[[StudyConfig], str], tmp_path: Path
) -> None:
    """The report's files exist, and an error keeps its exit code."""
    uri = ["--tracking-uri", run_undisturbed(make_driver_study())]
    out = tmp_path / "report"
    result = run_without_reader(REPORT, "small", *uri, "--out", str(out))
    assert result == (128 + signal.SIGPIPE, "")
    assert list(out.glob("*.html"))
    code, stderr = run_without_reader(REPORT, "unknown", *uri)
    assert code == 2 and "unknown" in stderr


def test_a_command_with_closed_standard_output_succeeds() -> None:
    """Daemons start commands in this way (>&-)."""
    command = [sys.executable, "-c", HELP]
    process = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert (process.returncode, process.stderr) == (0, "")
