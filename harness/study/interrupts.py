"""Handle Ctrl-C and SIGTERM: the first ends a study cleanly, the second ends its process."""

import _thread
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

HARD_EXIT = 130  # exit code after a second signal


class SweepStopped(Exception):  # noqa: N818  # no error: the user asked for it
    """A signal stops the run. Raised instead of KeyboardInterrupt if the Ray session stays open."""


class Interrupts:
    """Context manager that handles SIGINT and SIGTERM while a study runs.

    The first signal raises KeyboardInterrupt at once. In the context of `defer_signals()` it is
    only recorded, and `check()` raises at a point where nothing is partly written. A second signal
    ends the process. Outside the main thread no handlers are installed.

    Attributes:
        requested: Whether a signal has asked the study to end. `fail()` sends such a signal.
        failure: Error that ends the study: another driver has taken it over, or Ray has died. None
            if there is none.
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
        """Restore the previous handlers. Replace an exception by `failure`, if there is one."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        if error is not None and self.failure is not None:
            raise self.failure from None

    @contextmanager
    def defer_signals(self) -> Iterator[None]:
        """Only record signals inside the context, without an exception. See `check`."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def fail(self, failure: Exception) -> None:
        """End the study from another thread, as a signal would.

        Args:
            failure: Error to raise in the main thread, by `check()` or at the end of the context.
        """
        self.failure = failure
        self._failed = True
        if self._before:
            _thread.interrupt_main(signal.SIGTERM)  # calls Python's handler; sends no real signal

    def check(self, error: type[BaseException] = KeyboardInterrupt) -> None:
        """Raise the failure that ends the study, or else `error` if a signal was received."""
        if self.failure is not None:
            raise self.failure
        if self.requested:
            raise error

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        if self._failed:  # from fail(), so it does not count as a second signal
            self._failed = False
        elif self.requested:
            sys.stderr.write("\nstopped immediately\n")
            os._exit(HARD_EXIT)
        self.requested = True
        if not self._deferred:
            raise KeyboardInterrupt
