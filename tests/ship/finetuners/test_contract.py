"""One contract, run over every fine-tuner with and without synthetic features."""

import pytest
import torch

from ship.backbone import FrozenCLIP
from ship.features import FeatureSet
from ship.finetuners import FINETUNERS, Finetuner
from ship.finetuners.base import classification_loss
from ship.finetuners.coop import CoOp, CoOpConfig
from ship.finetuners.tip_adapter import TipAdapter, TipAdapterConfig, cache_logits
from ship.finetuners.zero_shot import ZeroShot, ZeroShotConfig
from ship.generators.controls import GaussianText, GaussianTextConfig
from ship.protocols import base_to_new
from ship.synthesis import Synthesizer, SyntheticConfig
from ship.task import Task
from ship.trial_config import TrialConfig

SEEDS = [0, 4]
FAST = {"coop": {"lr": 0.05, "epochs": 3}, "tip_adapter_f": {"epochs": 3, "batch_size": 8}}


@pytest.fixture(scope="module")
def task(clip: FrozenCLIP, features: FeatureSet) -> Task:
    """The final task: four base classes with three pictures, four new ones without."""
    final = base_to_new(TrialConfig(shots=3), SEEDS, features, clip).final
    assert final is not None
    return final


def build(name: str, task: Task, clip: FrozenCLIP, synthetic: bool) -> Finetuner:
    """A fine-tuner of the given name, with text features as synthetic ones or with none."""
    config_class, build_it = FINETUNERS[name]
    synthesizer = None
    if synthetic:
        generator = GaussianText(GaussianTextConfig(scale=0.1), task, clip, SEEDS)
        synthesizer = Synthesizer(SyntheticConfig(), generator, task, SEEDS)
    config = config_class(name=name, **FAST.get(name, {}))
    finetuner: Finetuner = build_it(config, task, synthesizer, clip, SEEDS)
    return finetuner


@pytest.fixture(params=[(name, with_) for name in FINETUNERS for with_ in (False, True)], ids=str)
def case(request: pytest.FixtureRequest) -> tuple[str, bool]:
    """Every fine-tuner, without and with synthetic features."""
    return request.param  # type: ignore[no-any-return]


def pictures(features: FeatureSet) -> torch.Tensor:
    """The test pictures."""
    return torch.tensor(features.test)


def train(finetuner: Finetuner) -> Finetuner:
    """All epochs."""
    for _ in range(finetuner.epochs):
        losses = finetuner.train_epoch()
        assert losses["loss"].shape == (len(SEEDS),)
    return finetuner


def test_logits_cover_all_classes(
    case: tuple[str, bool], task: Task, clip: FrozenCLIP, features: FeatureSet
) -> None:
    """Every replica scores every class, those without pictures too, under every choice."""
    finetuner = train(build(case[0], task, clip, case[1]))
    for choice in finetuner.choices:
        logits = finetuner.logits(pictures(features), choice)
        assert logits.shape == (2, len(features.test), 8)
        assert bool(logits.isfinite().all()) and not logits.requires_grad


def test_deterministic_by_seed(
    case: tuple[str, bool], task: Task, clip: FrozenCLIP, features: FeatureSet
) -> None:
    """Two runs of the same seeds give the same bits."""
    made = [train(build(case[0], task, clip, case[1])) for _ in range(2)]
    choice = made[0].choices[0]
    first, second = (f.logits(pictures(features), choice) for f in made)
    assert torch.equal(first, second)


def test_clip_is_left_alone(case: tuple[str, bool], task: Task, clip: FrozenCLIP) -> None:
    """Training changes no weight of CLIP and none of the task's tensors."""
    before = {k: v.clone() for k, v in clip._model.state_dict().items()}
    held = task.features.clone(), task.text_features.clone()
    train(build(case[0], task, clip, case[1]))
    assert all(torch.equal(v, before[k]) for k, v in clip._model.state_dict().items())
    assert torch.equal(held[0], task.features) and torch.equal(held[1], task.text_features)


