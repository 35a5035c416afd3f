"""What a CUDA graph does, on the emulated device: a step is recorded, not run, and replayed.

A replay computes what was recorded with the values that its tensors hold then. Whatever the host
decided while it was recorded (a number, a branch, an index) stays as it was, which is what a test
of recorded steps looks for.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from tests.emulated.counts import Counts
from tests.emulated.device import EmulatedDevice
from tests.emulated.execution import Execution


class NoWaiting(Counts):
    """Counts of a recording, in which the host must not wait."""

    def sync(self, reason: str) -> None:
        """Refused, as CUDA does.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(f"operation not permitted when stream is capturing ({reason})")


class Tape:
    """The operations of a step, in order, and the values that they changed."""

    def __init__(self) -> None:
        self._done: list[tuple[Callable[[], Any], list[Tensor]]] = []
        self._before: dict[int, tuple[Tensor, Tensor]] = {}

    def perform(self, compute: Callable[[], Any], changed: Sequence[Tensor]) -> Any:
        """Compute, and note it.

        Args:
            compute: gives CPU tensors.
            changed: those that it writes to.
        """
        for tensor in changed:
            if id(tensor) not in self._before:
                self._before[id(tensor)] = (tensor, tensor.clone())
        made = compute()
        self._done.append((compute, list(_tensors(made))))
        return made

    def undo(self) -> None:
        """Put back all values from before: recording runs nothing."""
        for tensor, before in reversed(self._before.values()):
            tensor.copy_(before.reshape(tensor.shape))  # squeeze_ is undone by nobody

    def replay(self) -> None:
        """Compute all of it again, each result into the memory that it has."""
        for compute, held in self._done:
            for old, new in zip(held, _tensors(compute()), strict=True):
                if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                    old.copy_(new.reshape(old.shape))


class EmulatedRecorder:
    """Records steps on the emulated device (ship.training.captured.Recorder)."""

    def __init__(self, device: EmulatedDevice) -> None:
        self._execution = device.execution
        self.recorded = 0
        self.replayed = 0

    def warm_up(self, run: Callable[..., Tensor], inputs: Sequence[Tensor | None]) -> Tensor:
        """Run the step."""
        return run(*inputs)

    def record(
        self, run: Callable[..., Tensor], inputs: Sequence[Tensor | None]
    ) -> tuple[Tensor, Callable[[], None]]:
        """Record a step; nothing that it changes is changed by that."""
        with _recording(self._execution) as tape:
            output = run(*inputs)
        self.recorded += 1

        def replay() -> None:
            self._execution.counts.launch("graph")
            tape.replay()
            self.replayed += 1

        return output, replay


@contextmanager
def _recording(execution: Execution) -> Iterator[Tape]:
    tape, counts = Tape(), execution.counts
    execution.tape, execution.counts = tape, NoWaiting()
    try:
        yield tape
    finally:
        execution.tape, execution.counts = None, counts
        tape.undo()


def _tensors(made: Any) -> Iterator[Tensor]:
    if isinstance(made, Tensor):
        yield made
    elif isinstance(made, list | tuple):
        for inner in made:
            yield from _tensors(inner)
