"""What every fine-tuner of ship promises beside ship.testing (tests/ship/testing)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import FeatureSet
from ship.finetuners import FINETUNERS, Finetuner
from ship.generators.controls import GaussianText, GaussianTextConfig
from ship.synthesis import Synthesizer, SyntheticConfig
from ship.tasks.task import Task
from tests.ship.conftest import all_seen, build_features, final_task
from tests.ship.finetuners.cases import FAST

SEEDS = [0, 4]
LEARNS: dict[str, dict[str, Any]] = {
    "coop": {"lr": 2.0, "epochs": 40},
    "cocoop": {"lr": 1.0, "epochs": 20, "batch_size": 12},
    "kgcoop": {"lr": 2.0, "epochs": 40},
    "coop_dept": {"lr": 0.05, "epochs": 10},
    "kgcoop_dept": {"lr": 0.05, "epochs": 10},
    "tcp": {"epochs": 30},
    "clip_adapter": {"ratio": 0.6, "lr": 0.02, "epochs": 40},
    "linear_adapter": {"lr": 0.01, "epochs": 30},
    "tip_adapter_f": {"lr": 0.01, "epochs": 30},
    "linear_probe": {"lr": 0.01, "epochs": 30},
    "zs_lp": {"epochs": 30},
    "clap": {"weight": 0.01, "epochs": 30},
    "lp_plus_plus": {"epochs": 30},
}
UNTRAINED = {"zero_shot", "tip_adapter", "gda"}


@pytest.fixture(scope="module")
def task(clip: FrozenCLIP, features: FeatureSet) -> Task:
    """The final task: four base classes with three pictures, four new ones without."""
    return final_task(clip, features, SEEDS, shots=3)


@pytest.fixture(scope="module")
def task64(clip64: FrozenCLIP) -> Task:
    """The same in double precision."""
    return final_task(clip64, build_features(clip64), SEEDS, shots=3)


def synthesizer(
    task: Task, clip: FrozenCLIP, seeds: Sequence[int] = SEEDS, scale: float = 0.1, **config: Any
) -> Synthesizer:
    """Noisy text features as synthetic ones."""
    generator = GaussianText(GaussianTextConfig(scale=scale), task, clip, seeds)
    return Synthesizer(SyntheticConfig(**config), generator, task, seeds)


def build(
    name: str,
    task: Task,
    clip: FrozenCLIP,
    synthetic: Synthesizer | None,
    seeds: Sequence[int] = SEEDS,
) -> Finetuner:
    """A fine-tuner of the given name that trains in no time."""
    config_class, build_it = FINETUNERS[name]
    config = config_class(name=name, **FAST.get(name, {}))
    finetuner: Finetuner = build_it(config, task, synthetic, clip, seeds)
    return finetuner


@pytest.fixture(params=[(name, with_) for name in FINETUNERS for with_ in (False, True)], ids=str)
def case(request: pytest.FixtureRequest) -> tuple[str, bool]:
    """Every fine-tuner, without and with synthetic features."""
    return request.param  # type: ignore[no-any-return]


def of_case(case: tuple[str, bool], task: Task, clip: FrozenCLIP) -> Finetuner:
    """The fine-tuner of a case."""
    return build(case[0], task, clip, synthesizer(task, clip) if case[1] else None)


def pictures(features: FeatureSet, dtype: torch.dtype = torch.float32) -> Tensor:
    """The test pictures."""
    return torch.tensor(features.test, dtype=dtype)


def train(finetuner: Finetuner, n_replicas: int = len(SEEDS)) -> Finetuner:
    """All epochs."""
    for _ in range(finetuner.epochs):
        losses = finetuner.train_epoch()
        assert losses["loss"].shape == (n_replicas,)
    return finetuner


def test_it_is_a_finetuner(case: tuple[str, bool], task: Task, clip: FrozenCLIP) -> None:
    """It has the contract's members, trains or does not, and has a choice at least."""
    finetuner = of_case(case, task, clip)
    assert isinstance(finetuner, Finetuner) and len(finetuner.choices) >= 1
    assert (finetuner.epochs == 0) == (case[0] in UNTRAINED)
    assert len({tuple(choice.items()) for choice in finetuner.choices}) == len(finetuner.choices)


