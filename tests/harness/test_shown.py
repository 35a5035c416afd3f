"""What the harness says of texts that may be somebody else's: no terminal obeys them."""

import io

from rich.console import Console

from harness.errors import UserError
from harness.planning.settings import label_of
from harness.progress.board import TrialView
from harness.progress.trials import line_printer, make_view
from harness.store.errors import StoreError
from reports.contract import State

CLEAR = "a\x1b[2J[bold]b\r\u202e"
SHOWN = r"a\x1b[2J[bold]b\r\u202e"


def test_a_label_has_no_control_character() -> None:
    """A level may be any text, a checkpoint's path say."""
    assert label_of({"backbone": CLEAR}) == f"backbone={SHOWN}"


def test_an_error_is_as_many_lines_as_it_has() -> None:
    """And what a server has answered clears no screen."""
    assert str(UserError(f"x: {CLEAR}\ny")) == f"x: {SHOWN}\ny"
    assert str(StoreError(f"x: {CLEAR}")) == f"x: {SHOWN}"


def test_progress_shows_why_a_trial_failed() -> None:
    """In a log, on a terminal, and in what is said beside it."""
    for terminal in (False, True):
        file = io.StringIO()
        console = Console(file=file, width=100, force_terminal=terminal, color_system=None)
        with make_view(console, 1, 1) as view:
            view.start("t", TrialView(label_of({"backbone": CLEAR}), 1))
            view.end("t", State.FAIL, CLEAR)
            line_printer(console)(CLEAR)
        text = file.getvalue()
        assert "\x1b[2J" not in text.replace("\x1b[2K", "") and text.count(SHOWN) >= 3
