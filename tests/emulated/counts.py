"""Counts of kernel launches and host waits, each with its line of code."""

import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

from torch import Tensor

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = tuple(f"{ROOT / name}/" for name in ("ship", "harness"))
ELSEWHERE: Final = "elsewhere"
"""Line of events that were not caused by ship or harness."""


class Event(NamedTuple):
    """A launch or a wait.

    Attributes:
        what: Name of the operator, or reason for the wait.
        where: Line of code such as "ship/clip/text.py:106", or ELSEWHERE.
    """

    what: str
    where: str


class Counts:
    """Counts of a device's work. Methods are safe to call from several threads.

    Attributes:
        launches: Number of kernels and copies by operator and line.
        syncs: Number of waits of the host for the device by reason and line.
        sent: Bytes copied to the device.
        fetched: Bytes copied from the device.
    """

    def __init__(self) -> None:
        self.launches: Counter[Event] = Counter()
        self.syncs: Counter[Event] = Counter()
        self.sent = 0
        self.fetched = 0
        self._lock = threading.Lock()
        self._thread = threading.get_ident()

    @property
    def n_launches(self) -> int:
        """Number of kernels and copies."""
        return self.launches.total()

    @property
    def n_syncs(self) -> int:
        """Number of times that the host waited."""
        return self.syncs.total()

    def launch(self, operator: str, n: int = 1) -> None:
        """Count n kernels of an operator."""
        if n:
            event = Event(operator, self._where())
            with self._lock:
                self.launches[event] += n

    def sync(self, reason: str) -> None:
        """Count a wait of the host."""
        event = Event(reason, self._where())
        with self._lock:
            self.syncs[event] += 1

    def copy(self, operator: str, tensor: Tensor, *, to_device: bool, waits: bool) -> None:
        """Count a copy between host and device.

        Args:
            operator: Name of the operator.
            tensor: The copied tensor.
            to_device: Whether the copy is from the host to the device.
            waits: Whether the host waits for the end of the copy.
        """
        self.launch(operator)
        if waits:
            self.sync("host to device" if to_device else "device to host")
        n_bytes = tensor.numel() * tensor.element_size()
        with self._lock:
            self.sent += n_bytes * to_device
            self.fetched += n_bytes * (not to_device)

    def _where(self) -> str:
        """Return the innermost line of ship or harness.

        torch runs a backward pass in a separate thread, whose stack does not contain the caller.
        Its events are counted at the line where the thread that created these counts waits for it.
        """
        waiting_frame = sys._current_frames().get(self._thread)
        return _find_line(sys._getframe(1)) or _find_line(waiting_frame) or ELSEWHERE


def _find_line(frame: FrameType | None) -> str | None:
    """Return the innermost line of ship or harness in a stack, or None."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(PACKAGES):
            return f"{file[len(str(ROOT)) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return None
