"""`resources: auto`: what is measured, and what it decides; a GPU is pretended to Ray."""

import pytest

from harness.config.choices import Resources
from harness.config.study_config import StudyConfig
from harness.planning.fingerprints import Fingerprints
from harness.resources.gpu_sharing import (
    LARGEST_NODE,
    MOST_ON_A_GPU,
    at_once,
    is_unmeasured,
    measured,
    resolved_resources,
    trials_per_gpu,
)
from harness.store.ledger import Ledger
from tests.harness.fakes import make_study
from tests.harness.planning.made import run_of, settings_of

AUTO = Resources(auto=True)


def ledger_of(study: StudyConfig, prints: Fingerprints, *runs: dict[str, float]) -> Ledger:
    """A run a setting, with what was measured of it."""
    settings = settings_of(study, prints)
    return Ledger(
        tuple(
            run_of(setting, (0, 1), **keys) for setting, keys in zip(settings, runs, strict=False)
        )
    )


@pytest.mark.parametrize(
    ("peak", "gpu", "expected"),
    [(10_000, 80_000, 5), (70_000, 80_000, 1), (100, 80_000, MOST_ON_A_GPU), (3_000, 16_000, 3)],
)
def test_as_many_share_a_gpu_as_it_holds(peak: float, gpu: float, expected: int) -> None:
    """With room for the allocator's gaps and for what CUDA itself takes of each process."""
    assert trials_per_gpu(peak, gpu) == expected


def test_the_most_careful_measurement_counts(prints: Fingerprints) -> None:
    """Runs without a GPU say nothing; before there is one with, a trial has a GPU to itself."""
    study, there = make_study(), {"CPU": 32.0, "GPU": 2.0}
    on_cpu = ledger_of(study, prints, {"peak_mb": 9e9})
    assert measured(on_cpu) is None and is_unmeasured(AUTO, there, on_cpu)
    assert resolved_resources(AUTO, there, on_cpu, 9).gpus == 1
    gpu = {"gpus": 1.0, "device_mb": 80_000}
    both = ledger_of(study, prints, {"peak_mb": 10_000, **gpu}, {"peak_mb": 20_000, **gpu})
    assert measured(both) == 3 and not is_unmeasured(AUTO, there, both)
    assert resolved_resources(AUTO, there, both, 9) == Resources(cpus=1, gpus=0.3333)
    assert 3 * resolved_resources(AUTO, there, both, 9).gpus <= 1
    arm = run_of(settings_of(study, prints)[0], (0, 1), arm="zero_shot", peak_mb=9e9, **gpu)
    assert measured(Ledger((*both.runs, arm))) == 3


def test_each_trial_keeps_its_cores(prints: Fingerprints) -> None:
    """A GPU is not shared by more trials than there are cores for."""
    gpu = {"gpus": 1.0, "device_mb": 80_000, "peak_mb": 100}
    ledger = ledger_of(make_study(), prints, gpu)
    assert resolved_resources(AUTO, {"CPU": 4.0, "GPU": 2.0}, ledger, 9).gpus == 0.5
    two = Resources(auto=True, cpus=2)
    assert resolved_resources(two, {"CPU": 4.0, "GPU": 2.0}, ledger, 9) == Resources(cpus=2, gpus=1)


@pytest.mark.parametrize(("n_trials", "cpus"), [(1, 8), (3, 2), (8, 1), (100, 1)])
def test_idle_cores_become_threads(n_trials: int, cpus: float) -> None:
    """Where there is no GPU, and fewer trials than cores; a trial has to fit one node."""
    assert resolved_resources(AUTO, {"CPU": 8.0}, Ledger(), n_trials) == Resources(
        cpus=cpus, gpus=0
    )
    nodes = {"CPU": 8.0, LARGEST_NODE: 4.0}
    assert resolved_resources(AUTO, nodes, Ledger(), n_trials).cpus == min(cpus, 4)


@pytest.mark.parametrize(
    ("resources", "there", "expected"),
    [
        (Resources(cpus=2, gpus=0.3333), {"CPU": 16.0, "GPU": 2.0}, 6),
        (Resources(cpus=2, gpus=1), {"CPU": 4.0, "GPU": 8.0}, 2),
        (Resources(gpus=1), {"CPU": 4.0}, 0),
        (Resources(cpus=0.1), {"CPU": 0.3}, 3),
    ],
)
def test_how_many_fit(resources: Resources, there: dict[str, float], expected: int) -> None:
    """By the scarcer of cores and GPUs."""
    assert at_once(resources, there) == expected


def test_without_auto_nothing_is_decided() -> None:
    """Numbers are taken at their word, and nothing is measured."""
    fixed = Resources(cpus=1, gpus=0.25)
    there = {"CPU": 8.0, "GPU": 4.0}
    assert resolved_resources(fixed, there, Ledger(), 1) is fixed
    assert not is_unmeasured(fixed, there, Ledger())
    assert not is_unmeasured(AUTO, {"CPU": 8.0}, Ledger())
