"""From a store's runs, read by SQL or MLflow's client, to one row per (configuration, seed)."""

import math
import sys
from typing import Any

import polars as pl
import pytest

from harness.store import Run, read_runs
from reports.errors import ReportError
from reports.stats import compute_percent_interval
from reports.study.load import build_study_from_runs, load_records
from reports.tables import build_tables
from tests.case_files import load_cases
from tests.reports.builder import StoreBuilder, prompt_len, scores

N_CTX = "generator.n_ctx"
ONE = {N_CTX: 1}


def test_a_study_read_from_mlflow_equals_the_written_one(store_uri: str) -> None:
    """A real store gives the same study as the runs that were written to it."""
    builder = prompt_len()
    study = load_records("prompt_len", builder.write(store_uri))
    expected = builder.study()
    assert study.rows.drop("run_id").equals(expected.rows.drop("run_id"))
    assert study.configurations == expected.configurations
    assert study.factors == expected.factors
    assert len(study.rows) == 9 * 5
    assert set(study.rows["state"]) == {"COMPLETE"}


def test_a_store_of_an_earlier_version_is_read() -> None:
    """Tags of --path and --detect are ignored, and every configuration has the study's seeds."""
    design = {"metric": "harmonic_mean", "effect": 1.0, "looks": [2, 4], "comparisons": 2}
    builder = StoreBuilder(seeds=(0, 1, 2), config={"detect": design})
    builder.trial({N_CTX: 4}, {seed: scores(50.0 + seed) for seed in range(3)})
    builder.trial(ONE, {seed: scores(60.0 + seed) for seed in range(2)}, added="path")
    assert builder.wanted is not None
    builder.wanted[1] |= {"seeds": [0, 1], "added": "path"}
    study = builder.study()
    states = study.rows.select(N_CTX, "seed", "state").rows()
    assert states.count((1, 2, "MISSING")) == 1 and len(states) == 6
    assert build_tables(study)[0].rows[0].comparison is not None


def test_seeds_that_are_not_planned_are_left_out() -> None:
    """They are counted and are in no row. A planned seed without a run is missing."""
    builder = StoreBuilder(seeds=(0, 1, 3))
    builder.trial(ONE, {seed: scores(50.0) for seed in (0, 1, 2)})
    study = builder.study()
    rows = study.rows.select("seed", "state").rows()
    assert rows == [(0, "COMPLETE"), (1, "COMPLETE"), (3, "MISSING")]
    assert study.n_left_out == 1


@pytest.mark.parametrize("case", load_cases(__file__, "runs.yaml"))
def test_one_run_counts_for_each_seed_of_a_configuration(case: Any) -> None:
    """The first finished run counts, with a warning if there are two.

    A failed seed stays failed while it runs again.
    """
    builder = StoreBuilder(seeds=sorted({seed for results, _ in case["runs"] for seed in results}))
    for results, state in case["runs"]:
        metrics = {seed: scores(new) for seed, new in results.items()}
        builder.trial(
            ONE, metrics, state=state, reason="" if state == "COMPLETE" else "worker died"
        )
        for seed, new in results.items():  # what a run logs before it stops is no result
            builder.runs[-1].metrics[f"test/new/seed_{seed}"] = new
    study = builder.study()
    assert study.rows.select("seed", "state", "test/new").rows() == [
        tuple(row) for row in case["rows"]
    ]
    assert study.warnings == tuple(case.get("warnings", ()))
    reasons = study.rows.filter(pl.col("state") == "FAIL")["reason"].to_list()
    assert set(reasons) <= {"worker died"}


@pytest.mark.parametrize("value", [math.nan, math.inf, sys.float_info.max, None])
def test_complete_without_finite_numbers_is_a_failure(value: float | None) -> None:
    """A COMPLETE run without a finite H is a failed row with a reason, never NaN or 0."""
    builder = StoreBuilder(seeds=(0, 1)).trial(ONE, {0: scores(55.0), 1: scores(55.0)})
    metrics = builder.runs[0].metrics
    metrics.pop("test/harmonic_mean/seed_1")
    if value is not None:
        metrics["test/harmonic_mean/seed_1"] = value
    study = builder.study()
    assert study.rows["state"].to_list() == ["COMPLETE", "FAIL"]
    assert "no finite test/harmonic_mean" in study.rows["reason"][1]
    warning = f"({N_CTX}=1), seed 1: COMPLETE, but no finite test/harmonic_mean logged; counted as"
    assert warning in study.warnings[0]


def test_a_seed_that_lacks_a_metric_of_its_other_seeds_is_named() -> None:
    """A metric that no seed of a configuration has is not reported."""
    builder = StoreBuilder(seeds=(0, 1, 2))
    for n_ctx in (1, 4):
        builder.trial({N_CTX: n_ctx}, {seed: scores(50.0 + seed) for seed in (0, 1, 2)})
    del builder.runs[0].metrics["test/joint_new/seed_1"]
    for seed in (0, 1, 2):
        del builder.runs[1].metrics[f"test/joint_base/seed_{seed}"]
    study = builder.study()
    warning = f"{N_CTX}=1, seed 1: no test/joint_new, which its other seeds have"
    assert study.warnings == (warning,)
    assert any(warning in note for note in build_tables(study)[0].notes)


def test_unreadable_runs_are_left_out_with_a_warning() -> None:
    """A run with unreadable seeds is named, and the others are reported."""
    builder = StoreBuilder(seeds=(0,)).trial(ONE, {0: scores(55.0)})
    builder.runs.append(Run("odd", 5, {"ship.kind": "trial", "ship.seeds": "x"}, {}, {}))
    study = builder.study()
    assert len(study.rows) == 1
    assert study.warnings[0].startswith("run odd left out")


