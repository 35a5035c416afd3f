"""The calibration: a few real epochs that stand for a trial."""

from typing import Any

import pytest
import torch

from harness.method import Method
from harness.planning.calibration import calibrate, fitting
from harness.resources.cost import CountedCosts
from ship.cost import BlankCLIP, Rates, count_trial, random_features, shortened
from ship.cost.epochs import EPOCHS
from ship.trial.run import run_trial
from ship.trial_config import TrialConfig
from tests.ship.cost import counting

VAE = {**counting.VAE, "epochs": 30}
COOP = {"name": "coop", "epochs": 20, "batch_size": 16}


def config(**changes: Any) -> TrialConfig:
    """A trial of 30 + 20 epochs."""
    return TrialConfig(
        **{"max_classes": 10, "shots": 2, "generator": VAE, "finetuner": COOP, **changes}
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"protocol": "single_unseen", "unseen_class": "anchor"},
        {"protocol": "cross_dataset", "targets": ("photos",)},
        {"generator": "none", "finetuner": "zero_shot"},
    ],
    ids=str,
)
def test_a_few_epochs_are_run_and_nothing_is_extracted(changes: dict[str, Any]) -> None:
    """Real code, random features; threads are as they were afterwards."""
    ran: dict[str, int] = {}

    def run(
        short: TrialConfig, seeds: Any, features: Any, clip: Any, targets: Any, resume: Any
    ) -> Any:
        for item in run_trial(short, seeds, features, clip, targets):
            ran[item.stage] = ran.get(item.stage, 0) + 1
            yield item

    def never(*_: Any) -> None:
        raise RuntimeError("features were extracted")

    method = Method(run, lambda *_: counting.pocket().clip, extract=never)
    costs, before = CountedCosts(None), torch.get_num_threads()
    found = calibrate(config(**changes), 2, costs, method, "cpu", 1)
    assert found.seconds_per_flop > 0
    assert 0 < found.took < 60
    # epoch 0; and once more without selection, where an early epoch was the best
    assert max(ran.values()) <= 2 * EPOCHS + 1
    assert ran.get("final", EPOCHS) >= EPOCHS
    assert torch.get_num_threads() == before


def test_seconds_are_counted_epoch_by_epoch() -> None:
    """What an epoch takes is neither the first one's time nor the evaluated one's."""
    whole = config(eval_every=5)
    spent = {
        "selection_generator": [9.0, 1.0, 1.0, 1.0, 1.0],
        "selection_quality": [7.0],
        "selection": [0.5, 5.0, 2.0, 2.0, 2.0, 2.5],
        "final_generator": [1.0] * 5,
        "final": [2.0] * 5,
        "test": [3.0],
    }
    total = sum(map(sum, spent.values()))
    more = 2 * 25 * 1.0 + 2 * 15 * 2.0 + 3 * 0.5  # four evaluations beside epoch 0's
    assert Rates.of(shortened(whole), spent).total(whole) == pytest.approx(total + more)
    targets = {**spent, "final": [2.0] * 15}
    assert Rates.of(shortened(whole), targets).total(whole) == pytest.approx(
        total + more + 2.0 * 10 + 2 * 15 * 2.0
    )


def test_a_large_setting_is_measured_smaller() -> None:
    """Fewer seeds first, then pictures, then classes; a small one as it is."""
    costs, large = CountedCosts(None), config(max_classes=20, shots=8)
    assert fitting(config(), 3, costs, 1e15) == (config(), 3)
    whole = costs(shortened(large), 8)
    smaller, n_seeds = fitting(large, 8, costs, whole / 3)
    assert (smaller, n_seeds) == (large, 2)
    smaller, n_seeds = fitting(large, 8, costs, 0.0)
    assert (smaller.shots, n_seeds) == (1, 1)
    assert smaller.max_classes is not None and smaller.max_classes < 16


def test_costs_need_names_and_labels_alone() -> None:
    """Without weights or features they are those of the loaded data set."""
    setting = config(precision="bf16")
    blank = BlankCLIP("pocket", "bf16")
    counted = count_trial(setting, counting.pocket().features, {}, blank, 3)
    assert CountedCosts(None)(setting, 3) == pytest.approx(counted.flops(setting, 3), rel=0.02)
    with pytest.raises(ValueError, match="unknown dataset"):
        CountedCosts(None)(config(dataset="nothing"), 1)


def test_a_short_trial_is_evaluated_as_often_as_it_says() -> None:
    """Its shortened form has all of its epochs, but one evaluation alone."""
    own = config(generator="none", finetuner={**COOP, "epochs": 5}, eval_every=1)
    spent = {"selection": [100.0, 1.0, 1.0, 1.0, 1.0, 101.0]}
    assert Rates.of(shortened(own), spent).total(own) == pytest.approx(5 * 1 + 6 * 100)


def test_noise_is_made_for_pictures_that_a_draw_can_show() -> None:
    """A class has no more than `shots`; every class keeps some."""
    bare = CountedCosts(None).bare("emoji")
    made = random_features(bare, config(shots=1, max_classes=10, views=3), 4)
    assert sorted(made.train_labels.tolist()) == list(range(10))
    assert made.train.shape == (10, 4, 4)
    whole = random_features(bare, config(shots=None, max_classes=10), 4)
    assert len(whole.train_labels) == len(whole.train) > 10
