"""Ctrl-C and SIGTERM: the first ends the study in order, the second at once."""

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


class SweepStopped(Exception):  # noqa: N818  # no error: somebody asked for it
    """The run stops because it was asked to, inside a Ray session that goes on."""


class Interrupts:
    """Catches SIGINT and SIGTERM while a study runs; outside the main thread it does nothing.

    Outside `deferred()` a signal raises KeyboardInterrupt where it strikes. Inside, it is only
    noted, and `check()` raises at a place where nothing is half-written.
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
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Put the handlers of before back; a study that another thread stopped raises why."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        if error is not None and self.failure is not None:
            raise self.failure from None

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only note a signal, for check() to act on."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def fail(self, failure: Exception) -> None:
        """End the study from another thread, as a signal does; check() raises the failure."""
        self.failure = failure
        self._failed = True
        if self._before:
            _thread.interrupt_main(signal.SIGTERM)  # runs the handler; C handlers see nothing of it

    def check(self, error: type[BaseException] = KeyboardInterrupt) -> None:
        """Raise `error` if a signal came, or what has made the study fail."""
        if self.failure is not None:
            raise self.failure
        if self.requested:
            raise error

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._failed:  # no second signal, whatever came before
            self._failed = False
        elif self.requested:
            sys.stderr.write("\nstopped at once\n")
            os._exit(HARD_EXIT)
        self.requested = True
        if not self._deferred:
            raise KeyboardInterrupt
