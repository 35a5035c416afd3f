"""How time and memory grow with each size: `python -m tests.bench.bench_growth`.

One size is varied at a time. Time per step or trial is set beside the token positions that went
through the text tower, which is where the arithmetic is: time may not grow faster than they do.
"""

import resource
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context

import torch

from ship.clip.frozen_clip import FrozenCLIP
from tests.bench.bench_steps import Sizes, Steps
from tests.bench.timing import seconds

VARIED: Mapping[str, Sequence[int]] = {
    "n_classes": (10, 30, 100, 300, 1000),
    "n_ctx": (1, 2, 4, 8, 16, 24),
    "latent": (16, 64, 256, 1024),
    "seeds": (1, 2, 4, 8),
    "shots": (1, 4, 16),
}


@dataclass(frozen=True)
class Growth:
    """One step of each kind at one size.

    generator_s, coop_s: seconds; generator_tokens, coop_tokens: text-tower positions.
    memory_mb: the process's peak, which holds the backbone too.
    """

    size: str
    value: int
    generator_s: float
    generator_tokens: int
    coop_s: float
    coop_tokens: int
    memory_mb: float

    def line(self) -> str:
        """For people."""
        kinds = (
            ("generator", self.generator_s, self.generator_tokens),
            ("CoOp", self.coop_s, self.coop_tokens),
        )
        steps = "; ".join(
            f"{name} {1e3 * s:8.1f} ms, {tokens:6} tokens, {1e6 * s / tokens:6.1f} us each"
            for name, s, tokens in kinds
        )
        return f"{self.size:9} {self.value:5}: {steps}; peak {self.memory_mb:6.0f} MiB"


def measure(clip: FrozenCLIP, sizes: Sizes, size: str) -> Growth:
    """The median of three steps of each kind, after one to warm up."""
    steps = Steps(clip, sizes)
    found: list[float] = []
    for step in (steps.generator_step, steps.coop_step):
        step()
        before = clip.text_tokens
        found.append(sorted(seconds(step) for _ in range(3))[1])
        found.append((clip.text_tokens - before) // 3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    time_g, tokens_g, time_c, tokens_c = found
    value = int(getattr(sizes, size))
    return Growth(size, value, time_g, int(tokens_g), time_c, int(tokens_c), peak)


def growth(clip: FrozenCLIP, sizes: Sizes, varied: Mapping[str, Sequence[int]]) -> Iterator[Growth]:
    """One row a value, in this process: peaks are of all rows so far."""
    for size, values in varied.items():
        for value in values:
            yield measure(clip, replace(sizes, **{size: value}), size)


def _alone(name: str, sizes: Sizes, size: str, threads: int) -> Growth:
    torch.set_num_threads(threads)
    return measure(FrozenCLIP.load(name), sizes, size)


def main() -> None:
    """Print a row a value, each measured in a process of its own, so that its peak is its own."""
    base = Sizes(n_classes=100, batch=64, coop_batch=64, latent=128, hidden=(512, 1024))
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for size, values in VARIED.items():
            for value in values:
                case = ("pocket", replace(base, **{size: value}), size, torch.get_num_threads())
                print(pool.apply(_alone, case).line(), flush=True)


if __name__ == "__main__":
    main()
