"""What every generator promises, whatever it is."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import pytest
import torch
from torch import Tensor

from ship.clip.frozen_clip import FrozenCLIP
from ship.clip.identity import fingerprint
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


def test_every_generator_has_a_case() -> None:
    """An entry of the dict cannot be left out of these tests."""
    assert {name for name, _ in CASES.values()} == {
        name for name, (_, builder) in GENERATORS.items() if builder is not None
    }


@every
def test_samples_are_unit_norm_finite_and_without_gradient(
    case: str, clip64: FrozenCLIP, task: Task, runs: Callable[[str], Run]
) -> None:
    """Before and after fitting; the metrics are one finite number a replica."""
    generator, epochs = runs(case).generator, runs(case).epochs
    assert isinstance(generator, Generator)
    assert (len(epochs) == 0) == (generator.epochs == 0) and len(epochs) <= generator.epochs
    for value in (value for metrics in epochs for value in metrics.values()):
        assert value.shape == (3,) and not value.requires_grad and bool(value.isfinite().all())
    untrained = build(case, task, clip64, SEEDS).sample(unseen(task), noise())
    for made in (untrained, runs(case).made):
        assert made.shape == (3, 4, 16) and not made.requires_grad
        norms = made.norm(dim=-1)
        torch.testing.assert_close(norms, torch.ones_like(norms), atol=1e-6, rtol=0)


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
def test_nothing_frozen_is_touched(
    case: str, clip64: FrozenCLIP, features: FeatureSet, task: Task, runs: Callable[[str], Run]
) -> None:
    """After a run, CLIP's weights and the task's tensors are as made, and have no gradient."""
    runs(case)
    assert fingerprint(clip64._model) == clip64.fingerprint
    assert all(p.grad is None for p in clip64._model.parameters())
    fresh = uneven_task(clip64, features, SEEDS)
    for name in (f.name for f in fields(task)):
        ours, theirs = getattr(task, name), getattr(fresh, name)
        if isinstance(ours, Tensor):
            assert torch.equal(ours, theirs) and ours.grad is None
        else:
            assert ours == theirs


@every
def test_a_replica_equals_its_solo_run(
    case: str, clip64: FrozenCLIP, features: FeatureSet, runs: Callable[[str], Run]
) -> None:
    """Metrics of every epoch that the solo run has, and samples, to 1e-9."""
    together = runs(case)
    for replica, seed in enumerate(SEEDS):
        alone = uneven_task(clip64, features, [seed])
        solo = build(case, alone, clip64, [seed])
        epochs = fit(solo)
        assert len(epochs) <= len(together.epochs)
        for ours, theirs in zip(together.epochs, epochs, strict=False):
            assert ours.keys() == theirs.keys()
            for name, value in theirs.items():
                assert ours[name][replica].item() == pytest.approx(value.item(), abs=1e-9)
        made = solo.sample(unseen(alone), noise([seed]))
        torch.testing.assert_close(together.made[replica], made[0], atol=1e-9, rtol=0)


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


@every
def test_pictures_of_unseen_classes_never_matter(
    case: str, clip64: FrozenCLIP, task: Task, runs: Callable[[str], Run]
) -> None:
    """Turned around, they change nothing, but for the ceiling, which is made of them."""
    turned = run(case, replace(task, unseen_features=-task.unseen_features), clip64)
    assert torch.equal(turned.made, runs(case).made) == (case != "real")
    for ours, theirs in zip(runs(case).epochs, turned.epochs, strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("case", ["vae/early", "mlp_vae/early"])
def test_early_cases_stop_at_different_epochs(
    case: str, clip64: FrozenCLIP, features: FeatureSet, runs: Callable[[str], Run]
) -> None:
    """So that the tests above mean something: one replica at least outlives another's end."""
    tasks = {seed: uneven_task(clip64, features, [seed]) for seed in SEEDS}
    lengths = [len(fit(build(case, alone, clip64, [seed]))) for seed, alone in tasks.items()]
    assert min(lengths) + 1 < max(lengths) < 12
    assert len(runs(case).epochs) == max(lengths)
