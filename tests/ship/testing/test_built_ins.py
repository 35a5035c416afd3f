"""The built-in methods and the example plugin meet all requirements of ship.testing.

Further tests are of requirements on built-in methods only.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs import FINETUNERS, GENERATORS
from ship.generators import build_generator
from ship.seeds import SeedRng
from ship.tasks import Task
from ship.testing import Bench, check_finetuner, check_generator
from ship.testing.bench import MethodCase
from ship.testing.checks import FINETUNER_CHECKS, GENERATOR_CHECKS
from tests.case_files import mark_slow_cases
from tests.ship.conftest import all_seen, final_task
from tests.ship.finetuners.cases import CASES as FINETUNER_CASES
from tests.ship.finetuners.cases import FAST, SEEDS, built, trained
from tests.ship.generators.cases import CASES, WITHOUT_NOISE, build, fit

PLUGINS: dict[str, tuple[str, None]] = {
    name: (name, None) for name in ("residual_text", "noisy_text", "ridge", "nearest_mean")
}


@pytest.mark.parametrize(
    "case", mark_slow_cases([*CASES, "residual_text", "noisy_text"], ("vae", "wgan", "noisy_text"))
)
def test_every_generator_meets_the_requirements(case: str, example: None, bench: Bench) -> None:
    """All checks of ship.testing pass."""
    name, settings = {**CASES, **PLUGINS}[case]
    results = list(check_generator(name, settings, bench))
    assert len(results) == len(GENERATOR_CHECKS)
    assert [str(result) for result in results if not result.passed] == []


@pytest.mark.parametrize(
    "case",
    mark_slow_cases([*FINETUNER_CASES, "ridge", "nearest_mean"], ("coop", "gda", "nearest_mean")),
)
def test_every_finetuner_meets_the_requirements(case: str, example: None, bench: Bench) -> None:
    """All checks pass without and with synthetic features."""
    name, settings = {**FINETUNER_CASES, **PLUGINS}[case]
    results = list(check_finetuner(name, settings, bench))
    assert len(results) == 2 * len(FINETUNER_CHECKS)
    assert [str(result) for result in results if not result.passed] == []


def test_every_method_has_a_test_case() -> None:
    """A registered method cannot be omitted."""
    built = {name for name, entry in GENERATORS.items() if entry.method is not None}
    assert {name for name, _ in CASES.values()} == built


def reordered(task: Task, order: Sequence[int]) -> Task:
    """Return the same task with class `order[i]` at position i."""
    places = torch.tensor(order)
    place_of = places.argsort()
    return replace(
        task,
        class_names=tuple(task.class_names[c] for c in order),
        text_features=task.text_features[places],
        seen=task.seen[:, places],
        labels=place_of[task.labels],
    )


@pytest.mark.slow
@pytest.mark.parametrize("synthetic", [False, True])
@pytest.mark.parametrize("case", list(FINETUNER_CASES))
def test_logits_do_not_depend_on_the_order_of_classes(
    case: str, synthetic: bool, bench: Bench
) -> None:
    """On one seed's task; unseen classes keep their order if their noise depends on it."""
    name, settings = FINETUNER_CASES[case]
    case = MethodCase(FINETUNERS[name](**settings), bench, synthetic)
    seeds = bench.seeds[:1]
    task = bench.task(seeds)
    seen, unseen = (ids[0].nonzero()[:, 0].tolist() for ids in (task.seen, ~task.seen))
    order = [*(unseen if synthetic else reversed(unseen)), *reversed(seen)]
    plain, moved = (case.train(t, seeds).outputs for t in (task, reordered(task, order)))
    for ours, theirs in zip(moved, plain, strict=True):
        torch.testing.assert_close(ours, theirs[..., order], atol=1e-8, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    # a synthetic feature is a key of Tip-Adapter's cache, whatever the weight of its loss
    "name",
    sorted(set(FINETUNERS) - {"zero_shot", "tip_adapter", "tip_adapter_f"}),
)
def test_synthetic_features_of_weight_0_change_nothing(
    name: str, clip64: FrozenCLIP, bench: Bench
) -> None:
    """If all classes have images, the run converges to the one without synthesis."""
    few = all_seen(final_task(clip64, bench.features, SEEDS, shots=3))
    actual = [trained(built(name, FAST.get(name, {}), few, clip64, w)) for w in (None, 1e-14, 1.0)]
    plain, light, heavy = (
        method.logits(bench.images, method.inference_grid[0]) for method in actual
    )
    torch.testing.assert_close(plain, light, atol=1e-6, rtol=0)
    assert bool((heavy - plain).abs().max() > 1e-3)


@pytest.mark.parametrize("name", ["vae", "mlp_vae"])
def test_fitting_lowers_the_squared_error(name: str, clip64: FrozenCLIP, bench: Bench) -> None:
    """By a fifth within a few epochs, for every seed."""
    task = final_task(clip64, bench.features, SEEDS, shots=3)
    settings = {**CASES[name][1], "kl_weight": 1e-3, "epochs": 15, "batch_size": 256}
    vae = build_generator(GENERATORS[name](**settings), task, clip64, SEEDS)
    assert vae is not None
    errors = [vae.train_epoch()["reconstruction"] for _ in range(15)]
    assert bool((errors[-1] < 0.8 * errors[0]).all())


class Permuted(SeedRng):
    """The same draws for the rows of a batch in another order."""

    def __init__(self, seeds: tuple[int, ...], order: Tensor) -> None:
        super().__init__(seeds, "testing/noise", dtype=torch.float64)
        self._order = order

    def normal(self, *shape: int) -> Tensor:
        return super().normal(*shape)[:, self._order]

    def integers(self, high: int, size: int) -> Tensor:
        return super().integers(high, size)[:, self._order]


@pytest.mark.parametrize("case", list(CASES))
def test_sample_depends_only_on_class_and_noise(case: str, bench: Bench) -> None:
    """The position in the batch does not matter, except for real images."""
    task = bench.task(bench.seeds)
    generator = build(case, task, bench.clip, bench.seeds)
    fit(generator)
    ids = task.synthetic_ids.repeat(1, 2)
    actual = generator.sample(ids, bench.noise(bench.seeds))
    other = generator.sample(ids, bench.noise(bench.seeds, "other"))
    assert torch.equal(other, actual) == (case in WITHOUT_NOISE)
    if case != "real":
        order = torch.tensor([2, 0, 3, 1])
        moved = generator.sample(ids[:, order], Permuted(bench.seeds, order))
        torch.testing.assert_close(moved, actual[:, order], atol=1e-12, rtol=0)