def test_state_round_trip(
    case: tuple[str, bool], task: Task, clip: FrozenCLIP, features: FeatureSet
) -> None:
    """An earlier state, put back, gives the earlier logits; a later epoch cannot reach into it."""
    finetuner = of_case(case, task, clip)
    choice = finetuner.choices[0]
    early = finetuner.logits(pictures(features), choice).clone()
    state = finetuner.state_dict()
    train(finetuner)
    assert torch.equal(finetuner.logits(pictures(features), choice), early) == (
        case[0] in UNTRAINED
    )
    finetuner.load_state_dict(state)
    assert torch.equal(finetuner.logits(pictures(features), choice), early)


def reordered(task: Task, order: Sequence[int]) -> Task:
    """The same task with its class `order[i]` at place i; pictures keep their rows."""
    places = torch.tensor(order)
    place_of = places.argsort()
    return replace(
        task,
        class_names=tuple(task.class_names[c] for c in order),
        text_features=task.text_features[places],
        seen=task.seen[:, places],
        labels=place_of[task.labels],
        unseen_first=task.unseen_first[:, places],
        unseen_count=task.unseen_count[:, places],
        held_out_labels=place_of[task.held_out_labels],
    )


@pytest.mark.parametrize(
    ("order", "scale", "trained"),
    [
        # new classes keep their order among themselves, and so each its noise
        ([4, 2, 5, 0, 6, 3, 1, 7], 0.1, True),
        # any order: the noise would fall to other classes
        ([6, 2, 5, 0, 7, 3, 1, 4], 0.0, False),
    ],
    ids=["trained", "untrained"],
)
def test_logits_follow_the_classes(
    case: tuple[str, bool],
    task64: Task,
    clip64: FrozenCLIP,
    features: FeatureSet,
    order: list[int],
    scale: float,
    trained: bool,
) -> None:
    """With classes in another order, logits are the same in that order."""
    made = []
    for t in (task64, reordered(task64, order)):
        synthetic = synthesizer(t, clip64, scale=scale) if case[1] else None
        finetuner = build(case[0], t, clip64, synthetic)
        made.append(train(finetuner) if trained else finetuner)
    x = pictures(features, torch.float64)
    for choice in made[0].choices:
        plain, moved = (f.logits(x, choice) for f in made)
        torch.testing.assert_close(moved, plain[:, :, order], atol=1e-8, rtol=0)


@pytest.mark.parametrize(
    # a synthetic feature is a key of Tip-Adapter's cache, whatever the weight of its loss
    "name",
    sorted(set(FINETUNERS) - {"zero_shot", "tip_adapter", "tip_adapter_f"}),
)
def test_synthetic_features_of_no_weight_change_nothing(
    name: str, task64: Task, clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """Where pictures of all classes are there, the run tends to the one without synthesis."""
    few = all_seen(task64)
    x = pictures(features, torch.float64)
    made = []
    for synthetic in (None, synthesizer(few, clip64, weight=1e-14)):
        finetuner = train(build(name, few, clip64, synthetic))
        made.append(finetuner.logits(x, finetuner.choices[0]))
    torch.testing.assert_close(made[0], made[1], atol=1e-6, rtol=0)
    heavy = train(build(name, few, clip64, synthesizer(few, clip64, weight=1.0)))
    assert bool((heavy.logits(x, heavy.choices[0]) - made[0]).abs().max() > 1e-3)


@pytest.mark.parametrize("name", [n for n in FINETUNERS if n not in UNTRAINED])
def test_training_lowers_the_loss(name: str, task: Task, clip: FrozenCLIP) -> None:
    """The trained ones learn something from real features alone."""
    config_class, build_it = FINETUNERS[name]
    finetuner = build_it(config_class(name=name, **LEARNS[name]), task, None, clip, SEEDS)
    losses = [finetuner.train_epoch()["loss"] for _ in range(finetuner.epochs)]
    assert bool((torch.stack(losses[-5:]).mean(0) < torch.stack(losses[:5]).mean(0)).all())
