"""Counts of launches and of waits, each with its line of the project."""

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
"""The place of what neither ship nor harness called."""


class Event(NamedTuple):
    """What happened, and where.

    what: an operator's name, or the reason for a wait.
    where: "ship/clip/text.py:106", or ELSEWHERE.
    """

    what: str
    where: str


class Counts:
    """What the device was asked to do; may be added to by several threads.

    Attributes:
        launches: kernels and copies by operator and place.
        syncs: times that the host waited for the device, by reason and place.
        sent, fetched: bytes copied to the device and from it.
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
        """A tensor went from the host to the device, or back.

        Args:
            operator: that copied it.
            tensor: what was copied.
            to_device: from the host to the device.
            waits: whether the host waits until it has arrived.
        """
        self.launch(operator)
        if waits:
            self.sync("host to device" if to_device else "device to host")
        n_bytes = tensor.numel() * tensor.element_size()
        with self._lock:
            self.sent += n_bytes * to_device
            self.fetched += n_bytes * (not to_device)

    def _where(self) -> str:
        """The innermost line of the project.

        torch runs a backward pass in a thread of its own, which shows no caller: what happens there
        is counted at the line where the thread that made these counts waits for it.
        """
        return (
            _place(sys._getframe(1)) or _place(sys._current_frames().get(self._thread)) or ELSEWHERE
        )


def _place(frame: FrameType | None) -> str | None:
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(PACKAGES):
            return f"{file[len(str(ROOT)) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return None
