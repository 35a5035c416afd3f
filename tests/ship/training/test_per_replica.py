"""Settings trained side by side give what each gives in a trial of its own."""

from typing import Any

import pytest
import torch
from pydantic import BaseModel

from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import FeatureSet
from ship.finetuners import FINETUNERS
from ship.generators import GENERATORS
from ship.metrics import NonFiniteLoss
from ship.settings import PerReplica, shared_shape
from ship.synthesis import SyntheticConfig
from ship.training.descent import CosineDescent
from ship.training.per_replica import ReplicaOptimizer, per_replica
from ship.trial.run import run_trial
from ship.trial_config import TrialConfig
from tests.ship.conftest import build_features
from tests.ship.finetuners.cases import FAST
from tests.ship.generators.cases import VAE, WGAN
from tests.ship.trial.cases import COOP, TIP_F, config

GENERATED: dict[str, dict[str, Any]] = {"vae": VAE, "mlp_vae": VAE, "wgan": WGAN}
SEEDS = (7, 2)


def marked(config: type[BaseModel]) -> list[str]:
    """The fields of a config that replicas may differ in."""
    return [
        name
        for name, field in config.model_fields.items()
        if any(isinstance(mark, PerReplica) for mark in field.metadata)
    ]


def varied(settings: BaseModel) -> dict[str, Any]:
    """The same settings with another value in every marked field."""
    changed = {name: 0.5 * getattr(settings, name) + 0.01 for name in marked(type(settings))}
    return {**settings.model_dump(), **changed}


def cases() -> list[tuple[str, TrialConfig]]:
    """A trial for every generator, fine-tuner and other group that has marked fields."""
    found = []
    for name, (kind, _) in GENERATORS.items():
        if marked(kind):
            settings = {"name": name, **GENERATED[name]}
            found.append(("generator", config(generator=settings, finetuner=COOP)))
    for name, (kind, _) in FINETUNERS.items():
        if marked(kind):
            found.append(("finetuner", config(finetuner={"name": name, **FAST[name]})))
    assert marked(SyntheticConfig)
    found += [("synthetic", config(finetuner=one)) for one in (COOP, TIP_F, "gda")]
    return found


def names(value: object) -> str:
    """A test's name."""
    if isinstance(value, TrialConfig):
        return f"{value.generator.name}-{value.finetuner.name}"
    return str(value)


@pytest.mark.parametrize(("group", "setting"), cases(), ids=names)
def test_fused_settings_equal_their_own_trials(
    clip64: FrozenCLIP, group: str, setting: TrialConfig
) -> None:
    """Every metric of every epoch, with every marked field of the group varied."""
    features = build_features(clip64)
    inside = varied(getattr(setting, group))
    other = TrialConfig.model_validate({**setting.model_dump(), group: inside})
    settings = [one for one in (setting, other) for _ in SEEDS]
    fused = list(run_trial(settings, SEEDS * 2, features, clip64, dtype=torch.float64))
    last: list[dict[str, tuple[float, ...]]] = []
    for place, one in enumerate((setting, other)):
        alone = list(run_trial(one, SEEDS, features, clip64, dtype=torch.float64))
        by_epoch = {(m.stage, m.epoch): m for m in fused}
        by_epoch["test", alone[-1].epoch] = fused[-1]
        for m in alone:
            beside = by_epoch[m.stage, m.epoch].per_replica
            assert beside.keys() == m.per_replica.keys()
            for name, values in m.per_replica.items():
                own = beside[name][len(SEEDS) * place :][: len(SEEDS)]
                assert own == pytest.approx(values, abs=1e-8), (m.stage, name)
        last.append({m.stage: m for m in alone}["selection"].per_replica)
    if "loss" in last[0]:  # the setting that was varied matters
        assert last[0]["loss"] != last[1]["loss"]


def test_a_setting_that_diverges_is_told_apart(clip: FrozenCLIP, features: FeatureSet) -> None:
    """Only its own replicas are named; the other setting's losses stay finite."""
    broken = config(generator={**VAE, "name": "vae", "lr": 1e30})
    fine = config(generator={**VAE, "name": "vae"})
    with pytest.raises(NonFiniteLoss) as raised:
        list(run_trial([fine, broken, fine, broken], [0, 0, 1, 1], features, clip))
    assert raised.value.replicas == (1, 3)


