"""Operations that are told of trials against those that real ones take."""

from itertools import chain
from typing import Any

import pytest

from ship.cost import alike, count_trial
from ship.finetuners import FINETUNERS
from ship.generators import GENERATORS
from ship.trial_config import TrialConfig
from tests.ship.cost import counting

# A batch is drawn at random, and its names are as long as they are: in these trials of few steps
# one draw differs from the next by so much.
TOLERANCE = 0.02


def config(**changes: Any) -> TrialConfig:
    """A trial of a second whose later epochs are extrapolated, not counted."""
    settings = {
        "max_classes": 12,
        "shots": 2,
        "generator": {**counting.VAE, "epochs": 3},
        "finetuner": {**counting.FINETUNERS["coop"][0], "epochs": 5},
    }
    return TrialConfig(**{**settings, **changes})


def check(setting: TrialConfig, seeds: int = 2) -> None:
    """What is told of the epochs that ran is what they took."""
    told, taken = counting.pocket().compare(setting, seeds)
    assert told == pytest.approx(taken, rel=TOLERANCE)


def test_every_method_has_a_case() -> None:
    """A new generator or fine-tuner needs a case here, and nothing else to be counted."""
    assert GENERATORS.keys() == counting.GENERATORS.keys()
    assert FINETUNERS.keys() == counting.FINETUNERS.keys()


@pytest.mark.parametrize("generator", [*chain(*counting.GENERATORS.values())], ids=str)
def test_generators(generator: dict[str, Any]) -> None:
    """Every generator with CoOp."""
    check(config(generator=generator))


@pytest.mark.parametrize("finetuner", [*chain(*counting.FINETUNERS.values())], ids=str)
def test_finetuners(finetuner: dict[str, Any]) -> None:
    """Every fine-tuner with the VAE."""
    check(config(finetuner=finetuner))


@pytest.mark.parametrize("name", ["coop", "tip_adapter_f", "gda"])
def test_fixed_synthetic_sets(name: str) -> None:
    """Features drawn once cost once, however many epochs run."""
    synthetic = {"draw": "fixed", "per_class": 3, "ratio": 2.0}
    finetuner = {**counting.FINETUNERS[name][0]}
    if "epochs" in finetuner:
        finetuner["epochs"] = 6
    check(config(finetuner=finetuner, synthetic=synthetic))


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": "few_shot", "selection": "base_val"},
        {"protocol": "few_shot", "selection": "test"},
        {"protocol": "generalized_zero_shot"},
        {"protocol": "single_unseen"},
        {"selection": "base_val", "eval_every": 2},
        {"selection": "test"},
        {"selection": "none"},
        {"selection": "reference"},
        {"quality": False, "eval_every": 3},
    ],
    ids=str,
)
def test_protocols(changes: dict[str, Any]) -> None:
    """Every protocol and selection within one dataset."""
    check(config(**changes))


@pytest.mark.slow
@pytest.mark.parametrize("selection", ["pseudo_new", "base_val"])
def test_cross_dataset(selection: str) -> None:
    """A fine-tuner a target; names that the source has are not synthesized."""
    whole = counting.pocket().features
    targets = {"a": counting.target(whole, 10, 26), "b": counting.target(whole, 20, 30)}
    setting = config(protocol="cross_dataset", targets=("a", "b"), selection=selection)
    told, taken = counting.pocket().compare(setting, targets=targets)
    assert told == pytest.approx(taken, rel=TOLERANCE)


def test_an_epoch_of_very_many_steps_is_counted_with_fewer_pictures() -> None:
    """A step takes one picture: an epoch of 96 is told by one of a part of them."""
    finetuner = {"name": "cocoop", "epochs": 1, "batch_size": 1}
    check(config(finetuner=finetuner, generator="none", shots=16, max_classes=12), seeds=1)


def test_an_early_end_costs_less() -> None:
    """The epochs that ran are counted, where they are known."""
    bench, setting = counting.pocket(), config()
    counted = count_trial(setting, bench.features, {}, bench.blank, 2)
    ran = {"selection_generator": 3, "selection": 6, "final_generator": 3, "final": 5}
    whole = counted.flops(setting, 2)
    assert counted.flops(setting, 2, ran) == pytest.approx(whole)
    assert counted.flops(setting, 2, {**ran, "final_generator": 1}) < 0.9 * whole
    longer = config(generator={**counting.VAE, "epochs": 30})
    assert alike(longer) == alike(setting)
    assert counted.flops(longer, 2) > 3 * whole


def test_one_count_stands_for_trials_that_are_alike() -> None:
    """Epochs and what replicas may differ in need no count of their own; sizes do."""
    own = config()
    weighted = config(generator={**counting.VAE, "kl_weight": 0.5, "lr": 0.1, "epochs": 9})
    assert alike(own) == alike(weighted)
    assert alike(own) != alike(config(generator={**counting.VAE, "latent_dim": 17}))
    assert alike(own) != alike(config(shots=3))


def test_nothing_is_computed_where_it_is_large() -> None:
    """The numbers of a large product are made up; a covariance stays one."""
    import torch

    from ship.cost import Counter

    x, y = torch.randn(300, 600), torch.randn(600, 500)
    with Counter() as counter:
        made, square = x @ y, x @ x.T
        small = x[:3] @ y
    assert counter.flops == 2 * (300 * 600 * 500 + 300 * 300 * 600 + 3 * 600 * 500)
    assert not torch.allclose(made, x @ y, atol=1.0)
    assert torch.equal(square, x @ x.T)
    assert torch.equal(small, x[:3] @ y)
