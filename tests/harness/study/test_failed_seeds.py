"""Studies in which single seeds fail with a non-finite loss."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
import torch

from harness.config.study_config import StudyConfig
from harness.errors import UserError
from harness.method import MethodFunctions
from harness.recording.trial_runs import TrialRecorder
from harness.store.errors import StoreError
from reports.render import format_csv, format_tables_as_markdown
from reports.study.load import load_records
from reports.tables.build import build_tables
from ship.clip import FrozenCLIP
from ship.finetuners.batched import BatchedFinetuner
from ship.trial_config import EpochMetrics, NonFiniteLoss
from tests.harness.conftest import Bench
from tests.harness.fakes import load_fake_images, make_study
from tests.harness.same_table import assert_same_table, select_comparable_rows
from tests.ship.conftest import build_features
from tests.ship.trial.cases import COOP, VAE

pytestmark = pytest.mark.usefixtures("pickle_by_value")

REASON = "loss is not finite at stage selection, epoch 2"


def run_with_failed_seeds(
    failed_seeds: Collection[int], run_trial: Any, config: Any, seeds: Any, *rest: Any
) -> Any:
    """Run a trial whose failed seeds diverge in the second epoch if n_ctx is 2."""
    items: Iterator[EpochMetrics] = run_trial(config, seeds, *rest)
    indices = [index for index, seed in enumerate(seeds) if seed in failed_seeds]
    if getattr(config.generator, "n_ctx", 0) != 2 or not indices:
        yield from items
        return
    failed = dict.fromkeys(indices, REASON)
    for item in items:
        if item.stage == "selection_generator" or (item.stage, item.epoch) == ("selection", 1):
            yield item
            continue
        if len(failed) == len(seeds):
            raise NonFiniteLoss(failed)
        metrics = {
            name: tuple(None if index in failed else value for index, value in enumerate(values))
            for name, values in item.per_seed.items()
        }
        yield replace(item, per_seed=metrics, failed=failed)


def make_failing_method(bench: Bench, *failed_seeds: int) -> MethodFunctions:
    """Return the method of a bench in which these seeds of one configuration fail."""
    run_trial = bench.method.run_trial
    return replace(
        bench.method,
        run_trial=lambda *args: run_with_failed_seeds(failed_seeds, run_trial, *args),
    )


def list_seed_tags(bench: Bench, state: str) -> list[tuple[str, str, str]]:
    """Return n_ctx, seeds and reason of the trials' runs with a state."""
    return [
        (run.data.params["generator.n_ctx"], run.data.tags["ship.seeds"],
         run.data.tags.get("ship.reason", ""))
        for run in bench.list_trials() if run.data.tags["ship.state"] == state
    ]  # fmt: skip


def test_failed_seed_does_not_affect_the_others(
    bench: Bench, run_undisturbed: Callable[[StudyConfig], str]
) -> None:
    """The other seeds have the same results. --retry-non-finite reruns only the failed seed."""
    study = make_study(seeds=3)
    outcome = bench.run(study, method=make_failing_method(bench, 1))
    assert (outcome.done, outcome.failed, outcome.n_partial, outcome.failed_seeds) == (2, 1, 1, 1)
    assert outcome.final and not outcome.complete
    assert list_seed_tags(bench, "FAIL") == [("2", "[1]", f"{REASON} (seeds 1)")]
    (failed_run,) = [run for run in bench.list_trials() if run.data.tags["ship.state"] == "FAIL"]
    assert failed_run.info.status == "FAILED"
    assert failed_run.data.tags["ship.failure"] == "non_finite"
    assert not failed_run.data.metrics
    assert sorted(list_seed_tags(bench, "COMPLETE"))[1] == ("2", "[0, 2]", "")
    bench.check_invariants()
    disturbed, undisturbed = (
        select_comparable_rows(load_records("small", uri))
        for uri in (bench.uri, run_undisturbed(study))
    )
    finished = disturbed.filter(state="COMPLETE")
    assert len(finished) == 8
    expected = undisturbed.join(finished, on=["config_key", "seed"], how="semi")
    assert finished.drop("reason").equals(expected.drop("reason"))

    started = bench.list_started()
    again = bench.run(study, method=make_failing_method(bench, 1))
    assert not again.ran and (again.failed_seeds, bench.list_started()) == (1, started)
    retried = bench.run(study, method=make_failing_method(bench, 1), retry_non_finite=True)
    assert retried.ran and retried.final and retried.failed_seeds == 1
    assert bench.list_started()[len(started) :] == ["photos vae 2 coop seed 1"]
    assert not bench.run(study, method=make_failing_method(bench, 1)).ran
    fixed = bench.run(study, retry_non_finite=True)
    assert fixed.complete and fixed.ran
    assert len(bench.list_started()) == len(started) + 2
    bench.check_invariants()
    assert_same_table(bench.uri, run_undisturbed(study))
    assert not bench.run(study, retry_non_finite=True).ran


