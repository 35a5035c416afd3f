"""Handle Ctrl-C and SIGTERM: the first signal ends the study in order, the second at once."""

import _thread
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

HARD_EXIT = 130


class SweepStopped(Exception):  # noqa: N818  # no error: the user asked for it
    """A signal stops the run inside a Ray session that the caller opened and keeps."""


class Interrupts:
    """Context manager that handles SIGINT and SIGTERM while a study runs.

    Outside `defer_signals()` a signal raises KeyboardInterrupt at once. Inside, it is only
    recorded, and `check()` raises where nothing is partly written. In a thread other than the main
    thread no handlers are installed.

    Attributes:
        requested: Whether the study has to end because of a signal or a failure.
        failure: Why another thread has ended the study. None if none has.
    """

    def __init__(self) -> None:
        self.requested = False
        self.failure: Exception | None = None
        self._failed = False
        self._deferred = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle_signal)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Restore the previous handlers. If another thread ended the study, raise its failure."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        if error is not None and self.failure is not None:
            raise self.failure from None

    @contextmanager
    def defer_signals(self) -> Iterator[None]:
        """Only record signals inside the context; `check()` raises later."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def fail(self, failure: Exception) -> None:
        """End the study from another thread, as a signal does. `check()` raises the failure."""
        self.failure = failure
        self._failed = True
        if self._before:
            _thread.interrupt_main(signal.SIGTERM)  # runs only Python's handler, none in C

    def check(self, error: type[BaseException] = KeyboardInterrupt) -> None:
        """Raise the failure that ended the study, or `error` if a signal was received."""
        if self.failure is not None:
            raise self.failure
        if self.requested:
            raise error

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        if self._failed:  # sent by fail(), so it does not count as a second signal
            self._failed = False
        elif self.requested:
            sys.stderr.write("\nstopped immediately\n")
            os._exit(HARD_EXIT)
        self.requested = True
        if not self._deferred:
            raise KeyboardInterrupt
