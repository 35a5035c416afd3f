"""From counts to GPU time: what comes out is an estimate, and Rates has what it assumes.

A kernel takes as long as its arithmetic or its memory, whichever is longer (a roofline). The host
starts kernels while the device works on earlier ones, unless a step makes it wait.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Final, Literal

import torch

from ship.clip import SMALLEST_GROUP
from ship.generators.prompt_network import PROMPTS_AT_ONCE
from ship.trial_config import TrialConfig
from tests.bench.bench_launches import BACKBONE
from tests.bench.paper_grid import ELEVEN, SEEDS, Stage, configs, data_shape, stages
from tests.bench.paper_networks import Names, network_flops
from tests.bench.roofline import Kernel, Passes

Arithmetic = Literal["fp32", "tf32", "bf16"]
Way = Literal["before", "padded", "as run", "recorded"]
Groups = Sequence[tuple[int, int]]  # how many prompts, tokens of each


@dataclass(frozen=True)
class Rates:
    """What is assumed of an H100 (SXM) and its host; none of it was measured.

    flops: operations a second that products reach.
    memory: bytes a second.
    launch: seconds that the host takes to start a kernel, or a recorded step.
    gap: seconds between two kernels of a recorded step.
    """

    flops: Mapping[Arithmetic, float] = field(
        default_factory=lambda: {"fp32": 45e12, "tf32": 200e12, "bf16": 400e12}
    )
    memory: float = 2.7e12
    launch: float = 6e-6
    gap: float = 1e-6


@dataclass(frozen=True)
class Step:
    """Launches of a step, times that the host waits in it, and launches where it is recorded."""

    launches: int
    waits: int
    recorded: int


GENERATOR, COOP, EVALUATION = "generator step", "CoOp step with synthesis", "evaluation"
# The emulated device on commit 51eacc5, before prompts went through the tower in one pass, with 256
# pictures a step (32 in a CoOp step: 3,096 launches, 12 waits). It grouped prompts by length, so
# that what it launched depended on the data: here on Caltech-101's names.
BEFORE: Final[Mapping[str, Step]] = {
    GENERATOR: Step(2784, 8, 2784),
    COOP: Step(3460, 13, 3460),
    EVALUATION: Step(1160, 13, 1160),
}


@dataclass(frozen=True)
class Spent:
    """What some work takes of a GPU and of the host that feeds it.

    launches, waits: of kernels, and of the host.
    host: seconds of launching. device: seconds of kernels. seconds: both, as far as they overlap.
    flops: operations.
    """

    launches: float = 0.0
    waits: float = 0.0
    host: float = 0.0
    device: float = 0.0
    seconds: float = 0.0
    flops: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        names = [f.name for f in fields(self)]
        return Spent(**{name: getattr(self, name) + getattr(other, name) for name in names})


def total(parts: Iterable[Spent]) -> Spent:
    """All of them, one after the other."""
    return sum(parts, Spent())


@dataclass(frozen=True)
class Work:
    """A kind of step, how many of them there are, and the passes that one makes.

    drawn: (tokens -> prompts that are drawn, whether a gradient goes back).
    shared: tokens -> class names behind each replica's context; {}: none. gradient: of those.
    """

    step: str
    n: int
    drawn: tuple[Mapping[int, float], bool] | None = None
    shared: Mapping[int, float] = field(default_factory=dict)
    gradient: bool = False


class Estimate:
    """Prices the trials of the grid."""

    def __init__(self, now: Mapping[str, Step], rates: Rates | None = None) -> None:
        """Load the tower's shape.

        Args:
            now: launches of each kind of step today.
            rates: what is assumed.
        """
        self.now, self.rates = now, rates or Rates()
        self.names = Names(BACKBONE)
        self.passes = Passes(BACKBONE)
        self._half = Passes(BACKBONE, torch.bfloat16)

    def trials(self, way: Way, arithmetic: Arithmetic) -> dict[tuple[str, int], Spent]:
        """Each trial of the grid, by dataset and prompt length."""
        return {
            (dataset, config.generator.n_ctx): self.trial(config, way, arithmetic)
            for dataset in ELEVEN
            for config in configs(dataset)
        }

    def trial(self, config: TrialConfig, way: Way, arithmetic: Arithmetic) -> Spent:
        """A trial of SEEDS fused seeds with all of its planned epochs."""
        data = data_shape(config.dataset)
        small = sum(network_flops(config, stage, BACKBONE) for stage in stages(config, data))
        seconds = small / self.rates.flops[arithmetic]
        spent = Spent(device=seconds, seconds=seconds, flops=small)
        return spent + total(
            self._steps(work, config, way, arithmetic)
            for stage in stages(config, data)
            for work in self._works(config, stage)
        )

    def _works(self, config: TrialConfig, stage: Stage) -> list[Work]:
        """All that a stage does with the text tower."""
        task, generator, coop = stage.task, config.generator, config.finetuner
        names = self.names.lengths(task.names)

        def drawn(rows: float, shares: Sequence[float]) -> dict[int, float]:
            """Tokens of the prompts behind SOT -> how many of the drawn ones are so long."""
            counts: dict[int, float] = {}
            for tokens, share in zip(names, shares, strict=True):
                length = generator.n_ctx + tokens
                counts[length] = counts.get(length, 0.0) + rows * share / sum(shares)
            return counts

        fitted, tuned = (SEEDS * min(x.batch_size, task.n_nominal) for x in (generator, coop))
        judged = min(SEEDS * stage.judged, PROMPTS_AT_ONCE)
        classes = {tokens: float(names.count(tokens)) for tokens in set(names)}
        return [
            Work(GENERATOR, stage.generator_steps, (drawn(fitted, task.real), True)),
            Work(COOP, stage.coop_steps, (drawn(tuned, task.made), False), classes, True),
            Work(EVALUATION, stage.evaluations, shared=classes),
            # drawing takes about as many launches as looking
            Work(EVALUATION, -(-SEEDS * stage.judged // judged), (drawn(judged, task.made), False)),
        ]

    def _steps(self, work: Work, config: TrialConfig, way: Way, arithmetic: Arithmetic) -> Spent:
        rates, rate = self.rates, self.rates.flops[arithmetic]
        kernels = self._kernels(work, config, way, arithmetic)
        device = sum(max(k.flops / rate, k.n_bytes / rates.memory) for k in kernels)
        step = (BEFORE if way == "before" else self.now)[work.step]
        launches = step.launches
        if way == "recorded":
            device += rates.gap * (step.launches - step.recorded)
            launches = step.recorded
        host = rates.launch * launches
        one = host + device if step.waits else max(host, device)
        n, flops = work.n, sum(k.flops for k in kernels)
        return Spent(n * launches, n * step.waits, n * host, n * device, n * one, n * flops)

    def _kernels(
        self, work: Work, config: TrialConfig, way: Way, arithmetic: Arithmetic
    ) -> list[Kernel]:
        """Of one step."""
        passes = self._half if arithmetic == "bf16" else self.passes
        kernels: list[Kernel] = []
        if work.drawn is not None:
            counts, gradient = work.drawn
            # SOT went through apart, once for all prompts
            sot = 0 if way == "before" else 1
            for n, tokens in grouped(counts, way):
                kernels += passes.plain(n, sot + tokens, gradient)
        for lengths in together(work.shared, way):
            kernels += passes.shared(SEEDS, 1 + config.finetuner.n_ctx, lengths, work.gradient)
        return kernels


def grouped(counts: Mapping[int, float], way: Way) -> Groups:
    """Prompts in groups, each padded to its longest one.

    Args:
        counts: tokens -> prompts.
        way: before: in groups of about one length, as they still go through on a CPU.
            Else in one group.
    """
    if way == "before":
        return [(max(1, round(n)), tokens) for n, tokens in _of_a_length(counts)]
    return [(max(1, round(sum(counts.values()))), max(counts))] if counts else []


def _of_a_length(counts: Mapping[int, float]) -> list[tuple[float, int]]:
    """The groups of ship.clip.text_tower.by_length: the shortest first, none of them small."""
    groups: list[tuple[float, int]] = []
    pending = 0.0
    for tokens in sorted(counts):
        pending += counts[tokens]
        if pending >= SMALLEST_GROUP:
            groups.append((pending, tokens))
            pending = 0.0
    if pending:
        groups.append((pending, max(counts)))
    return groups


def together(counts: Mapping[int, float], way: Way) -> list[tuple[int, ...]]:
    """Lengths of the names that go through together, as long as they are then.

    Args:
        counts: tokens -> names.
        way: before, padded: in the groups of `grouped`. Else packed, each as long as it is.
    """
    if way in ("before", "padded"):
        return [(tokens,) * n for n, tokens in grouped(counts, way)]
    lengths = tuple(tokens for tokens, n in sorted(counts.items()) for _ in range(round(n)))
    return [lengths] if lengths else []


def makespan(seconds: Iterable[float], workers: int) -> float:
    """When the last of some trials ends, the longest given out first, one trial a worker."""
    ends = [0.0] * workers
    for one in sorted(seconds, reverse=True):
        ends.sort()
        ends[0] += one
    return max(ends)
