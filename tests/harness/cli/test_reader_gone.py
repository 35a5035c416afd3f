"""Commands whose standard output is no longer read, as in `| head`."""

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
SUBCOMMAND = HELP.replace("--help", "list")
LISTED = "from harness.data.cli import main; import sys; sys.argv[1:] = ['list']; main()"
# Without charts and what shows them, which take seconds.
REPORT = (
    "from reports.render import files, page; files.render_chart = lambda chart: {}; "
    "page.make_page_script = str; from reports.cli import main; main()"
)
# A study whose progress nobody reads, and which Ctrl-C has ended, or not.
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


def unread(program: str, *arguments: str) -> tuple[int, str]:
    """Run a program whose standard output is closed at the other end; exit code and stderr."""
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


@pytest.mark.parametrize("program", [HELP, SUBCOMMAND, LISTED])
def test_a_command_without_a_reader_ends_quietly(program: str) -> None:
    """It has the shell's exit code for a closed pipe, and nothing on stderr."""
    assert unread(program) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("code", [0, 130])
def test_a_study_without_a_reader_continues(code: int) -> None:
    """It has its own exit code, because Ctrl-C also ends a reader such as tee."""
    assert unread(STUDY, str(code)) == (code, "")


def test_a_study_whose_log_is_on_a_full_disk_continues() -> None:
    """Only the printed lines are lost."""
    command = [sys.executable, "-c", STUDY, "3"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (3, "")


@pytest.mark.slow
def test_a_report_without_a_reader_is_written(
    run_undisturbed: Callable[[StudyConfig], str], tmp_path: Path
) -> None:
    """Its files exist, and another mistake keeps its exit code."""
    uri = ["--tracking-uri", run_undisturbed(make_driver_study())]
    out = tmp_path / "report"
    assert unread(REPORT, "small", *uri, "--out", str(out)) == (128 + signal.SIGPIPE, "")
    assert list(out.glob("*.html"))
    code, stderr = unread(REPORT, "unknown", *uri)
    assert code == 2 and "unknown" in stderr


def test_a_command_without_standard_output_does_its_work() -> None:
    """A daemon starts commands in this way (>&-)."""
    command = [sys.executable, "-c", HELP]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
