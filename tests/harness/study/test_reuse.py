"""Results of other studies in the store are reused."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from requests.exceptions import ConnectionError

from harness.config.study_config import StudyConfig
from harness.planning import configurations
from harness.store import CORRECT_FILE, SEEDS_CSV, Tag, errors
from reports.study.load import load_records
from reports.tables.build import build_tables
from ship.trial_config import RESULTS_VERSION
from tests.harness.conftest import Bench
from tests.harness.fakes import compute_result, make_study
from tests.harness.same_table import assert_same_table

LINE = (
    "results of {} seeds of {} configurations reused from study before. "
    "Use --no-reuse to rerun them"
)
COPIED_TAGS = ("ship.code_version", "ship.device", "ship.packages", "ship.config_key")


def check_copy(bench: Bench, source: Any, copy: Any) -> None:
    """Check that a run whose seeds are all reused has the data of its source."""
    client = bench.open_store().client
    assert copy.data.metrics == source.data.metrics
    assert copy.data.params == source.data.params
    for tag in COPIED_TAGS:
        assert copy.data.tags[tag] == source.data.tags[tag]
    assert copy.data.tags["ship.reused_run"] == source.info.run_id
    for name in ("selection/harmonic_mean", "selection_generator/loss", "training/loss"):
        histories = (client.get_metric_history(run.info.run_id, name) for run in (source, copy))
        source_curve, copied_curve = (
            [(point.step, point.value, point.timestamp) for point in points] for points in histories
        )
        assert copied_curve and copied_curve == source_curve
    for name in ("correct.parquet", "seeds.csv"):
        files = (client.download_artifacts(run.info.run_id, name) for run in (source, copy))
        assert len({Path(file).read_bytes() for file in files}) == 1


def check_reuse(bench: Bench, run_undisturbed: Callable[[StudyConfig], str]) -> None:
    """Check that seeds of another study are reused, and only the other seeds run."""
    space = {"generator.n_ctx": [1, 2]}
    assert bench.run(make_study(name="before", seeds=3, controls=True, space=space)).complete
    n_started = len(bench.list_started())
    study = make_study(seeds=[1, 2, 5], controls=True, space={"generator.n_ctx": [2, 4]})
    plan, line = bench.plan(study, details=True), LINE.format(10, 5)
    assert line in plan.notes
    assert {row.label: (row.seeds, row.done) for row in plan.rows[-2:]} == {
        "n_ctx=2": ((5,), (1, 2)), "n_ctx=4": ((1, 2, 5), ()),
    }  # fmt: skip
    seconds = bench.list_trials("before")[-1].data.metrics["trial/seconds"]
    assert plan.estimate and plan.estimate.seconds[
        plan.rows[-2].configuration.key
    ] == pytest.approx(seconds / 3)
    outcome, lines = bench.run_and_capture(study)
    assert outcome.complete and line in lines
    assert len(bench.list_started()) - n_started == 5 + 3
    bench.check_invariants()
    assert_same_table(bench.uri, run_undisturbed(study))
    records = load_records("small", bench.uri)
    assert records.reused == {"before": 10}
    note = "reused from study before: 10 results"
    assert note in build_tables(records)[0].notes
    # The third study reuses results from the run that computed them, and not from copies.
    third = make_study(name="third", seeds=[1, 2], space=space)
    outcome, lines = bench.run_and_capture(third)
    assert outcome.complete and not outcome.ran and lines[-1] == LINE.format(4, 2)
    first, again = ({run.data.tags["ship.config_key"]: run for run in bench.list_trials(name)}
                    for name in ("before", "third"))  # fmt: skip
    for key, run in again.items():
        assert run.data.tags["ship.reused_run"] == first[key].info.run_id
        assert run.data.metrics["trial/seconds"] == pytest.approx(
            first[key].data.metrics["trial/seconds"] * 2 / 3
        )
        # Seed curves were not logged, and a curve of the mean over three seeds is not that of two.
        assert "selection/harmonic_mean" in first[key].data.metrics
        assert "selection/harmonic_mean" not in run.data.metrics
    same = make_study(name="same", seeds=3, space=space)
    assert not bench.run(same).ran
    for run in bench.list_trials("same"):
        check_copy(bench, first[run.data.tags["ship.config_key"]], run)
    # Deleted results are not restored from their copies.
    for run in bench.list_trials("before"):
        bench.open_store().client.delete_run(run.info.run_id)
    assert not any(
        "reused" in note
        for note in bench.plan(make_study(name="before", seeds=3, space=space)).notes
    )


def test_results_of_another_study_are_reused(
    bench: Bench, run_undisturbed: Callable[[StudyConfig], str]
) -> None:
    """The new run has the numbers, curves, predictions, files and code version of the first run."""
    check_reuse(bench, run_undisturbed)


@pytest.mark.weekly
def test_results_are_reused_through_a_tracking_server(
    start_server: Callable[[Path], Bench],
    tmp_path: Path,
    run_undisturbed: Callable[[StudyConfig], str],
) -> None:
    """Their files are copied, too."""
    check_reuse(start_server(tmp_path / "files"), run_undisturbed)


@pytest.mark.parametrize(
    ("keys", "options", "version", "n_trained"),
    [
        ({}, {}, RESULTS_VERSION, 2),  # only the failed seeds
        ({}, {"reuse": False}, RESULTS_VERSION, 6),
        ({"log": {"seed_curves": True}}, {}, RESULTS_VERSION, 6),
        # If the scheduler may stop a configuration, it is reused only with all seeds.
        ({"scheduler": "asha"}, {}, RESULTS_VERSION, 2),
        ({}, {}, 0, 6),
    ],
)
def test_different_results_are_not_reused(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    keys: Any,
    options: Any,
    version: int,
    n_trained: int,
) -> None:
    """Runs of other configurations or results versions, or without requested metrics, are rerun."""

    def behave(config: Any, epoch: int) -> None:
        if config.generator.n_ctx == 1:
            raise RuntimeError("no")

    bench.behave = behave
    assert bench.run(make_study(name="before")).failed == 1
    bench.behave, n_started = None, len(bench.list_started())
    monkeypatch.setattr(configurations, "RESULTS_VERSION", version)
    study = make_study(**keys)
    n_reused = 3 * len(study.seeds) - n_trained
    assert any("reused" in note for note in bench.plan(study, **options).notes) is (n_reused > 0)
    outcome, lines = bench.run_and_capture(study, **options)
    assert outcome.complete and any("reused" in line for line in lines) is (n_reused > 0)
    assert len(bench.list_started()) - n_started == n_trained
    assert sum(load_records("small", bench.uri).reused.values()) == n_reused


def test_reused_run_has_only_curves_of_its_seeds(bench: Bench) -> None:
    """The curve of the mean is computed from those of the reused seeds."""
    keys: dict[str, Any] = {"log": {"seed_curves": True}, "space": {"generator.n_ctx": [4]}}
    assert bench.run(make_study(name="before", seeds=[1, 9], **keys)).ran
    study = make_study(seeds=[1], **keys)
    assert not bench.run(study).ran
    ((run,), client) = bench.list_trials(), bench.open_store().client
    history = client.get_metric_history(run.info.run_id, "selection/harmonic_mean")
    last = compute_result(study.base, 1)
    curve = {point.step: point.value for point in history}
    assert curve == pytest.approx({2: last - 2, 3: last - 1, 4: last})
    assert not [key for key in run.data.metrics if "seed_9" in key]
    assert run.data.tags[Tag.RUN_NOTE] == f"H {last:.1f}, 1 seed"


@pytest.mark.parametrize(("method", "period", "n_trained"), [
    ("list_artifacts", 0, 2), ("get_metric_history", 2, 0), ("search_experiments", 2, 0),
])  # fmt: skip
def test_reuse_survives_store_errors(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, method: str, period: int, n_trained: int
) -> None:
    """Reads are retried. A run whose files cannot be read is not reused.

    Every call fails, or every call except each second one.
    """
    study, calls = {"space": {"generator.n_ctx": [1]}}, count(1)
    assert bench.run(make_study(name="before", **study)).complete
    original, n_started = getattr(MlflowClient, method), len(bench.list_started())

    def fail(self: Any, *args: Any, **keys: Any) -> Any:
        if period and next(calls) % period == 0:
            return original(self, *args, **keys)
        raise ConnectionError("reset")

    monkeypatch.setattr(MlflowClient, method, fail)
    monkeypatch.setattr(errors, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(errors, "MAX_PAUSE", 0.0)
    assert any("reused" in note for note in bench.plan(make_study(**study)).notes)
    assert bench.run(make_study(**study)).complete
    assert len(bench.list_started()) - n_started == n_trained
    monkeypatch.undo()
    (run,) = bench.list_trials()
    files = bench.open_store().client.list_artifacts(run.info.run_id)
    assert [file.path for file in files] == [CORRECT_FILE, SEEDS_CSV]
