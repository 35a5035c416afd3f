"""Training never makes the host wait for the device, and an evaluation waits once."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

from ship.clip import FrozenCLIP
from ship.finetuners import FINETUNERS, build_finetuner
from ship.generators import Synthesizer
from ship.protocols import build_protocol
from ship.seeds import to_cpu
from ship.subsets import FeatureSet
from ship.trial.selection import evaluate_choices
from ship.trial_config import SyntheticConfig, TrialConfig
from tests.emulated import EmulatedDevice
from tests.ship.finetuners.cases import FAST
from tests.ship.generators.cases import CASES, build

SEEDS = [0, 4]


class Configuration:
    """The tiny CLIP on the device, with the tasks and evaluation sets of a protocol."""

    def __init__(self, clip: FrozenCLIP, features: FeatureSet, protocol: str) -> None:
        self.clip = clip
        config = TrialConfig(backbone="tiny", dataset="tiny", shots=4, protocol=protocol)
        self.protocol = build_protocol(config, SEEDS, features, {}, self.clip)
        assert self.protocol.selection is not None
        self.eval_set = self.protocol.selection
        self.task = self.eval_set.task

    def finetuner(self, name: str) -> Any:
        """Build a fine-tuner with synthetic features of a VAE."""
        sample = build("vae", self.task, self.clip, SEEDS).sample
        synthesizer = Synthesizer(SyntheticConfig(), sample, self.task, SEEDS)
        settings: Any = FINETUNERS[name](name=name, **FAST.get(name, {}))
        return build_finetuner(settings, self.task, synthesizer, self.clip, SEEDS)


@pytest.fixture(scope="module")
def settings(device_clip: FrozenCLIP, features: FeatureSet) -> Callable[[str], Configuration]:
    """The configurations of all protocols, built once."""
    return cache(lambda protocol: Configuration(device_clip, features, protocol))


@pytest.fixture
def setting(settings: Callable[[str], Configuration]) -> Configuration:
    """The configuration of base_to_new."""
    return settings("base_to_new")


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][1]])
def test_generators_do_not_wait_for_the_device(
    device: EmulatedDevice, setting: Configuration, case: str
) -> None:
    """In an epoch, and in sampling after it."""
    generator = build(case, setting.task, setting.clip, SEEDS)
    generator.train_epoch()
    with device.counting() as counts:
        generator.train_epoch()
    assert counts.n_launches or not generator.epochs
    assert not counts.syncs


@pytest.mark.parametrize("name", list(FAST))
def test_finetuners_do_not_wait_for_the_device(
    device: EmulatedDevice, setting: Configuration, name: str
) -> None:
    """In an epoch with new synthetic features in each step."""
    finetuner = setting.finetuner(name)
    finetuner.train_epoch()
    with device.counting() as counts:
        finetuner.train_epoch()
    assert counts.n_launches and not counts.syncs


@pytest.mark.parametrize("protocol", ["base_to_new", "generalized_zero_shot"])
@pytest.mark.parametrize("name", list(FINETUNERS))
def test_evaluation_waits_once(
    device: EmulatedDevice, settings: Callable[[str], Configuration], name: str, protocol: str
) -> None:
    """However many inference options there are; calibration sorts on the host."""
    setting = settings(protocol)
    finetuner = setting.finetuner(name)
    evaluate_choices(finetuner, setting.eval_set, setting.protocol)
    with device.counting() as counts:
        metrics, choice = evaluate_choices(finetuner, setting.eval_set, setting.protocol)
    once = 1 if protocol == "base_to_new" else 1 + len(finetuner.inference_grid)
    assert counts.n_syncs <= once, counts.syncs
    assert all(value.device.type == "cpu" for value in (choice, *metrics.values()))


def test_to_cpu_copies_all_tensors_at_once(device: EmulatedDevice) -> None:
    """Types and shapes are unchanged, and host tensors are not copied."""
    host = torch.tensor([7, 8])
    values = {
        "flag": torch.tensor([True, False]).to(device.name),
        "host": host,
        "ids": torch.tensor([[1, 2], [3, 2**40]]).to(device.name),
        "x": torch.tensor(0.1).to(device.name),
    }
    with device.counting() as counts:
        copies = to_cpu(values)
    assert counts.n_syncs == 1
    assert list(copies) == list(values) and copies["host"] is host
    for name, value in values.items():
        assert torch.equal(copies[name], value.cpu()) and copies[name].dtype == value.dtype
