"""Where progress goes: a console whose reader may go away."""

import os
import sys

from rich.console import Console


class SteadyConsole(Console):
    """A console that falls silent once nobody reads its output.

    In `ship-sweep ... | tee log`, Ctrl-C ends tee as well, while the study still has to close its
    trials and runs. By itself, rich would end the process at the next line that it prints.
    """

    def on_broken_pipe(self) -> None:
        """Discard all that is printed from now on; rich calls this when the reader has gone."""
        self.quiet = True
        # whatever writes to standard output without this console must not fail either
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
