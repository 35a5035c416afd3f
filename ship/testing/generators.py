"""The contract of a generator, clause by clause."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor

from ship.configs import GENERATORS
from ship.generators import FeatureSource, build_generator
from ship.tasks import Pictures, Task
from ship.testing.bench import (
    Bench,
    frozen,
    packaged_bench,
    require_epoch_of_seed,
    require_equal,
    require_members,
    require_numbers,
    require_untouched,
    without_pictures,
)
from ship.testing.finding import Finding, findings, require
from ship.testing.settings import quick
from ship.training import capture, restore


@dataclass(frozen=True)
class Run:
    """A generator, the metrics of each epoch of its fit, and samples of unseen classes."""

    generator: FeatureSource
    epochs: list[dict[str, Tensor]]
    made: Tensor


@dataclass(frozen=True)
class GeneratorSubject:
    """A generator with its settings, on a bench."""

    config: Any
    bench: Bench

    @cached_property
    def task(self) -> Task:
        """Of all seeds."""
        return self.bench.task(self.bench.seeds)

    @cached_property
    def run(self) -> Run:
        """One run, for checks that only look at it."""
        return self.fresh(self.task, self.bench.seeds)

    def build(self, task: Task, seeds: Sequence[int]) -> FeatureSource:
        """A generator that is not fitted."""
        made = build_generator(self.config, task, self.bench.clip, seeds)
        if made is None:
            raise ValueError(f"generator {self.config.name} makes no features")
        return made

    def fresh(self, task: Task, seeds: Sequence[int]) -> Run:
        """Build, fit, sample."""
        generator = self.build(task, seeds)
        epochs = []
        for _ in range(generator.epochs):
            epochs.append(generator.train_epoch())
            if generator.finished:
                break
        return Run(generator, epochs, self.sample(generator, task, seeds))

    def sample(self, generator: FeatureSource, task: Task, seeds: Sequence[int]) -> Tensor:
        """Two features of each unseen class, from the same noise each time."""
        return generator.sample(task.unseen_ids.repeat(1, 2), self.bench.noise(seeds))


def check_generator(
    name: str, settings: Mapping[str, Any] | None = None, bench: Bench | None = None
) -> Iterator[Finding]:
    """Check a generator against its contract.

    Args:
        name: what a YAML says.
        settings: of it; None: its defaults, with 3 epochs at most.
        bench: what it is checked on; None: packaged_bench().

    Raises:
        KeyError: there is no generator of that name, or it makes no features.
    """
    config = quick(GENERATORS[name], settings)
    return findings(GENERATOR_CHECKS, GeneratorSubject(config, bench or packaged_bench()))


def _has_members(subject: GeneratorSubject) -> None:
    made = subject.build(subject.task, subject.bench.seeds)
    members = ("epochs", "finished", "train_epoch", "sample", "parts", "learned")
    require_members(made, members)
    planned = getattr(subject.config, "epochs", 0)
    require(
        made.epochs in (0, planned),
        f"epochs is {made.epochs}, and the setting of that name says {planned}",
    )


def _is_unit_norm(subject: GeneratorSubject) -> None:
    n_replicas, n = len(subject.bench.seeds), 2 * subject.task.unseen_ids.shape[1]
    made = subject.run.made
    shape = [n_replicas, n, subject.bench.clip.feature_dim]
    require([*made.shape] == shape, f"sample() gives {[*made.shape]}, not {shape}")
    require(not made.requires_grad, "sample() gives a gradient")
    require(bool(made.isfinite().all()), "sample() gives numbers that are not finite")
    norms = made.norm(dim=-1)
    require_equal(norms, torch.ones_like(norms), "norms of samples and 1", 1e-5)


def _reports_numbers(subject: GeneratorSubject) -> None:
    epochs = subject.run.epochs
    require(len(epochs) <= subject.run.generator.epochs, "it trains for more epochs than it says")
    for metrics in epochs:
        require_numbers(metrics, len(subject.bench.seeds))


def _is_deterministic(subject: GeneratorSubject) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        again = subject.fresh(subject.task, subject.bench.seeds)
    require_equal(again.made, subject.run.made, "samples of a second run", 0)


def _is_its_solo_run(subject: GeneratorSubject) -> None:
    for replica, seed in enumerate(subject.bench.seeds):
        solo = subject.fresh(subject.bench.task([seed]), [seed])
        require(len(solo.epochs) <= len(subject.run.epochs), "a seed alone trains longer")
        for ours, theirs in zip(subject.run.epochs, solo.epochs, strict=False):
            require_epoch_of_seed(ours, theirs, replica, seed)
        require_equal(subject.run.made[replica], solo.made[0], f"samples of seed {seed}")


def _resumes(subject: GeneratorSubject) -> None:
    seeds = subject.bench.seeds
    stopped = subject.build(subject.task, seeds)
    for _ in range(min(1, stopped.epochs)):
        stopped.train_epoch()
    state = capture(stopped.parts())
    resumed = subject.build(subject.task, seeds)
    restore(resumed.parts(), state)
    for _ in range(len(subject.run.epochs) - 1):
        resumed.train_epoch()
    made = subject.sample(resumed, subject.task, seeds)
    require_equal(made, subject.run.made, "samples of a run that was stopped after an epoch", 0)


def _is_kept(subject: GeneratorSubject) -> None:
    learned = subject.run.generator.learned()
    if learned is None:
        return
    blank = subject.task if subject.config.name == "real" else without_pictures(subject.task)
    again = subject.build(blank, subject.bench.seeds)
    inside = again.learned()
    require(inside is not None, "learned() is None before it is fitted, and is not so later")
    restore(inside or {}, capture(learned))
    made = subject.sample(again, subject.task, subject.bench.seeds)
    require_equal(made, subject.run.made, "samples of one that was built again", 0)


def _leaves_frozen(subject: GeneratorSubject) -> None:
    task = subject.bench.task(subject.bench.seeds)
    before = frozen(task, subject.bench.clip)
    subject.fresh(task, subject.bench.seeds)
    require_untouched(before, task, subject.bench.clip)


def _looks_at_no_unseen(subject: GeneratorSubject) -> None:
    pictures = subject.task.unseen()
    turned = [Pictures(-own.features, own.labels) for own in pictures]
    task = replace(subject.task, unseen=lambda: turned)
    made = subject.fresh(task, subject.bench.seeds).made
    require_equal(made, subject.run.made, "samples after pictures of unseen classes changed", 0)


GENERATOR_CHECKS: Final[Mapping[str, Callable[[GeneratorSubject], None]]] = {
    "it has the members of a generator, and the epochs of its settings": _has_members,
    "samples are finite and of unit norm": _is_unit_norm,
    "an epoch reports one finite number a seed": _reports_numbers,
    "the same seeds give the same samples, whatever torch's own seed is": _is_deterministic,
    "a seed beside others gives the numbers that it gives alone": _is_its_solo_run,
    "a run that was stopped goes on to the bit (parts)": _resumes,
    "what it has learned is all that samples need (learned)": _is_kept,
    "CLIP's weights and the task's features are only read": _leaves_frozen,
    "pictures of unseen classes never matter": _looks_at_no_unseen,
}
"""What must hold, in words -> what looks whether it does."""
