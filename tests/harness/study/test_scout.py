"""`resources: auto` measures some steps of the largest trial; a GPU is pretended to Ray."""

import io
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.config.study_config import StudyConfig
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import make_plan
from harness.planning.settings import SettingMaker
from harness.resources.cost import CountedCosts
from harness.store.ledger import Ledger
from harness.study.scout import _replicas, largest_group
from harness.tuning.fusion import Group
from harness.tuning.fusion_policy import fuse_policy
from ship.trial_config import TrialConfig
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study

LEVELS = {"generator.n_ctx": [1, 2, 4, 8, 16]}


def largest(study: StudyConfig, prints: Fingerprints) -> Group:
    """The group that is measured of a study that has not begun."""
    policy = fuse_policy(study, 1, gpu=True, costs=CountedCosts(None))
    plan = make_plan(study, Ledger(), prints)
    return largest_group(study, plan, SettingMaker(study, prints), policy)


def test_the_largest_setting_is_measured(prints: Fingerprints) -> None:
    """Not the first; its seeds are those that run."""
    (work,) = largest(make_study(space={"generator.n_ctx": [1, 16, 4]}, seeds=[3, 5]), prints)
    assert work.setting.label == "n_ctx=16"
    assert _replicas((work,)) == ([work.setting.config] * 2, [3, 5])


def test_settings_that_are_fused_are_measured_together(prints: Fingerprints) -> None:
    """Each with each seed."""
    weights = [0.001, 0.01, 0.1, 1.0]
    group = largest(make_study(space={"generator.kl_weight": weights}), prints)
    assert len(group) == 4
    configs, seeds = _replicas(group)
    assert seeds == [0, 1] * 4
    assert [config.generator.kl_weight for config in configs[::2]] == weights  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.parametrize("n_trials", [1, 6])
def test_of_a_sampled_study_the_largest_end_is_measured(
    prints: Fingerprints, n_trials: int
) -> None:
    """No proposal is there yet, and arms are small; it has as many replicas as would be fused."""
    space = {
        "generator.n_ctx": {"low": 1, "high": 16},
        "generator.kl_weight": {"low": 1e-4, "high": 1.0, "log": True},
    }
    study = make_study(
        space=space, sampler="random", trials=n_trials, seeds=[7, 8], reference_arms=True
    )
    group = largest(study, prints)
    assert not group[0].setting.arm and group[0].setting.assignment["generator.n_ctx"] == 16
    configs, seeds = _replicas(group)
    assert len(configs) == len(seeds) == len(set(seeds)) == 2 * n_trials
    assert seeds[:2] == [7, 8]


def test_of_many_corners_some_are_looked_at(prints: Fingerprints) -> None:
    """A space of many factors has more corners than there is time to count."""
    factors = {f"generator.{name}": {"low": 1, "high": 29} for name in ("n_ctx", "latent_dim")}
    ranges = ("kl_weight", "lr", "weight_decay")
    factors |= {f"generator.{name}": {"low": 0.1, "high": 0.2} for name in ranges}
    choices: dict[str, Any] = {"shots": list(range(1, 17)), "synthetic.weight": [0.5, 1.0, 2.0]}
    study = make_study(space={**factors, **choices}, sampler="random", trials=9)
    assert largest(study, prints)[0].setting.config.generator.n_ctx == 29  # type: ignore[union-attr]


@pytest.mark.slow
def test_the_others_share_from_the_start(
    ray_bench: Bench, prints: Fingerprints, tmp_path: Path
) -> None:
    """Steps are measured before any trial; a later run asks what was measured of its trials."""
    begun = tmp_path / "begun"

    def behave(config: TrialConfig, epoch: int) -> None:
        with begun.open("a") as file:
            file.write(f"{config.generator.n_ctx} {config.finetuner.epochs} {time.time()}\n")  # type: ignore[union-attr]

    ray_bench.behave = behave
    study = make_study(space=LEVELS, resources="auto", concurrency=None)
    console = Console(record=True, file=io.StringIO(), width=200)
    outcome = ray_bench.run(study, console=console)
    assert outcome.complete and outcome.done == 5
    assert [run.data.metrics["cost/gpus"] for run in ray_bench.trials()] == [0.5] * 5  # two cores
    first = begun.read_text().split("\n")[0].split()
    assert first[1] == "1"  # a shortened trial
    assert "a GPU has room for 8 trials: the largest takes " in console.export_text()
    begun.write_text("")
    more = study.model_copy(update={"seeds": (0, 1, 2)})
    assert ray_bench.run(more).complete
    assert " 1 " not in begun.read_text().split("\n")[0]  # nothing is measured again
    assert {run.data.metrics["cost/gpus"] for run in ray_bench.trials()[5:]} == {0.5}
    ray_bench.check_invariants()


def test_steps_that_fail_cost_no_study(ray_bench: Bench) -> None:
    """Each trial has a GPU to itself then, and one line says why."""

    def behave(config: TrialConfig, epoch: int) -> None:
        if config.finetuner.epochs == 1:  # type: ignore[union-attr]
            raise RuntimeError("no luck with this one\nand more")

    ray_bench.behave = behave
    console = Console(record=True, file=io.StringIO(), width=200)
    assert ray_bench.run(make_study(resources="auto"), console=console).complete
    line = "how many trials share a GPU could not be measured: no luck with this one\n"
    assert line in console.export_text()
    assert [run.data.metrics["cost/gpus"] for run in ray_bench.trials()] == [1.0] * 3
