"""A seed with NaN fails, and does not affect the other seeds."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.finetuners.batched import BatchedFinetuner
from ship.generators.batched import BatchedGenerator
from ship.state import Checkpoint
from ship.subsets import FeatureSet
from ship.trial.run import run_trial
from ship.trial_config import EpochMetrics, NonFiniteLoss
from tests.case_files import mark_slow_cases
from tests.ship.conftest import build_features
from tests.ship.trial.cases import SETTINGS, config

# seed 6 chooses its last epoch, the others the untrained fine-tuner
SEEDS, PLACE = [7, 6, 2], 1
OTHERS = [7, 2]

Spoil = Callable[..., None]


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Spoil:
    """Set parameters of some seeds to NaN in an epoch of the n-th trained object."""

    def arrange(
        kind: type,
        epoch: int,
        nth: int = 0,
        places: tuple[int, ...] = (PLACE,),
        after: bool = False,
    ) -> None:
        objects: list[Any] = []
        epochs: list[int] = []
        train = kind.train_epoch

        def damage(self: Any) -> None:
            with torch.no_grad():
                for value in self.stack.trained.values():
                    value[list(places)] = torch.nan

        def train_epoch(self: Any) -> dict[str, Tensor]:
            if self not in objects:
                objects.append(self)
                epochs.append(0)
            number = objects.index(self)
            epochs[number] += 1
            now = number == nth and epochs[number] == epoch
            if now and not after:
                damage(self)
            metrics: dict[str, Tensor] = train(self)
            if now and after:
                damage(self)
            return metrics

        monkeypatch.setattr(kind, "train_epoch", train_epoch)

    return arrange


def run(
    clip: FrozenCLIP, changes: dict[str, Any], seeds: list[int], keep: bool = False
) -> tuple[list[EpochMetrics], Any]:
    """Run a whole trial in double precision; return its metrics and the run."""
    setting, features = config(**changes), build_features(clip)
    targets = dict.fromkeys(setting.targets, features)
    trial = run_trial(
        setting, seeds, features, clip, targets, dtype=torch.float64, save_models=keep
    )
    return list(trial), trial


GENERATED = {"generator": SETTINGS["wgan"]}
ACROSS = {"protocol": "cross_dataset", "targets": ["here", "there"]}
PATIENT = {"generator": SETTINGS["patient"]}
# damaged part, epoch and object (0: of selection) -> stage, epoch and name in the reason
CASES = [
    ({}, BatchedFinetuner, {"epoch": 3}, "loss is not finite at stage selection, epoch 3"),
    ({}, BatchedFinetuner, {"epoch": 4}, "logits are not finite at stage selection, epoch 4"),
    ({}, BatchedFinetuner, {"epoch": 1, "nth": 1}, "loss is not finite at stage final, epoch 1"),
    (
        {},
        BatchedGenerator,
        {"epoch": 2},
        "loss is not finite at stage selection_generator, epoch 2",
    ),
    (
        {"quality": False, "finetuner": "gda"},
        BatchedGenerator,
        {"epoch": 3, "after": True},
        "the generator's weights are not finite at stage selection_generator, epoch 3",
    ),
    (
        {"finetuner": {"name": "lp_plus_plus", "epochs": 4}},
        BatchedGenerator,
        {"epoch": 2, "nth": 1},
        "loss is not finite at stage final_generator, epoch 2",
    ),
    (GENERATED, BatchedGenerator, {"epoch": 1}, "stage selection_generator, epoch 1"),
    (PATIENT, BatchedGenerator, {"epoch": 1}, "stage selection_generator, epoch 1"),
    (
        {**PATIENT, "selection": "authors"},
        BatchedFinetuner,
        {"epoch": 2, "nth": 1},
        "loss is not finite at stage selection, epoch 6",
    ),
    (
        {"selection": "base_val", "protocol": "few_shot"},
        BatchedFinetuner,
        {"epoch": 1},
        "loss is not finite at stage selection, epoch 1",
    ),
    ({"selection": "none"}, BatchedFinetuner, {"epoch": 2}, "stage final, epoch 2"),
    ({**ACROSS, "selection": "none"}, BatchedFinetuner, {"epoch": 2}, "stage final, epoch 2"),
    ({**ACROSS, "selection": "none"}, BatchedFinetuner, {"epoch": 2, "nth": 1}, "final, epoch 2"),
    (
        {"protocol": "generalized_zero_shot"},
        BatchedFinetuner,
        {"epoch": 2},
        "stage selection, epoch 2",
    ),
]


@pytest.mark.parametrize(
    ("changes", "kind", "when", "reason"), mark_slow_cases(CASES, CASES[:5:2]), ids=str
)
def test_other_seeds_are_unaffected_by_a_failed_one(
    clip64: FrozenCLIP,
    spoil: Spoil,
    changes: dict[str, Any],
    kind: type,
    when: dict[str, Any],
    reason: str,
) -> None:
    """The failed seed has no further numbers, but a reason."""
    alone, _ = run(clip64, changes, OTHERS)
    spoil(kind, **when)
    actual, _ = run(clip64, changes, SEEDS)
    last = actual[-1]
    assert list(last.failed) == [PLACE] and reason in last.failed[PLACE]
    first = next(item for item in actual if item.failed)
    assert f"stage {first.stage}, epoch {first.epoch}" in last.failed[PLACE] or "weights" in reason
    by_epoch = {(item.stage, item.epoch): item for item in actual}
    # the failed seed may have chosen a later epoch than the others
    stages = [[item.stage for item in items if item.stage != "final"] for items in (actual, alone)]
    assert stages[0] == stages[1]
    for item in alone:
        expected_item = last if item.stage == "test" else by_epoch[item.stage, item.epoch]
        assert expected_item.per_seed.keys() == item.per_seed.keys()
        for name, values in item.per_seed.items():
            result = expected_item.per_seed[name]
            assert (result[PLACE] is None) == (PLACE in expected_item.failed)
            other_values = [value for place, value in enumerate(result) if place != PLACE]
            assert other_values == pytest.approx(values, abs=1e-9), (item.stage, item.epoch, name)
    for eval_set, clean in zip(
        last.correct_predictions, alone[-1].correct_predictions, strict=True
    ):
        for answer, rows in eval_set.correct.items():
            assert rows == (clean.correct[answer][0], b"", clean.correct[answer][1])


@pytest.mark.parametrize("kind", [BatchedFinetuner, BatchedGenerator])
def test_trial_ends_when_all_seeds_have_failed(
    clip: FrozenCLIP, features: FeatureSet, spoil: Spoil, kind: type
) -> None:
    """The error has the reason of every seed, including earlier ones."""
    spoil(kind, 1, places=(0, 2))
    spoil(kind, 2, places=(1,))
    with pytest.raises(NonFiniteLoss) as raised:
        list(run_trial(config(eval_every=1), SEEDS, features, clip))
    assert sorted(raised.value.failed) == [0, 1, 2]
    assert "epoch 1" in raised.value.failed[0] and "epoch 2" in raised.value.failed[1]
    assert "(seed indices 0, 2); " in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "kind", "nth"),
    [
        ({}, BatchedFinetuner, 0),
        ({"selection": "none"}, BatchedFinetuner, 0),
        pytest.param({}, BatchedGenerator, 0, marks=pytest.mark.slow),
        ({**ACROSS, "selection": "none"}, BatchedFinetuner, 0),
    ],
)
def test_resumed_trial_keeps_its_failed_seeds(
    clip: FrozenCLIP, spoil: Spoil, changes: dict[str, Any], kind: type, nth: int
) -> None:
    """It is bitwise equal to an uninterrupted trial."""
    setting, features = config(**changes), build_features(clip)
    targets = dict.fromkeys(setting.targets, features)
    spoil(kind, 1, nth=nth)
    trial = run_trial(setting, SEEDS, features, clip, targets)
    whole, stops = [], []
    for item in trial:
        whole.append(item)
        if item.failed and item.stage != "test":
            stops.append(trial.checkpoint().to_bytes())
    assert stops and list(whole[-1].failed) == [PLACE]
    for data in stops:
        resumed = run_trial(
            setting, SEEDS, features, clip, targets, resume=Checkpoint.from_bytes(data)
        )
        assert list(resumed) == whole
