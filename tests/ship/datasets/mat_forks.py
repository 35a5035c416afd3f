"""ship.datasets.mat_worker in forks of one process that has SciPy already: milliseconds a file.

As a program (python -m tests.ship.datasets.mat_forks) it reads lines of JSON, [what to open as
stdin, stdout and stderr, and the worker's arguments], and says the exit status of each.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn

SECONDS = 60


class Forks:
    """Stands in for ship.datasets.mat_file's _run."""

    def __init__(self, folder: Path) -> None:
        self._answer, self._said = folder / "answer", folder / "said"
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.ship.datasets.mat_forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )

    def run(self, command: Sequence[str], file: BinaryIO, answer: BinaryIO) -> tuple[int, bytes]:
        """As the worker itself would end, and what it wrote on stderr."""
        assert self._parent.stdin is not None and self._parent.stdout is not None
        streams = [os.fspath(file.name), str(self._answer), str(self._said)]
        self._parent.stdin.write(json.dumps([*streams, *command[3:]]) + "\n")
        self._parent.stdin.flush()
        status = int(self._parent.stdout.readline())
        answer.write(self._answer.read_bytes())
        return status, self._said.read_bytes()

    def close(self) -> None:
        """End the process."""
        with self._parent:
            pass


def main() -> None:
    """Fork for each line."""
    import numpy as np
    import scipy.io

    from ship.datasets import mat_worker

    assert np and scipy.io
    for line in iter(sys.stdin.readline, ""):
        streams, arguments = json.loads(line)[:3], json.loads(line)[3:]
        child = os.fork()
        if not child:
            _child(streams, lambda arguments=arguments: mat_worker.main(*arguments))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _child(streams: Sequence[str], work: Callable[[], None]) -> NoReturn:
    """Work with other streams, and end without a word to pytest or to the parent."""
    signal.alarm(SECONDS)
    modes = (
        os.O_RDONLY,
        os.O_RDWR | os.O_CREAT | os.O_TRUNC,
        os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    )
    for number, (path, mode) in enumerate(zip(streams, modes, strict=True)):
        os.dup2(os.open(path, mode, 0o600), number)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    code = 1
    try:
        work()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
