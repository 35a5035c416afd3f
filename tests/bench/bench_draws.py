"""python -m tests.bench.bench_draws [--smoke]: cost of random numbers for the main thread.

A step draws the noise of every seed, and launches as many small operators as a generator step on a
GPU. The noise is drawn in the step, or in a thread during the previous step (ship.prefetch). Both
ways are timed alternately in one process.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor

from ship.prefetch import Prefetcher, Request
from ship.seeds import SeedDraws

LAUNCHES = 700  # budget of a generator step, see bench_launches
BATCH, NOISE = 256, 512
ROUNDS = 9

Step = Callable[[int], Tensor]


def measure_step(step: Step, n_steps: int) -> float:
    """Return the mean time of a step. The first two steps are not counted."""
    tensor = torch.zeros(8)
    for number in range(n_steps + 2):
        if number == 2:
            start = time.perf_counter()
        step(number)
        for _ in range(LAUNCHES):
            tensor.add_(1)
    return (time.perf_counter() - start) / n_steps


def compare(n_seeds: int, n_steps: int, rounds: int) -> str:
    """Return a line with the times of a step without draws, with them, and with a thread."""
    request: Request = ("normal", (BATCH, NOISE))

    def draws_at(number: int) -> SeedDraws:
        return SeedDraws(range(n_seeds), f"noise/{number}", torch.float32)

    def draw_nothing(number: int) -> Tensor:
        return torch.empty(0)

    def draw_in_step(number: int) -> Tensor:
        return draws_at(number)(request)

    prefetcher = Prefetcher(draws_at)

    def draw_ahead(number: int) -> Tensor:
        return prefetcher.at(number)(request)

    steps = (draw_nothing, draw_in_step, draw_ahead)
    times = [[measure_step(step, n_steps) for step in steps] for _ in range(rounds)]
    without, before, after = (1000 * median(column) for column in zip(*times, strict=True))
    ratios = sorted(thread / in_step for _, in_step, thread in times)
    return (
        f"{n_seeds} seeds: {without:.1f} ms without draws, {before:.1f} ms with draws in the step, "
        f"{after:.1f} ms in a thread; ratio {median(ratios):.2f} ({ratios[0]:.2f} to "
        f"{ratios[-1]:.2f}, {rounds} rounds)"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for 5 and for 20 seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="few steps, as a smoke test")
    smoke = parser.parse_args(arguments).smoke
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for n_seeds in (5, 20):
        print(compare(n_seeds, 3 if smoke else 100, 1 if smoke else ROUNDS))
    torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
