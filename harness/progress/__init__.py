"""What a person sees while a study runs: a table on a terminal, lines elsewhere.

Answers for: the view of trials, the bar of an extraction, and a console that breaks no line.
Decides nothing.
"""

from harness.progress.board import TrialView
from harness.progress.console import SteadyConsole
from harness.progress.extraction import reporter
from harness.progress.trials import View, line_printer, make_view

__all__ = ["SteadyConsole", "TrialView", "View", "line_printer", "make_view", "reporter"]