def test_report_shows_seed_counts(bench: Bench) -> None:
    """Each row has its failed seeds, with reasons below the table. Pairs are seeds of both rows."""
    bench.run(make_study(seeds=3), method=make_failing_method(bench, 1))
    table = build_tables(load_records("small", bench.uri))[0]
    text = format_csv(table).encode()
    frame = pl.read_csv(text)
    assert frame["n"].to_list() == [3, 2, 3]
    assert frame["failed"].to_list() == [0, 1, 0]
    assert frame["pairs"].drop_nulls().to_list() == [3, 2]
    assert "| 2 | 2 of 3 (1 failed) |" in format_tables_as_markdown([table])
    assert f"not in any mean: 1 failed ({REASON} (seeds 1))" in table.notes


def test_driver_that_ends_between_failed_and_finished_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run reads which seed has failed, and trains only the others."""
    study = make_study(seeds=3)
    close = TrialRecorder._close

    def close_or_fail(self: Any, trial_id: str, state: Any, tags: Any) -> None:
        if state == "COMPLETE" and "ship.seeds" in tags:
            raise StoreError("the disk is full")
        close(self, trial_id, state, tags)

    with monkeypatch.context() as patch:
        patch.setattr(TrialRecorder, "_close", close_or_fail)
        with pytest.raises(UserError, match="the disk is full"):
            bench.run(study, method=make_failing_method(bench, 1))
    assert list_seed_tags(bench, "FAIL") == [("2", "[1]", f"{REASON} (seeds 1)")]
    n_started = len(bench.list_started())
    outcome = bench.run(study, method=make_failing_method(bench, 1))
    assert outcome.final and outcome.failed_seeds == 1
    rerun = [line for line in bench.list_started()[n_started:] if " 2 " in line]
    assert [line[-1] for line in rerun] == ["0", "2"]
    assert len(list_seed_tags(bench, "FAIL")) == 1 and len(list_seed_tags(bench, "COMPLETE")) == 3
    bench.check_invariants()


def test_plan_names_retry_non_finite(bench: Bench) -> None:
    """The note has the number of failed seeds. A plan with the option runs them."""
    study = make_study(seeds=3)
    bench.run(study, method=make_failing_method(bench, 0, 1))
    plan = bench.plan(study)
    line = "2 seeds of 1 configuration failed with a non-finite number"
    assert plan.finished and f"{line}: use --retry-non-finite to retry them" in plan.notes
    retried = bench.plan(study, retry_non_finite=True)
    assert [row.seeds for row in retried.rows] == [(), (0, 1), ()]
    assert f"{line}: will be retried" in retried.notes


@pytest.mark.slow
def test_nan_in_one_seed_of_ships_method(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other seeds have the same results as without it. The failed one has no saved model."""
    pocket = FrozenCLIP.load("pocket")
    features = build_features(pocket)
    replaced = {"extract": lambda *_: features, "load_dataset": load_fake_images}
    method = replace(MethodFunctions(), **replaced)
    space = {"generator.kl_weight": [0.001]}
    keys = {
        "shots": 2,
        "augmentations": 2,
        "generator": VAE,
        "finetuner": COOP,
        "save_models": True,
    }
    smaller_study = make_study(space=space, seeds=[0, 2], **keys)
    assert bench.run(smaller_study, method=method).complete
    expected = load_records("small", bench.uri).rows

    train = BatchedFinetuner.train_epoch
    calls: list[None] = []

    def train_epoch(self: Any) -> Any:
        calls.append(None)
        if len(calls) == 2:  # the second epoch of selection
            with torch.no_grad():
                for value in self.stack.trained.values():
                    value[1] = torch.nan
        return train(self)

    monkeypatch.setattr(BatchedFinetuner, "train_epoch", train_epoch)
    study = make_study(name="other", space=space, seeds=[0, 1, 2], **keys)
    outcome = bench.run(study, method=method, reuse=False)
    assert (outcome.n_partial, outcome.failed_seeds) == (1, 1)
    rows = load_records("other", bench.uri).rows
    assert rows.sort("seed")["state"].to_list() == ["COMPLETE", "FAIL", "COMPLETE"]
    assert "stage selection, epoch 2 (seeds 1)" in rows.filter(seed=1)["reason"][0]
    numbers = [name for name in expected.columns if name.startswith(("test/", "selection"))]
    remaining = rows.filter(pl.col("seed") != 1).sort("seed").select(numbers)
    for name in numbers:
        values = expected.sort("seed")[name].to_list()
        assert remaining[name].to_list() == pytest.approx(values, abs=1e-3), name
    (run,) = [r for r in bench.list_trials("other") if r.data.tags["ship.state"] == "COMPLETE"]
    files = [
        file.path for file in bench.open_store().client.list_artifacts(run.info.run_id, "trained")
    ]
    assert files and not any("seed_1" in file for file in files)
    calls.clear()
    calls.extend([None] * 9)  # so that no later call is the second one
    assert bench.run(study, method=method, reuse=False, retry_non_finite=True).complete
