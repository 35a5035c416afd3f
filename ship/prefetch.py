"""Draw the random numbers of the next training step in a thread.

All random numbers are drawn on the CPU, so that they are the same on every device. For a batch of
256 with noise of size 512, drawing takes about 4 ms for five seeds, as long as the step itself on a
GPU. A thread therefore draws the numbers of the next step while the main thread launches the
kernels of the current one; torch releases Python's global interpreter lock while it draws.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

from torch import Tensor

# A distribution and its arguments. "normal": the shape of a seed's draw. "integers": the exclusive
# upper bound and the number of integers of a seed.
Request = tuple[Literal["normal", "integers"], tuple[int, ...]]
Draw = Callable[[Request], Tensor]


class StepDraws:
    """The draws of one step, which advance the step's streams in the order of its requests.

    Attributes:
        requests: Requests of the step so far.
        n_prefetched: Number of requests whose draws were prefetched.
    """

    def __init__(self, draw: Draw, prefetched: "Prefetched | None" = None) -> None:
        """Create the draws of a step.

        Args:
            draw: Function that draws from the step's streams and advances them.
            prefetched: Draws of the same step, made from copies of its streams for predicted
                requests. They are used until a request differs from its prediction. Defaults to
                none.
        """
        self.requests: list[Request] = []
        self.n_prefetched = 0
        self._draw, self._prefetched = draw, prefetched
        self._n_drawn = 0  # requests that have advanced the streams

    def __call__(self, request: Request) -> Tensor:
        """Return the tensor of the next request."""
        index = len(self.requests)
        self.requests.append(request)
        if self._prefetched is not None and self._prefetched.has(self.requests):
            self.n_prefetched += 1
            return self._prefetched.results.result()[index]
        for earlier in self.requests[self._n_drawn : index]:
            self._draw(earlier)  # its result was prefetched, but the streams must advance
        self._n_drawn = index + 1
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
    """Draws of successive steps. A step is predicted to repeat the requests of an earlier step."""

    def __init__(self, draw_at: Callable[[int], Draw]) -> None:
        """Create the prefetcher of one purpose's streams.

        Args:
            draw_at: Function of a step that creates the step's streams and returns the function
                that draws from them.
        """
        self._draw_at = draw_at
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="draws")
        self._prefetched: dict[int, Prefetched] = {}  # of the next step, if any
        self._last: StepDraws | None = None

    def at(self, step: int) -> StepDraws:
        """Return the draws of a step, and begin to draw those of the next step.

        The first two steps are not prefetched: requests are known only once a step has ended, at
        the second call.
        """
        draws = StepDraws(self._draw_at(step), self._prefetched.pop(step, None))
        self._prefetched.clear()
        if self._last is not None and self._last.requests:
            draw = self._draw_at(step + 1)
            self._prefetched[step + 1] = Prefetched(self._thread, draw, self._last.requests)
        self._last = draws
        return draws
