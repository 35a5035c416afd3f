"""Trials that end in ways that no method should: the study has a state for each of them."""

import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from rich.console import Console

from harness.config.study_config import StudyConfig
from ship.metrics import EpochMetrics
from ship.trial_config import TrialConfig
from tests.harness import fakes
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study
from tests.harness.same_table import assert_same_table

Calm = Callable[[StudyConfig], str]
pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("by_value")]


def failed(bench: Bench) -> list[Any]:
    """The trial runs that failed."""
    return [run for run in bench.trials() if run.data.tags["ship.state"] == "FAIL"]


def test_trials_that_end_their_process(ray_bench: Bench, calm: Calm) -> None:
    """sys.exit and os._exit fail their own settings alone; once mended the table is whole."""

    def behave(config: TrialConfig, epoch: int) -> None:
        n_ctx = getattr(config.generator, "n_ctx", 0)
        if epoch == 2 and n_ctx == 2:
            sys.exit(1)
        if epoch == 2 and n_ctx == 4:
            os._exit(1)

    ray_bench.behave = behave
    outcome = ray_bench.run(make_study())
    assert (outcome.done, outcome.failed, outcome.missing) == (1, 2, 0)
    for run in failed(ray_bench):
        assert run.data.tags["ship.failure"] == "worker_died"
        reason = "its worker process died at stage selection, epoch 1 (try 2)"
        assert run.data.tags["ship.reason"] == reason
    ray_bench.check_invariants()
    ray_bench.behave = None
    assert ray_bench.run(make_study()).complete
    ray_bench.check_invariants()
    assert_same_table(ray_bench.uri, calm(make_study()))


def spoilt(run_trial: Any, config: Any, *rest: Any) -> Iterator[EpochMetrics]:
    """The analytic method, but for settings whose test metrics are no numbers or not there."""
    n_ctx = getattr(config.generator, "n_ctx", 0)
    for item in run_trial(config, *rest):
        if item.stage != "test" or n_ctx == 1:
            yield item
            continue
        values = dict(item.per_replica)
        if n_ctx == 2:
            values["new"] = (math.inf, 1.0)
        elif n_ctx == 3:
            values.pop("selection_harmonic_mean"), values.pop("selection_epoch")
        else:
            return
        yield EpochMetrics("test", item.epoch, 1.0, values)


REASONS = {
    "2": ("non_finite", "new is not finite at stage test, epoch 3 (seeds 0)"),
    "3": ("error", "without a selection value of harmonic_mean"),
    "4": ("error", "ended without test metrics"),
}


def test_metrics_that_are_no_numbers_or_not_there(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAIL with a reason each, and no number in the table."""
    method = bench.method
    bad = replace(method, run_trial=partial(spoilt, method.run_trial))
    monkeypatch.setattr(Bench, "method", bad)
    outcome = bench.run(make_study(space={"generator.n_ctx": [1, 2, 3, 4]}))
    assert (outcome.done, outcome.failed) == (1, 3)
    for run in failed(bench):
        failure, reason = REASONS[run.data.params["generator.n_ctx"]]
        assert run.data.tags["ship.failure"] == failure
        assert reason in run.data.tags["ship.reason"]
        assert not [name for name in run.data.metrics if name.startswith(("seed_", "objective"))]
    bench.check_invariants()


def greedy(most: int, run_trial: Any, config: Any, seeds: Any, *rest: Any) -> Any:
    """The analytic method with memory for so many replicas."""
    if len(seeds) > most:
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    return run_trial(config, seeds, *rest)


@pytest.mark.parametrize(("most", "done", "bad"), [(2, 3, 0), (1, 0, 3)])
def test_a_setting_that_takes_too_much_memory(
    bench: Bench, calm: Calm, monkeypatch: pytest.MonkeyPatch, most: int, done: int, bad: int
) -> None:
    """Four seeds run in two halves: the table is the same, or each half is FAIL, once."""
    method = bench.method
    with monkeypatch.context() as patch:
        patch.setattr(
            Bench, "method", replace(method, run_trial=partial(greedy, most, method.run_trial))
        )
        outcome = bench.run(make_study(seeds=4))
    assert (outcome.done, outcome.failed, outcome.missing) == (done, bad, 0)
    bench.check_invariants()
    assert len(bench.trials()) == 9  # once whole, twice half, of three settings
    if bad:
        assert {run.data.tags["ship.failure"] for run in failed(bench)} == {"out_of_memory"}
    else:
        assert not bench.run(make_study(seeds=4)).ran
        assert_same_table(bench.uri, calm(make_study(seeds=4)))


def test_failures_in_a_row_stop_the_study(
    bench: Bench, calm: Calm, capsys: pytest.CaptureFixture[str]
) -> None:
    """In order: a summary, what ran beside them is INTERRUPTED, the rest is missing."""
    levels = [1, 2, 3, 4, 5, 6, 7, 8]

    def behave(config: TrialConfig, epoch: int) -> None:
        if getattr(config.generator, "n_ctx", 0) > 2:
            raise OSError("no space left on the worker")

    study = make_study(space={"generator.n_ctx": levels}, max_failures=3, seeds=1)
    bench.behave = behave
    outcome = bench.run(study, console=Console(force_terminal=False, width=200))
    assert (outcome.done, outcome.failed, outcome.missing) == (2, 3, 3)
    assert not outcome.complete and not outcome.interrupted
    said = capsys.readouterr().out
    assert "stopped: 3 settings failed in a row (max_failures: 3)\n  3 x OSError: no space" in said
    assert bench.parent().info.status == "FAILED"
    bench.check_invariants()
    bench.behave = None
    assert bench.run(study).complete
    bench.check_invariants()
    assert_same_table(bench.uri, calm(study))


def test_the_worker_that_is_killed_outside_of_an_epoch(ray_bench: Bench, calm: Calm) -> None:
    """While it loads the backbone: tried again like any other."""
    mark = ray_bench.log.with_name("killed")

    class Dying(fakes.FakeClip):
        def __init__(self, name: str, device: str = "cpu", precision: str = "fp32") -> None:
            super().__init__(name, device, precision)
            if not mark.exists() and device == "cpu" and os.getpid() != driver:
                mark.touch()
                os._exit(1)

    driver = os.getpid()
    method = replace(ray_bench.method, load_backbone=Dying)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bench, "method", method)
        assert ray_bench.run(make_study()).complete
    assert mark.exists()
    assert ray_bench.states() == ["COMPLETE"] * 3 + ["INTERRUPTED"]
    ray_bench.check_invariants()
    assert_same_table(ray_bench.uri, calm(make_study()))
