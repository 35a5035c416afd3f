"""Draw the random numbers of the next training step in a thread.

All random numbers are drawn on the CPU, so that they are the same on every device. For a batch of
256 with noise of size 512, five seeds take some 4 ms, as long as a GPU needs for the step itself.
A thread draws them while the main thread launches the kernels of the current step; torch releases
Python's global interpreter lock while it draws.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

from torch import Tensor

# A distribution, and its arguments: the shape per seed, or the bound and the number of integers.
Request = tuple[Literal["normal", "integers"], tuple[int, ...]]
Draw = Callable[[Request], Tensor]


class StepDraws:
    """The draws of one step. The streams of a step are consumed in the order of its requests.

    Attributes:
        requests: Requests of the step so far.
        n_prefetched: Number of requests whose draws were prefetched.
    """

    def __init__(self, draw: Draw, prefetched: "Prefetched | None" = None) -> None:
        """Create the draws of a step.

        Args:
            draw: Function that draws from the step's streams and advances them.
            prefetched: Draws of the same step from other copies of its streams. They are used as
                long as the requests are those that were predicted.
        """
        self.requests: list[Request] = []
        self.n_prefetched = 0
        self._draw, self._prefetched = draw, prefetched
        self._n_drawn = 0  # requests that have advanced the streams

    def __call__(self, request: Request) -> Tensor:
        """Return the tensor of the next request."""
        place = len(self.requests)
        self.requests.append(request)
        if self._prefetched is not None and self._prefetched.has(self.requests):
            self.n_prefetched += 1
            return self._prefetched.results.result()[place]
        for earlier in self.requests[self._n_drawn : place]:
            self._draw(earlier)  # its result was prefetched, but the streams must advance
        self._n_drawn = place + 1
        return self._draw(request)


class Prefetched:
    """Draws of a step that a thread computes for predicted requests."""

    def __init__(self, thread: ThreadPoolExecutor, draw: Draw, requests: Sequence[Request]) -> None:
        self._requests = list(requests)
        self.results: Future[list[Tensor]] = thread.submit(lambda: [*map(draw, self._requests)])

    def has(self, requests: Sequence[Request]) -> bool:
        """Return True if the predicted requests begin with these."""
        return self._requests[: len(requests)] == requests


class Prefetcher:
    """Draws of successive steps. Each step is expected to request what an earlier one did."""

    def __init__(self, draw_at: Callable[[int], Draw]) -> None:
        """Create the prefetcher of one kind of streams.

        Args:
            draw_at: Function that opens new streams for a step and returns the function that draws
                from them.
        """
        self._draw_at = draw_at
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="draws")
        self._prefetched: dict[int, Prefetched] = {}  # the next step, if any
        self._last: StepDraws | None = None

    def at(self, step: int) -> StepDraws:
        """Return the draws of a step, and begin to draw those of the next step.

        The first two steps are not prefetched: only the second call knows what a step requests.
        """
        draws = StepDraws(self._draw_at(step), self._prefetched.pop(step, None))
        self._prefetched.clear()
        if self._last is not None and self._last.requests:
            draw = self._draw_at(step + 1)
            self._prefetched[step + 1] = Prefetched(self._thread, draw, self._last.requests)
        self._last = draws
        return draws
