"""What every generator of ship promises beside ship.testing (tests/ship/testing)."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import FeatureSet
from ship.generators import GENERATORS, Generator
from ship.tasks.task import Task
from ship.training.replicas import ReplicaRng
from tests.ship.generators.cases import CASES, WITHOUT_NOISE, build, fit, uneven_task

SEEDS = [0, 2, 7]

every = pytest.mark.parametrize("case", list(CASES))


class Permuted(ReplicaRng):
    """The same draws, given to the rows of a batch in another order."""

    def __init__(self, order: Tensor) -> None:
        super().__init__(SEEDS, "noise", dtype=torch.float64)
        self._order = order

    def normal(self, *shape: int) -> Tensor:
        return super().normal(*shape)[:, self._order]

    def integers(self, high: int, size: int) -> Tensor:
        return super().integers(high, size)[:, self._order]


@pytest.fixture(scope="module")
def task(clip64: FrozenCLIP, features: FeatureSet) -> Task:
    """Replicas that differ in seen classes and in how many pictures they have."""
    task = uneven_task(clip64, features, SEEDS)
    assert len(set(task.counts)) > 1 and len(set(task.held_out_counts)) > 1
    return task


def noise(seeds: Sequence[int] = SEEDS, purpose: str = "noise") -> ReplicaRng:
    """A fresh stream of noise for samples."""
    return ReplicaRng(seeds, purpose, dtype=torch.float64)


def unseen(task: Task) -> Tensor:
    """Two of each unseen class."""
    return task.unseen_ids.repeat(1, 2)


@dataclass(frozen=True)
class Run:
    """A generator, the metrics of each epoch of its fit, and samples of unseen classes."""

    generator: Generator
    epochs: list[dict[str, Tensor]]
    made: Tensor


def run(case: str, task: Task, clip: FrozenCLIP) -> Run:
    """Build, fit, sample."""
    generator = build(case, task, clip, SEEDS)
    epochs = fit(generator)
    return Run(generator, epochs, generator.sample(unseen(task), noise()))


@pytest.fixture(scope="module")
def runs(clip64: FrozenCLIP, task: Task) -> Callable[[str], Run]:
    """One run a case, shared by the tests that only look at it."""
    return functools.cache(lambda case: run(case, task, clip64))


@every
def test_deterministic_by_seed(
    case: str, clip64: FrozenCLIP, task: Task, runs: Callable[[str], Run]
) -> None:
    """The same seeds give the same fit and samples, whatever torch's own is; other noise others."""
    torch.manual_seed(1)
    again = run(case, task, clip64)
    assert torch.equal(again.made, runs(case).made)
    other = again.generator.sample(unseen(task), noise(purpose="other"))
    assert torch.equal(other, again.made) == (case in WITHOUT_NOISE)


@every
def test_permuted_classes_permute_the_samples(
    case: str, task: Task, runs: Callable[[str], Run]
) -> None:
    """A sample is its class's and its noise's, not its place's in the batch.

    Real pictures are the exception: a class's come in turn, so that all come before any again.
    """
    if case == "real":
        pytest.skip("its place decides which of the class's pictures it is")
    order = torch.tensor([2, 0, 3, 1])
    moved = runs(case).generator.sample(unseen(task)[:, order], Permuted(order))
    torch.testing.assert_close(moved, runs(case).made[:, order], atol=1e-12, rtol=0)


@pytest.mark.parametrize("case", ["vae/early", "mlp_vae/early"])
def test_early_cases_stop_at_different_epochs(
    case: str, clip64: FrozenCLIP, features: FeatureSet, runs: Callable[[str], Run]
) -> None:
    """So that the tests above mean something: one replica at least outlives another's end."""
    tasks = {seed: uneven_task(clip64, features, [seed]) for seed in SEEDS}
    lengths = [len(fit(build(case, alone, clip64, [seed]))) for seed, alone in tasks.items()]
    assert min(lengths) + 1 < max(lengths) < 12
    assert len(runs(case).epochs) == max(lengths)


@pytest.mark.parametrize("case", ["vae", "vae/noise", "vae/global", "wgan", "mlp_vae"])
def test_the_weights_that_settings_tell_are_there(
    case: str, task: Task, clip64: FrozenCLIP
) -> None:
    """A study is refused by n_weights before anything is built: it must not be more than is."""
    parts = build(case, task, clip64, SEEDS).parts()
    trained = [parts.get(name, {}) for name in ("parameters", "generator", "critic")]
    shapes = [value.shape[1:] for part in trained for value in part.values()]  # type: ignore[union-attr]
    there = sum(shape.numel() for shape in shapes)
    name, settings = CASES[case]
    told = GENERATORS[name].config(**settings).n_weights(clip64.feature_dim)
    assert (told > 0) is (case != "vae/global")
    assert told <= there
