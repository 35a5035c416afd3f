"""`resources: auto`: a first trial has a GPU to itself, and its peak says how many share one."""

import pytest

from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import make_plan
from harness.store.ledger import Ledger
from harness.study.execution import _first
from ship.trial_config import TrialConfig
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study

LEVELS = {"generator.n_ctx": [1, 2, 4, 8, 16]}


def gpus(bench: Bench) -> list[float]:
    """What each trial held, in the order in which they began."""
    return [run.data.metrics["cost/gpus"] for run in bench.trials()]


@pytest.mark.slow
def test_the_first_trial_tells_how_many_share_a_gpu(ray_bench: Bench) -> None:
    """The GPU is pretended, with as much memory as this machine; two cores bound what shares it."""
    study = make_study(space=LEVELS, resources="auto", concurrency=None)
    outcome = ray_bench.run(study)
    assert outcome.complete and outcome.done == 5
    assert gpus(ray_bench) == [1.0, *[0.5] * 4]
    more = study.model_copy(update={"seeds": (0, 1, 2)})
    assert ray_bench.run(more).complete
    assert gpus(ray_bench)[5:] == [0.5] * 5  # the ledger knows
    ray_bench.check_invariants()


@pytest.mark.slow
def test_a_first_trial_that_fails_is_not_tried_again_in_the_same_run(ray_bench: Bench) -> None:
    """Nobody knows how many share a GPU then: each of the others has one to itself."""

    def behave(config: TrialConfig, epoch: int) -> None:
        if config.generator.n_ctx == 1:  # type: ignore[union-attr]
            raise RuntimeError("no luck with this one")

    ray_bench.behave = behave
    outcome = ray_bench.run(make_study(space=LEVELS, resources="auto"))
    assert (outcome.done, outcome.failed) == (4, 1)
    assert ray_bench.states() == [*["COMPLETE"] * 4, "FAIL"]
    assert {run.gpus for run in ray_bench.ledger().runs if run.gpus} == {1.0}


def test_no_reference_arm_comes_first(prints: Fingerprints) -> None:
    """Arms are small; of a sampled study a proposal does."""
    study = make_study(reference_arms=True)
    (work,) = _first(make_plan(study, Ledger(), prints), 1).work
    assert work.setting.label == "n_ctx=1"
    drawn = make_study(sampler="random", trials=3, reference_arms=True)
    first = _first(make_plan(drawn, Ledger(), prints), 2)
    assert (first.work, first.proposals) == ((), 2)
