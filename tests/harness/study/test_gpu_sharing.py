"""`resources: auto`: a first trial has a GPU to itself, and its peak says how many share one."""

import pytest

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
    study = make_study(space=LEVELS, resources="auto", concurrency=None, reference_arms=True)
    outcome = ray_bench.run(study)
    assert outcome.complete and outcome.done == 9
    assert gpus(ray_bench) == [1.0, *[0.5] * 8]
    assert not ray_bench.trials()[0].data.tags["ship.arm"]  # arms are small
    more = study.model_copy(update={"seeds": (0, 1, 2)})
    assert ray_bench.run(more).complete
    assert gpus(ray_bench)[9:] == [0.5] * 9  # the ledger knows
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
