"""Studies in which single seeds fail with non-finite numbers."""

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
from ship.finetuners.tune import BatchedFinetuner
from ship.trial_config import EpochMetrics, NonFiniteLoss
from tests.harness.conftest import Bench
from tests.harness.fakes import load_fake_images, make_study
from tests.harness.same_table import assert_same_table, select_comparable_rows
from tests.ship.conftest import build_features
from tests.ship.trial.cases import COOP, VAE

pytestmark = pytest.mark.usefixtures("pickle_by_value")

REASON = "loss is not finite at stage selection, epoch 2"


def losing(bad: Collection[int], run_trial: Any, config: Any, seeds: Any, *rest: Any) -> Any:
    """Run the analytic method at n_ctx 2, with NaN from the second epoch on under some seeds."""
    items: Iterator[EpochMetrics] = run_trial(config, seeds, *rest)
    places = [place for place, seed in enumerate(seeds) if seed in bad]
    if getattr(config.generator, "n_ctx", 0) != 2 or not places:
        yield from items
        return
    failed = dict.fromkeys(places, REASON)
    for item in items:
        if item.stage == "selection_generator" or (item.stage, item.epoch) == ("selection", 1):
            yield item
            continue
        if len(failed) == len(seeds):
            raise NonFiniteLoss(failed)
        metrics = {
            name: tuple(None if p in failed else value for p, value in enumerate(values))
            for name, values in item.per_seed.items()
        }
        yield replace(item, per_seed=metrics, failed=failed)


def with_bad(bench: Bench, *bad: int) -> MethodFunctions:
    """Return the method of a bench, with NaN for some seeds of one configuration."""
    run_trial = bench.method.run_trial
    return replace(bench.method, run_trial=lambda *args: losing(bad, run_trial, *args))


def tags_of(bench: Bench, state: str) -> list[tuple[str, str, str]]:
    """Return n_ctx, seeds and reason of the trials' runs with a state."""
    return [
        (run.data.params["generator.n_ctx"], run.data.tags["ship.seeds"],
         run.data.tags.get("ship.reason", ""))
        for run in bench.list_trials() if run.data.tags["ship.state"] == state
    ]  # fmt: skip


def test_failed_seed_does_not_affect_the_others(
    bench: Bench, run_undisturbed: Callable[[StudyConfig], str]
) -> None:
    """They have the same numbers; --retry-non-finite reruns only the failed seed."""
    study = make_study(seeds=3)
    outcome = bench.run(study, method=with_bad(bench, 1))
    assert (outcome.done, outcome.failed, outcome.n_partial, outcome.failed_seeds) == (2, 1, 1, 1)
    assert outcome.final and not outcome.complete
    assert tags_of(bench, "FAIL") == [("2", "[1]", f"{REASON} (seeds 1)")]
    (lost,) = [run for run in bench.list_trials() if run.data.tags["ship.state"] == "FAIL"]
    assert (lost.info.status, lost.data.tags["ship.failure"]) == ("FAILED", "non_finite")
    assert not lost.data.metrics
    assert sorted(tags_of(bench, "COMPLETE"))[1] == ("2", "[0, 2]", "")
    bench.check_invariants()
    ours, theirs = (
        select_comparable_rows(load_records("small", uri))
        for uri in (bench.uri, run_undisturbed(study))
    )
    finished = ours.filter(state="COMPLETE")
    assert len(finished) == 8
    wanted = theirs.join(finished, on=["config_key", "seed"], how="semi")
    assert finished.drop("reason").equals(wanted.drop("reason"))

    before = bench.list_started()
    again = bench.run(study, method=with_bad(bench, 1))
    assert not again.ran and (again.failed_seeds, bench.list_started()) == (1, before)
    once_more = bench.run(study, method=with_bad(bench, 1), retry_non_finite=True)
    assert once_more.ran and once_more.final and once_more.failed_seeds == 1
    assert bench.list_started()[len(before) :] == ["photos vae 2 coop seed 1\n".strip()]
    assert not bench.run(study, method=with_bad(bench, 1)).ran
    mended = bench.run(study, retry_non_finite=True)
    assert mended.complete and mended.ran
    assert len(bench.list_started()) == len(before) + 2
    bench.check_invariants()
    assert_same_table(bench.uri, run_undisturbed(study))
    assert not bench.run(study, retry_non_finite=True).ran


def test_report_shows_seed_counts(bench: Bench) -> None:
    """In the row, with the reason below the table; pairs are seeds that both rows have."""
    bench.run(make_study(seeds=3), method=with_bad(bench, 1))
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
    """The next run knows the failed seed, and trains only the others."""
    study = make_study(seeds=3)
    close = TrialRecorder._close

    def broken(self: Any, trial_id: str, state: Any, tags: Any) -> None:
        if state == "COMPLETE" and "ship.seeds" in tags:
            raise StoreError("the disk is full")
        close(self, trial_id, state, tags)

    with monkeypatch.context() as patch:
        patch.setattr(TrialRecorder, "_close", broken)
        with pytest.raises(UserError, match="the disk is full"):
            bench.run(study, method=with_bad(bench, 1))
    assert tags_of(bench, "FAIL") == [("2", "[1]", f"{REASON} (seeds 1)")]
    before = len(bench.list_started())
    outcome = bench.run(study, method=with_bad(bench, 1))
    assert outcome.final and outcome.failed_seeds == 1
    ran = [line for line in bench.list_started()[before:] if " 2 " in line]
    assert [line[-1] for line in ran] == ["0", "2"]
    assert len(tags_of(bench, "FAIL")) == 1 and len(tags_of(bench, "COMPLETE")) == 3
    bench.check_invariants()


def test_plan_names_retry_non_finite(bench: Bench) -> None:
    """The note has the number of failed seeds; with the option they would run."""
    study = make_study(seeds=3)
    bench.run(study, method=with_bad(bench, 0, 1))
    plan = bench.plan(study)
    line = "2 seeds of 1 configuration failed with a non-finite number"
    assert plan.finished and f"{line}: use --retry-non-finite to retry them" in plan.notes
    retried = bench.plan(study, retry_non_finite=True)
    assert [row.seeds for row in retried.rows] == [(), (0, 1), ()]
    assert f"{line}: will be retried" in retried.notes


@pytest.mark.slow
def test_nan_in_one_seed_of_ships_method(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other seeds' numbers, files and predictions are as without it."""
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
    alone = make_study(space=space, seeds=[0, 2], **keys)
    assert bench.run(alone, method=method).complete
    calm = load_records("small", bench.uri).rows

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
    numbers = [name for name in calm.columns if name.startswith(("test/", "selection"))]
    ours = rows.filter(pl.col("seed") != 1).sort("seed").select(numbers)
    for name in numbers:
        theirs = calm.sort("seed")[name].to_list()
        assert ours[name].to_list() == pytest.approx(theirs, abs=1e-3), name
    (run,) = [r for r in bench.list_trials("other") if r.data.tags["ship.state"] == "COMPLETE"]
    files = [
        file.path for file in bench.open_store().client.list_artifacts(run.info.run_id, "trained")
    ]
    assert files and not any("seed_1" in file for file in files)
    calls.clear()
    calls.extend([None] * 9)
    assert bench.run(study, method=method, reuse=False, retry_non_finite=True).complete
