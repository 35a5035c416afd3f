"""Steps that are recorded once and replayed: a CUDA graph launches in one go what a step launches.

A step that is to be recorded is work on the device alone. It reads no value on the host, the
tensors that it changes (parameters, an optimizer's memory) stay where they are, and whatever
differs from one run to the next comes in as a tensor.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

Run: TypeAlias = Callable[..., Tensor]
Inputs: TypeAlias = Sequence[Tensor | None]
Shapes: TypeAlias = tuple[tuple[torch.Size, torch.dtype] | None, ...]

# Runs before a step is recorded: in them libraries make their workspaces and optimizers their
# memory, which a recording could not (torch's notes on CUDA graphs ask for three).
WARM_UP = 3


@runtime_checkable
class Recorder(Protocol):
    """What records steps on a device."""

    def warm_up(self, run: Run, inputs: Inputs) -> Tensor:
        """Run a step as it is, as a recording will need it to have been run before."""

    def record(self, run: Run, inputs: Inputs) -> tuple[Tensor, Callable[[], None]]:
        """Record a step, which is not run by that.

        Returns:
            Where its output will be, and what replays it on the same inputs.

        Raises:
            RuntimeError: the step does what cannot be recorded.
        """


class CudaRecorder:
    """CUDA graphs (docs.pytorch.org/docs/stable/notes/cuda.html, "CUDA Graphs").

    All of them share one pool of memory, so that a trial needs no more of it than its largest step.
    They may: none is replayed while another one is, and Captured copies what one gave before the
    next can write there.
    """

    def __init__(self) -> None:
        self._pool: Any = None

    def warm_up(self, run: Run, inputs: Inputs) -> Tensor:
        """Run a step on a stream of its own."""
        present, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(present)
        with torch.cuda.stream(side):
            made = run(*inputs)
        present.wait_stream(side)
        made.record_stream(present)
        return made

    def record(self, run: Run, inputs: Inputs) -> tuple[Tensor, Callable[[], None]]:
        """Capture a step in a graph."""
        graph = torch.cuda.CUDAGraph()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        with torch.cuda.graph(graph, pool=self._pool):
            made = run(*inputs)
        return made, graph.replay


class Captured:
    """Runs a step; where it can be recorded, replays it from its fourth run on.

    Inputs of other shapes have a recording of their own. Where recording fails, one warning says
    why, and steps are run as they are from then on.
    """

    def __init__(self, recorder: Recorder | None) -> None:
        """Without a recorder, steps are run as they are."""
        self._recorder = recorder
        self._runs: Counter[Shapes] = Counter()
        self._recorded: dict[Shapes, _Recording] = {}

    def __call__(self, run: Run, *inputs: Tensor | None) -> Tensor:
        """The output of a step, in memory of its own.

        Args:
            run: the same step every time.
            inputs: what differs between runs, or stays.
        """
        if self._recorder is None:
            return run(*inputs)
        shapes = tuple(None if x is None else (x.shape, x.dtype) for x in inputs)
        if shapes not in self._recorded:
            self._runs[shapes] += 1
            if self._runs[shapes] <= WARM_UP:
                return self._recorder.warm_up(run, inputs)
            try:
                self._recorded[shapes] = _Recording(self._recorder, run, inputs)
            except RuntimeError as why:
                first = str(why).partition("\n")[0]
                warnings.warn(f"steps are not recorded as CUDA graphs: {first}", stacklevel=2)
                self._recorder = None
                return run(*inputs)
        return self._recorded[shapes].replay(inputs)


class _Recording:
    """A recorded step, with the memory that it reads its inputs from."""

    def __init__(self, recorder: Recorder, run: Run, inputs: Inputs) -> None:
        self._inputs = [None if x is None else x.clone() for x in inputs]
        self._output, self._replay = recorder.record(run, self._inputs)

    def replay(self, inputs: Inputs) -> Tensor:
        """The output for inputs of the same shapes."""
        for held, given in zip(self._inputs, inputs, strict=True):
            if held is not None and given is not None:
                held.copy_(given)
        self._replay()
        return self._output.clone()
