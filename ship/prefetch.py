"""Draw the random numbers of the next training step in a thread.

All random numbers are drawn on the CPU, so that they are the same on every device. This takes about
4 ms per step for five seeds, batch size 256 and noise of size 512: as long as the step itself on a
GPU. A thread therefore draws the numbers of the next step while the main thread launches the
kernels of the current one. torch releases Python's global interpreter lock while it draws.

A random stream is a torch.Generator. Each step has its own streams, one per seed of the trial.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

from torch import Tensor

# A distribution and its arguments. "normal": the shape of the draw per seed. "integers": the
# exclusive upper bound, and the number of integers per seed.
Request = tuple[Literal["normal", "integers"], tuple[int, ...]]
Draw = Callable[[Request], Tensor]


class StepDraws:
    """Random draws of one step, in the order of its requests.

    The draws are the same with and without prefetching.

    Attributes:
        requests: Requests of the step so far.
        n_prefetched: Number of requests that were answered with prefetched draws.
    """

    def __init__(self, draw: Draw, prefetched: "Prefetched | None" = None) -> None:
        """Create the draws of a step.

        Args:
            draw: Function that draws from the step's random streams and advances them.
            prefetched: Draws for the predicted requests, made with separate random streams that
                start in the same state. They are used until a request differs from its prediction.
                None disables prefetching.
        """
        self.requests: list[Request] = []
        self.n_prefetched = 0
        self._draw, self._prefetched = draw, prefetched
        self._n_drawn = 0  # `draw` has been called for the requests before this index

    def __call__(self, request: Request) -> Tensor:
        """Return the draw for the next request of the step."""
        index = len(self.requests)
        self.requests.append(request)
        if self._prefetched is not None and self._prefetched.starts_with(self.requests):
            self.n_prefetched += 1
            return self._prefetched.results.result()[index]
        for past_request in self.requests[self._n_drawn : index]:
            self._draw(past_request)  # its draw was prefetched, but the streams must advance
        self._n_drawn = index + 1
        return self._draw(request)


class Prefetched:
    """Draws of a step that a thread computes for predicted requests.

    Attributes:
        results: The draws, in the order of the requests.
    """

    def __init__(self, thread: ThreadPoolExecutor, draw: Draw, requests: Sequence[Request]) -> None:
        """Start to draw in the thread.

        Args:
            thread: Executor with one thread.
            draw: Function that draws from random streams of the step. Nothing else may use them.
            requests: Predicted requests of the step.
        """
        self._requests = list(requests)
        self.results: Future[list[Tensor]] = thread.submit(lambda: [*map(draw, self._requests)])

    def starts_with(self, requests: list[Request]) -> bool:
        """Return True if the predicted requests start with these requests."""
        return self._requests[: len(requests)] == requests


class Prefetcher:
    """Factory of the draws of successive steps.

    A step is predicted to make the same requests as the step before the previous one.
    """

    def __init__(self, draw_at: Callable[[int], Draw]) -> None:
        """Create a prefetcher.

        Args:
            draw_at: Function of a step's number. It creates the step's random streams, and returns
                the function that draws from them.
        """
        self._draw_at = draw_at
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="draws")
        self._prefetched: dict[int, Prefetched] = {}  # step -> draws; at most one entry
        self._last: StepDraws | None = None

    def at(self, step: int) -> StepDraws:
        """Return the draws of a step, and start to prefetch those of the next step.

        The first two steps are not prefetched, because the first step's requests are known only
        when the second step begins.
        """
        draws = StepDraws(self._draw_at(step), self._prefetched.pop(step, None))
        self._prefetched.clear()
        if self._last is not None and self._last.requests:
            draw = self._draw_at(step + 1)
            self._prefetched[step + 1] = Prefetched(self._thread, draw, self._last.requests)
        self._last = draws
        return draws
