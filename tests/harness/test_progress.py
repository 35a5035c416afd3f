"""Progress is shown as lines, and as bars on a terminal. Control codes have no effect."""

import io
import re

import pytest
from rich.console import Console

from harness.errors import UserError
from harness.planning.configurations import make_label
from harness.progress import ProgressView, make_line_printer, show_progress
from harness.store import State
from harness.store.errors import StoreError

# Text that would clear the screen, and how it is printed.
CLEAR = "a\x1b[2J[bold]b\r\u202e"
ESCAPED = r"a\x1b[2J[bold]b\r\u202e"


def make_console(terminal: bool) -> tuple[Console, io.StringIO]:
    """Return a console that writes to memory."""
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=200, color_system=None), out


def show_three_trials(terminal: bool) -> str:
    """Show a complete, a failed and a running trial and another line, and return the output."""
    console, out = make_console(terminal)
    view = ProgressView(console, 6, 3)
    with view.bars:
        for name in ("one", "two", CLEAR):
            view.start(name, make_label({"n_ctx": name}), 2)
        view.progress("one", "selection 5", 0.5, 61.0)
        view.progress("one", "", 1.0, 62.25)
        view.end("one", State.COMPLETE, "")
        view.end("two", State.FAIL, f"NonFiniteLoss: [loss] is nan {CLEAR}")
        view.progress(CLEAR, "selection 1", 0.5, None)
        make_line_printer(console)(CLEAR)
    assert "\x1b[2J" not in out.getvalue().replace("\x1b[2K", "")
    assert out.getvalue().count(ESCAPED) >= 3
    return out.getvalue()


def test_each_event_is_one_plain_line() -> None:
    """The line of a finished trial has its number, and its objective or reason."""
    lines = show_three_trials(terminal=False).splitlines()
    assert len(lines) == 6
    assert re.match(r"\[1/3\] complete +n_ctx=one +objective 62\.25 +\d\.\d s", lines[3])
    assert "NonFiniteLoss: [loss] is nan" in lines[4]
    assert "objective" not in lines[4]


def test_a_terminal_has_bars_below_the_lines() -> None:
    """Each active trial has a bar with its stage, and so has the study."""
    text = show_three_trials(terminal=True)
    for word in ("start     n_ctx=one", "complete", "62.25", "fail", "selection 1", "83%", "2/3"):
        assert word in text


def test_an_error_keeps_its_lines() -> None:
    """An answer of a server cannot clear the screen."""
    assert str(UserError(f"x: {CLEAR}\ny")) == f"x: {ESCAPED}\ny"
    assert str(StoreError(f"x: {CLEAR}")) == f"x: {ESCAPED}"


@pytest.mark.parametrize("terminal", [False, True])
def test_feature_extraction_prints_few_lines(terminal: bool) -> None:
    """There are a line at the start and after each quarter, or a bar. Cached features have none."""
    console, out = make_console(terminal)
    with show_progress("features: emoji", console):
        pass
    assert "features" not in out.getvalue()
    with show_progress("features: emoji", console) as report:
        for n_done in range(1001):
            report(n_done, 1000)
    if terminal:
        assert "1000/1000" in out.getvalue()
    else:
        quarters = [f"features: emoji: {n_done}/1000" for n_done in range(0, 1001, 250)]
        assert out.getvalue().splitlines() == quarters
