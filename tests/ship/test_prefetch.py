"""Random numbers that a thread draws for the next step."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from ship.prefetch import Prefetched, Prefetcher, Request, StepDraws
from ship.seeds import SeedDraws

SEEDS = (3, 7)
NOISE: Request = ("normal", (4, 5))
LABELS: Request = ("integers", (9, 6))
OTHER: Request = ("normal", (2,))


def draws_at(step: int) -> SeedDraws:
    """Open the streams of a step."""
    return SeedDraws(SEEDS, f"noise/{step}", torch.float32)


def expected(step: int, requests: Sequence[Request]) -> list[Tensor]:
    """Return the numbers that the streams of a step draw without a thread."""
    return [*map(draws_at(step), requests)]


def check_equal(actual: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
    """Compare all numbers exactly."""
    assert all(torch.equal(*pair) for pair in zip(actual, wanted, strict=True))


# requests of each step, and the steps whose draws are prefetched
STEPS = {
    "the same requests": ([[NOISE, LABELS]] * 5, {2, 3, 4}),
    "other requests": ([[NOISE, LABELS], [NOISE], [NOISE, OTHER, LABELS], [LABELS], [LABELS]], {2}),
    "more requests": ([[NOISE], [NOISE], [NOISE, LABELS, NOISE], [NOISE]], {2, 3}),
    "no requests": ([[], [], [NOISE], []], set()),
}


@pytest.mark.parametrize("case", STEPS)
def test_prefetched_numbers_equal_those_drawn_in_the_step(case: str) -> None:
    """Also where a step requests something else than was predicted."""
    requests_of_steps, prefetched = STEPS[case]
    prefetcher = Prefetcher(draws_at)
    for step, requests in enumerate(requests_of_steps):
        draws = prefetcher.at(step)
        check_equal([draws(request) for request in requests], expected(step, requests))
        assert (draws.n_prefetched > 0) == (step in prefetched)


def test_steps_out_of_order_have_their_own_numbers() -> None:
    """A resumed trial begins at a later step."""
    prefetcher = Prefetcher(draws_at)
    for step in (8, 9, 10, 3, 4, 12):
        check_equal([prefetcher.at(step)(NOISE)], expected(step, [NOISE]))


def test_error_in_the_thread_is_raised_in_the_step() -> None:
    """It is raised by the request that would have had the result."""

    def fail(request: Request) -> Tensor:
        raise MemoryError("no memory for the noise")

    with ThreadPoolExecutor(1) as thread:
        draws = StepDraws(draws_at(0), Prefetched(thread, fail, [NOISE]))
        with pytest.raises(MemoryError, match="no memory for the noise"):
            draws(NOISE)