def test_state_round_trip(
    case: tuple[str, bool], task: Task, clip: FrozenCLIP, features: FeatureSet
) -> None:
    """An earlier state, put back, gives the earlier logits; a later epoch cannot reach into it."""
    finetuner = build(case[0], task, clip, case[1])
    choice = finetuner.choices[0]
    early = finetuner.logits(pictures(features), choice).clone()
    state = finetuner.state()
    train(finetuner)
    finetuner.load_state(state)
    assert torch.equal(finetuner.logits(pictures(features), choice), early)


@pytest.mark.parametrize("name", ["coop", "tip_adapter_f"])
def test_training_lowers_the_loss(name: str, task: Task, clip: FrozenCLIP) -> None:
    """The trained ones learn something from real features alone."""
    config_class, build_it = FINETUNERS[name]
    settings = {"coop": {"lr": 2.0, "epochs": 60}, "tip_adapter_f": {"lr": 0.01, "epochs": 30}}
    finetuner = build_it(config_class(name=name, **settings[name]), task, None, clip, SEEDS)
    losses = [finetuner.train_epoch()["loss"] for _ in range(finetuner.epochs)]
    assert bool((torch.stack(losses[-5:]).mean(0) < torch.stack(losses[:5]).mean(0)).all())


def test_without_synthetic_features_new_classes_are_not_trained(
    task: Task, clip: FrozenCLIP, features: FeatureSet
) -> None:
    """CoOp's loss without synthesis runs over base classes: new class names get no gradient."""
    coop = CoOp(CoOpConfig(epochs=1), task, None, clip, SEEDS)
    weights = coop.text_features()
    logits = task.features[:, :, 0] @ weights.transpose(1, 2)
    loss = classification_loss(logits, task.labels, task.seen).sum()
    (gradient,) = torch.autograd.grad(loss, weights)
    assert bool((gradient[:, 4:] == 0).all()) and bool((gradient[:, :4] != 0).any())


def test_coop_before_training_is_zero_shot(
    task: Task, clip: FrozenCLIP, features: FeatureSet
) -> None:
    """The context "a photo of a" is the template "a photo of a {}."."""
    coop = CoOp(CoOpConfig(), task, None, clip, SEEDS)
    zero_shot = ZeroShot(ZeroShotConfig(), task, None, clip, SEEDS)
    x = pictures(features)
    torch.testing.assert_close(coop.logits(x, {}), zero_shot.logits(x, {}), atol=1e-4, rtol=0)


def test_tip_adapter_without_its_cache_is_zero_shot(
    task: Task, clip: FrozenCLIP, features: FeatureSet
) -> None:
    """alpha = 0 leaves CLIP's logits."""
    tip = TipAdapter(TipAdapterConfig(), task, None, clip, SEEDS)
    zero_shot = ZeroShot(ZeroShotConfig(), task, None, clip, SEEDS)
    x = pictures(features)
    made = tip.logits(x, {"alpha": 0.0, "beta": 5.5})
    torch.testing.assert_close(made, zero_shot.logits(x, {}))


def test_cache_logits_by_hand() -> None:
    """alpha * exp(-beta (1 - cos)) summed over the keys of a class."""
    keys = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    values = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    made = cache_logits(torch.tensor([[1.0, 0.0]]), keys, values, alpha=2.0, beta=3.0)
    expected = torch.tensor([[[4.0, 2.0 * torch.tensor(-3.0).exp()]]])
    torch.testing.assert_close(made, expected)


def test_synthetic_features_join_the_cache(
    task: Task, clip: FrozenCLIP, features: FeatureSet
) -> None:
    """With text features as keys, the cache raises new classes' logits near their text."""
    plain = TipAdapter(TipAdapterConfig(), task, None, clip, SEEDS)
    joined = build("tip_adapter", task, clip, True)
    x = task.text_features[4:]
    choice = {"alpha": 1.0, "beta": 5.5}
    gain = joined.logits(x, choice) - plain.logits(x, choice)
    assert bool((gain[:, range(4), range(4, 8)] > 0.5).all())
    assert bool((gain[:, :, :4].abs() < 1e-4).all())
