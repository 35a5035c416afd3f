"""The host never waits for the device while training, and waits once per evaluation."""

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
from ship.trial.selection import select_choices
from ship.trial_config import SyntheticConfig, TrialConfig
from tests.emulated import EmulatedDevice
from tests.ship.finetuners.cases import FAST
from tests.ship.generators.cases import CASES, build

SEEDS = [0, 4]


class ProtocolBench:
    """The tiny CLIP on the device, with the task and the evaluation set of a protocol."""

    def __init__(self, clip: FrozenCLIP, features: FeatureSet, protocol: str) -> None:
        self.clip = clip
        config = TrialConfig(backbone="tiny", dataset="tiny", shots=4, protocol=protocol)
        self.protocol = build_protocol(config, SEEDS, features, {}, self.clip)
        assert self.protocol.selection is not None
        self.eval_set = self.protocol.selection
        self.task = self.eval_set.task

    def build_finetuner(self, name: str) -> Any:
        """Build a fine-tuner with synthetic features of a VAE."""
        sample = build("vae", self.task, self.clip, SEEDS).sample
        synthesizer = Synthesizer(SyntheticConfig(), sample, self.task, SEEDS)
        settings: Any = FINETUNERS[name](name=name, **FAST.get(name, {}))
        return build_finetuner(settings, self.task, synthesizer, self.clip, SEEDS)


@pytest.fixture(scope="module")
def get_bench(device_clip: FrozenCLIP, features: FeatureSet) -> Callable[[str], ProtocolBench]:
    """Function that returns the bench of a protocol, which is built once."""
    return cache(lambda protocol: ProtocolBench(device_clip, features, protocol))


@pytest.fixture
def bench(get_bench: Callable[[str], ProtocolBench]) -> ProtocolBench:
    """The bench of base_to_new."""
    return get_bench("base_to_new")


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][1]])
def test_generators_do_not_wait_for_the_device(
    device: EmulatedDevice, bench: ProtocolBench, case: str
) -> None:
    """The first epoch, which fills caches, is not tested."""
    generator = build(case, bench.task, bench.clip, SEEDS)
    generator.train_epoch()
    with device.counting() as counts:
        generator.train_epoch()
    assert counts.n_launches or not generator.epochs
    assert not counts.syncs


@pytest.mark.parametrize("name", list(FAST))
def test_finetuners_do_not_wait_for_the_device(
    device: EmulatedDevice, bench: ProtocolBench, name: str
) -> None:
    """New synthetic features are drawn in each step."""
    finetuner = bench.build_finetuner(name)
    finetuner.train_epoch()
    with device.counting() as counts:
        finetuner.train_epoch()
    assert counts.n_launches and not counts.syncs


@pytest.mark.parametrize("protocol", ["base_to_new", "generalized_zero_shot"])
@pytest.mark.parametrize("name", list(FINETUNERS))
def test_evaluation_waits_once(
    device: EmulatedDevice, get_bench: Callable[[str], ProtocolBench], name: str, protocol: str
) -> None:
    """It waits once for all inference choices. Calibration waits once more per choice."""
    bench = get_bench(protocol)
    finetuner = bench.build_finetuner(name)
    select_choices(finetuner, bench.eval_set, bench.protocol)
    with device.counting() as counts:
        metrics, choice = select_choices(finetuner, bench.eval_set, bench.protocol)
    limit = 1 if protocol == "base_to_new" else 1 + len(finetuner.inference_grid)
    assert counts.n_syncs <= limit, counts.syncs
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
