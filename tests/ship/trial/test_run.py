"""Whole trials on the tiny CLIP: stages, metrics, seeds and rejected input."""

from typing import Any

import pytest
import torch

from ship.clip import FrozenCLIP
from ship.finetuners.batched import BatchedFinetuner
from ship.subsets import FeatureSet
from ship.trial.run import run_trial
from ship.trial_config import EpochMetrics, NonFiniteLoss
from tests.case_files import mark_slow_cases
from tests.ship.conftest import build_features
from tests.ship.trial.cases import COOP, TRIALS, VAE, make_config

PERCENT = ("base", "new", "harmonic_mean", "joint_base", "joint_new", "joint_harmonic_mean")


@pytest.mark.parametrize(
    "changes", mark_slow_cases(TRIALS["batched"], TRIALS["batched"][:2]), ids=str
)
def test_seed_equals_its_solo_run(clip64: FrozenCLIP, changes: dict[str, Any]) -> None:
    """Every metric of seed 2 is the same whether or not seeds 7 and 0 are in the trial."""
    config = make_config(**changes)
    features = build_features(clip64)
    batched = list(run_trial(config, [7, 2, 0], features, clip64, dtype=torch.float64))
    solo = list(run_trial(config, [2], features, clip64, dtype=torch.float64))
    solo_by_epoch = {(m.stage, m.epoch): m for m in solo}
    n_compared = 0
    for m in batched:
        solo_metrics = solo[-1] if m.stage == "test" else solo_by_epoch.get((m.stage, m.epoch))
        if solo_metrics is None:
            # a later epoch may be selected for another seed, so that the trial retrains for longer
            assert m.stage == "final"
            continue
        for name, values in m.per_seed.items():
            expected = pytest.approx(solo_metrics.per_seed[name][0], abs=1e-9)
            assert values[1] == expected, (m.stage, name)
            n_compared += 1
    assert n_compared >= 12


@pytest.mark.parametrize(("selection", "stages"), TRIALS["stages"].items())
def test_stages_come_in_order_and_end_with_the_test(
    clip: FrozenCLIP, features: FeatureSet, selection: str, stages: list[str]
) -> None:
    """Test metrics are reported once, and progress never decreases."""
    actual = list(run_trial(make_config(selection=selection), [0, 1, 2, 3], features, clip))
    assert list(dict.fromkeys(m.stage for m in actual)) == stages
    assert [m.stage for m in actual].count("test") == 1
    assert all(0 <= value <= 100 for name in PERCENT for value in actual[-1].per_seed[name])
    progress = [m.progress for m in actual]
    assert progress == sorted(progress) and progress[-1] == 1
    evaluated = [m.epoch for m in actual if m.stage == "selection" and "base" in m.per_seed]
    assert evaluated == ([] if selection == "none" else [0, 2, 4])


def test_non_finite_loss_of_all_seeds_ends_the_trial(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """The message has the stage, the epoch and the indices of the seeds."""
    broken = make_config(generator={**VAE, "lr": 1e30})
    with pytest.raises(
        NonFiniteLoss, match=r"stage selection_generator, epoch \d \(seed indices 0\)"
    ):
        list(run_trial(broken, [5], features, clip))
    with pytest.raises(NonFiniteLoss) as raised:
        EpochMetrics("final", 1, 0.5, {"loss": (1.0, float("nan"), 0.5, float("inf"))})
    assert [*raised.value.failed] == [1, 3]


@pytest.mark.parametrize("values", [(1.0, 2.0), (None, None), (None, 2.0)])
def test_only_failed_seeds_have_no_value(values: tuple[float | None, ...]) -> None:
    """Another value is not reported as a non-finite one."""
    rule = r"loss at stage final, epoch 1: must be None for the failed seeds \(indices \[1\]\)"
    with pytest.raises(ValueError, match=rule) as raised:
        EpochMetrics("final", 1, 0.5, {"loss": values}, failed={1: "loss is not finite"})
    assert not isinstance(raised.value, NonFiniteLoss)


@pytest.mark.parametrize(
    "broken",
    [
        {"generator": "none", "finetuner": {**COOP, "lr": 1e38, "epochs": 1}},
        {"generator": {**VAE, "lr": 1e30, "epochs": 1}, "finetuner": "tip_adapter"},
    ],
    ids=str,
)
@pytest.mark.parametrize("quality", [True, False])
def test_non_finite_logits_fail_the_seed(
    clip: FrozenCLIP, features: FeatureSet, broken: dict[str, Any], quality: bool
) -> None:
    """The loss is computed before the last step, and argmax would return a class for NaN."""
    with pytest.raises(NonFiniteLoss, match=r"not finite.* \(seed indices 0\)"):
        list(run_trial(make_config(quality=quality, **broken), [5], features, clip))


@pytest.mark.parametrize(("max_classes", "n_classes"), [(6, 6), (99, 8)])
def test_max_classes_uses_the_first_classes(
    clip: FrozenCLIP, features: FeatureSet, max_classes: int, n_classes: int
) -> None:
    """Other classes have no effect. A limit above the number of classes uses all of them."""
    limited = list(run_trial(make_config(max_classes=max_classes), [0], features, clip))
    assert limited == list(run_trial(make_config(), [0], features.first_classes(n_classes), clip))


def test_seed_cannot_fail_after_its_selected_epoch(
    clip: FrozenCLIP, features: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is trained further only because later epochs were selected for other seeds."""
    config = make_config(eval_every=1, finetuner={**COOP, "lr": 2.0})
    actual = list(run_trial(config, [0, 1, 2], features, clip))
    selected = actual[-1].per_seed["selection_epoch"]
    last = max(selected)
    assert min(selected) < last
    n_epochs = 0

    class Diverging(BatchedFinetuner):
        def train_epoch(self) -> dict[str, torch.Tensor]:
            nonlocal n_epochs
            losses = super().train_epoch()
            n_epochs += 1
            is_later = torch.tensor(selected) < n_epochs - COOP["epochs"]
            return {"loss": torch.where(is_later, torch.nan, losses["loss"])}

    monkeypatch.setattr("ship.finetuners.BatchedFinetuner", Diverging)
    with_nan = list(run_trial(config, [0, 1, 2], features, clip))
    assert n_epochs == COOP["epochs"] + last
    assert with_nan[-1] == actual[-1]