def test_what_shapes_the_arithmetic_must_be_equal(clip: FrozenCLIP, features: FeatureSet) -> None:
    """Factors of losses and steps may differ, sizes and epochs may not; no replica comes twice."""
    kl, lr = config(generator={**VAE, "name": "vae", "kl_weight": 0.5}), config()
    assert shared_shape(config(synthetic={"weight": 0.5})) == shared_shape(lr)
    assert shared_shape(config(finetuner={**COOP, "lr": 0.5})) == shared_shape(lr)
    longer = config(finetuner={**COOP, "epochs": 9})
    assert shared_shape(longer) != shared_shape(lr) != shared_shape(kl)
    with pytest.raises(ValueError, match="PER_REPLICA fields alone"):
        next(run_trial([lr, longer], [0, 0], features, clip))
    with pytest.raises(ValueError, match="seeds must be distinct"):
        next(run_trial([lr, lr], [0, 0], features, clip))
    with pytest.raises(ValueError, match="settings for 2 replicas, got 1"):
        next(run_trial([lr], [0, 1], features, clip))


class Rate(BaseModel):
    """Settings of an optimizer."""

    lr: float


def test_a_field_that_all_share_is_one_number() -> None:
    """So that an unfused trial's arithmetic is what it was."""
    like = torch.zeros(1, dtype=torch.float64)
    assert per_replica([Rate(lr=0.1), Rate(lr=0.1)], "lr", like) == 0.1
    differing = per_replica([Rate(lr=0.1), Rate(lr=0.2)], "lr", like)
    assert isinstance(differing, torch.Tensor) and differing.tolist() == [0.1, 0.2]


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD])
@pytest.mark.parametrize("rates", [(0.1, 0.1, 0.2), (0.3, 0.1, 0.3), (0.2, 0.2, 0.2)])
def test_each_replica_takes_torchs_own_steps(kind: Any, rates: tuple[float, ...]) -> None:
    """Bit for bit, on a schedule, whichever replicas share their settings."""
    torch.manual_seed(0)
    start, pull = torch.randn(3, 4, 2), torch.randn(3, 4, 2)
    whole = start.clone().requires_grad_()
    optimizer = ReplicaOptimizer(kind, [whole], [Rate(lr=rate) for rate in rates])
    batch = (torch.zeros(3, 1, 1), torch.zeros(3, 1, dtype=torch.long), None)
    descent = CosineDescent(optimizer, 1, 5)
    descent.epoch(lambda: batch, lambda *_: [(whole * pull).square().sum((1, 2))])
    alone = [start[r].clone().requires_grad_() for r in range(3)]
    inners = [kind([one], lr=rate) for one, rate in zip(alone, rates, strict=True)]
    schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(inner, 5) for inner in inners]
    for _ in range(5):
        for r in range(3):
            inners[r].zero_grad()
            (alone[r] * pull[r]).square().sum().backward()
            inners[r].step()
            schedules[r].step()
    assert torch.equal(whole, torch.stack(alone))
    assert not torch.equal(whole, start)


@pytest.mark.parametrize("rates", [(0.1, 0.1), (0.1, 0.3)])
def test_a_parameter_has_its_own_factor(rates: tuple[float, ...]) -> None:
    """Its steps are those of a rate that is as much larger, and a schedule changes all alike."""
    torch.manual_seed(0)
    starts = [torch.randn(2, 3) for _ in range(3)]
    factors, wholes = [1.0, 6.5, 1.0], [start.clone().requires_grad_() for start in starts]
    configs = [Rate(lr=rate) for rate in rates]
    optimizer = ReplicaOptimizer(torch.optim.SGD, wholes, configs, factors=factors)
    for scale in (1.0, 0.5):
        for whole in wholes:
            whole.grad = torch.ones_like(whole)
        optimizer.step()
        optimizer.scale_rates(0.5)
        for start, factor in zip(starts, factors, strict=True):
            for r, rate in enumerate(rates):
                start[r] -= scale * factor * rate
    torch.testing.assert_close(wholes, starts, atol=1e-6, rtol=0)
    again = ReplicaOptimizer(torch.optim.SGD, wholes, configs, factors=factors)
    again.load_state_dict(optimizer.state_dict())
    assert torch.equal(again.state_dict()["lr"], optimizer.state_dict()["lr"])