def test_mixed_factor_values_become_text() -> None:
    """A column of names and groups is text, one of integers and floats is float."""
    factors = [
        {"key": "finetuner", "levels": ["coop"], "log": False, "baseline": "coop"},
        {"key": "generator.kl_weight", "levels": None, "log": True, "baseline": None},
    ]
    builder = StoreBuilder(seeds=(0,), factors=factors)
    builder.trial({"finetuner": {"name": "coop"}, "generator.kl_weight": 1}, {0: scores(5.0)})
    builder.trial({"finetuner": "zero_shot", "generator.kl_weight": 0.1}, {0: scores(5.0)})
    rows = builder.study().rows
    assert rows["finetuner"].to_list() == ['{"name": "coop"}', "zero_shot"]
    assert rows["generator.kl_weight"].to_list() == [1.0, 0.1]


def test_an_experiment_that_is_no_study_is_one_line() -> None:
    """An experiment without a study's run is named."""
    with pytest.raises(ReportError, match="is not a ship-sweep study"):
        build_study_from_runs("other", [])


@pytest.mark.parametrize("text", ["{", "[1]", '[{"control": ""}]'])
def test_a_damaged_list_of_configurations_is_one_line(text: str) -> None:
    """A study's run with altered tags gives an error, not a traceback."""
    builder = StoreBuilder(seeds=(0,)).trial(ONE, {0: scores(55.0)})
    parent = builder.parent()
    tags = {k: v for k, v in parent.tags.items() if not k.startswith("ship.planned.")}
    broken = Run("parent", 0, {**tags, "ship.planned": text}, {}, {})
    with pytest.raises(ReportError, match=r"MLflow tag ship\.planned"):
        build_study_from_runs("prompt_len", [broken, *builder.runs])


def test_reports_read_the_numbers_that_the_harness_writes() -> None:
    """They include each seed's metrics, quality measures and flags."""
    recorder = pytest.importorskip("harness.recording.numbers")
    halves = {"seen": [60.0, 62.0], "unseen": [50.0, 48.0], "harmonic_mean": [54.5, 54.1]}
    judged = {"quality/frechet": [0.4, 0.5], "flag/posterior_collapse": [0.0, 1.0]}
    tested = {f"test/{name}": values for name, values in (halves | judged).items()}
    chosen = {"selection/seen": [58.0, 59.0], "selection_epoch": [5, 10]}
    numbers = {
        f"{name}/seed_{seed}": value
        for name, values in (tested | chosen).items()
        for seed, value in zip((3, 4), values, strict=True)
    }
    numbers |= {"trial/seconds": 9.0, "trial/peak_memory_mb": 1.0, "trial/text_tokens": 100.0}
    builder = StoreBuilder(seeds=(3, 4), protocol="generalized_zero_shot", objective="seen")
    builder.trial(ONE, {3: {}, 4: {}})
    run = builder.runs[0]
    run.metrics.clear()
    run.metrics.update(recorder.compute_final_metrics(numbers, (3, 4), "generalized_zero_shot"))
    interval = compute_percent_interval(halves["unseen"])
    ends = [run.metrics[f"test/unseen_{end}"] for end in ("low", "high")]
    assert ends == [interval.low, interval.high]
    ended = {f"test/{name}_{end}" for name in halves for end in ("low", "high")}
    assert {name for name in run.metrics if name.endswith(("_low", "_high"))} == ended
    run.tags.update(recorder.make_flag_tags(numbers, (3, 4)))
    study = builder.study()
    names = ("seed", "test/unseen", "selection/seen", "test/quality/frechet", "selection_epoch")
    assert study.rows.select(names).rows() == [(3, 50.0, 58.0, 0.4, 5), (4, 48.0, 59.0, 0.5, 10)]
    assert study.rows["flag/posterior_collapse"].to_list() == [0.0, 1.0]
    assert study.objective == "seen"
    assert not any(name.endswith(("_low", "_high")) for name in study.rows.columns)


def test_runs_are_read_page_by_page(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run is read once, as it was written, NaN included."""
    builder = prompt_len()
    builder.runs[0].metrics["test/joint_new/seed_0"] = math.nan
    monkeypatch.setattr("harness.store.runs.PAGE", 2)
    runs = read_runs("prompt_len", builder.write(store_uri))
    read = [run for run in runs if run.tags["ship.kind"] == "trial"]
    assert len(read) == len(builder.runs) == 9
    for run, written in zip(read, builder.runs, strict=True):
        assert run.metrics == pytest.approx(written.metrics, nan_ok=True)
        assert (run.started, run.params) == (written.started, written.params)
        assert written.tags.items() <= run.tags.items()


def test_deleted_runs_are_not_read(store_uri: str) -> None:
    """A run that was deleted in MLflow is no run of the study."""
    from mlflow.tracking import MlflowClient

    uri = prompt_len().write(store_uri)
    last = read_runs("prompt_len", uri)[-1]
    MlflowClient(tracking_uri=uri).delete_run(last.run_id)
    assert last.run_id not in {run.run_id for run in read_runs("prompt_len", uri)}


def test_an_sqlite_address_with_options_is_one_line(store_uri: str) -> None:
    """The message shows how to write the address, as that of ship-sweep does."""
    uri = prompt_len().write(store_uri)
    with pytest.raises(ReportError) as raised:
        load_records("prompt_len", f"{uri}?timeout=30")
    hidden = f"{uri}?timeout=***"
    assert str(raised.value) == f"{hidden}: an sqlite store has no options. Write {uri}"
