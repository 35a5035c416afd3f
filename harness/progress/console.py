"""Where progress goes: a console whose reader may go away."""

import os
import sys

from rich.console import Console


class SteadyConsole(Console):
    """Falls silent where nobody reads any more: Ctrl-C ends `| tee` along with the study.

    rich would end the process, in the middle of whatever the study has to bring to an end.
    """

    def on_broken_pipe(self) -> None:
        """Nothing that is printed from now on goes anywhere."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
