"""Reading a study: from a store's runs to one row per (configuration, seed)."""

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
from tests.reports.builder import StoreBuilder, make_prompt_len, make_scores

N_CTX = "generator.n_ctx"
ASSIGNMENT = {N_CTX: 1}


def test_a_study_read_from_mlflow_equals_the_written_one(store_uri: str) -> None:
    """Rows, configurations and factors from a store equal those of the written runs."""
    builder = make_prompt_len()
    study = load_records("prompt_len", builder.write(store_uri))
    expected = builder.make_study()
    assert study.rows.drop("run_id").equals(expected.rows.drop("run_id"))
    assert study.configurations == expected.configurations
    assert study.factors == expected.factors
    assert len(study.rows) == 9 * 5
    assert set(study.rows["state"]) == {"COMPLETE"}


def test_a_store_of_an_earlier_version_is_read() -> None:
    """Tags of --path and --detect are ignored, and every configuration has the study's seeds."""
    design = {"metric": "harmonic_mean", "effect": 1.0, "looks": [2, 4], "comparisons": 2}
    builder = StoreBuilder(seeds=(0, 1, 2), config={"detect": design})
    builder.add_run({N_CTX: 4}, {seed: make_scores(50.0 + seed) for seed in range(3)})
    builder.add_run(ASSIGNMENT, {seed: make_scores(60.0 + seed) for seed in range(2)}, added="path")
    assert builder.planned is not None
    builder.planned[1] |= {"seeds": [0, 1], "added": "path"}
    study = builder.make_study()
    states = study.rows.select(N_CTX, "seed", "state").rows()
    assert states.count((1, 2, "MISSING")) == 1 and len(states) == 6
    assert build_tables(study)[0].rows[0].comparison is not None


def test_seeds_that_are_not_planned_are_left_out() -> None:
    """Seeds without a plan are counted and have no row. Planned seeds without a run are missing."""
    builder = StoreBuilder(seeds=(0, 1, 3))
    builder.add_run(ASSIGNMENT, {seed: make_scores(50.0) for seed in (0, 1, 2)})
    study = builder.make_study()
    rows = study.rows.select("seed", "state").rows()
    assert rows == [(0, "COMPLETE"), (1, "COMPLETE"), (3, "MISSING")]
    assert study.n_left_out == 1


@pytest.mark.parametrize("case", load_cases(__file__, "runs.yaml"))
def test_one_run_counts_for_each_seed_of_a_configuration(case: Any) -> None:
    """The first finished run counts, with a warning if there are two.

    A failed seed remains failed while it runs again.
    """
    builder = StoreBuilder(seeds=sorted({seed for results, _ in case["runs"] for seed in results}))
    for results, state in case["runs"]:
        metrics = {seed: make_scores(new) for seed, new in results.items()}
        builder.add_run(
            ASSIGNMENT, metrics, state=state, reason="" if state == "COMPLETE" else "worker died"
        )
        for seed, new in results.items():  # metrics of runs that are not COMPLETE are no results
            builder.runs[-1].metrics[f"test/new/seed_{seed}"] = new
    study = builder.make_study()
    assert study.rows.select("seed", "state", "test/new").rows() == [
        tuple(row) for row in case["rows"]
    ]
    assert study.warnings == tuple(case.get("warnings", ()))
    reasons = study.rows.filter(pl.col("state") == "FAIL")["reason"].to_list()
    assert set(reasons) <= {"worker died"}


@pytest.mark.parametrize("value", [math.nan, math.inf, sys.float_info.max, None])
def test_complete_without_finite_numbers_is_a_failure(value: float | None) -> None:
    """A COMPLETE run without a finite H is a failed row with a reason, never NaN or 0."""
    builder = StoreBuilder(seeds=(0, 1)).add_run(
        ASSIGNMENT, {0: make_scores(55.0), 1: make_scores(55.0)}
    )
    metrics = builder.runs[0].metrics
    metrics.pop("test/harmonic_mean/seed_1")
    if value is not None:
        metrics["test/harmonic_mean/seed_1"] = value
    study = builder.make_study()
    assert study.rows["state"].to_list() == ["COMPLETE", "FAIL"]
    assert "no finite test/harmonic_mean" in study.rows["reason"][1]
    warning = f"({N_CTX}=1), seed 1: COMPLETE, but no finite test/harmonic_mean logged; counted as"
    assert warning in study.warnings[0]


def test_a_seed_that_lacks_a_metric_of_its_other_seeds_is_named() -> None:
    """The warning does not name metrics that all seeds of a configuration lack."""
    builder = StoreBuilder(seeds=(0, 1, 2))
    for n_ctx in (1, 4):
        builder.add_run({N_CTX: n_ctx}, {seed: make_scores(50.0 + seed) for seed in (0, 1, 2)})
    del builder.runs[0].metrics["test/joint_new/seed_1"]
    for seed in (0, 1, 2):
        del builder.runs[1].metrics[f"test/joint_base/seed_{seed}"]
    study = builder.make_study()
    warning = f"{N_CTX}=1, seed 1: no test/joint_new, unlike other seeds"
    assert study.warnings == (warning,)
    assert any(warning in note for note in build_tables(study)[0].notes)


def test_unreadable_runs_are_left_out_with_a_warning() -> None:
    """The warning names the run."""
    builder = StoreBuilder(seeds=(0,)).add_run(ASSIGNMENT, {0: make_scores(55.0)})
    builder.runs.append(Run("odd", 5, {"ship.kind": "trial", "ship.seeds": "x"}, {}, {}))
    study = builder.make_study()
    assert len(study.rows) == 1
    assert study.warnings[0].startswith("run odd left out")


def test_mixed_factor_values_become_text() -> None:
    """A column of names and mappings is text, and a column of integers and floats is float."""
    factors = [
        {"key": "finetuner", "levels": ["coop"], "log": False, "baseline": "coop"},
        {"key": "generator.kl_weight", "levels": None, "log": True, "baseline": None},
    ]
    builder = StoreBuilder(seeds=(0,), factors=factors)
    builder.add_run(
        {"finetuner": {"name": "coop"}, "generator.kl_weight": 1}, {0: make_scores(5.0)}
    )
    builder.add_run({"finetuner": "zero_shot", "generator.kl_weight": 0.1}, {0: make_scores(5.0)})
    rows = builder.make_study().rows
    assert rows["finetuner"].to_list() == ['{"name": "coop"}', "zero_shot"]
    assert rows["generator.kl_weight"].to_list() == [1.0, 0.1]


def test_an_experiment_that_is_no_study_is_a_one_line_error() -> None:
    """An experiment of MLflow without the run that describes a study is an error."""
    with pytest.raises(ReportError, match="is not a ship-sweep study"):
        build_study_from_runs("other", [])


@pytest.mark.parametrize("text", ["{", "[1]", '[{"control": ""}]'])
def test_a_damaged_list_of_configurations_is_a_one_line_error(text: str) -> None:
    """An altered tag of the run that describes the study is a ReportError."""
    builder = StoreBuilder(seeds=(0,)).add_run(ASSIGNMENT, {0: make_scores(55.0)})
    tags = {
        key: value
        for key, value in builder.make_study_run().tags.items()
        if not key.startswith("ship.planned.")
    }
    damaged = Run("parent", 0, {**tags, "ship.planned": text}, {}, {})
    with pytest.raises(ReportError, match=r"MLflow tag ship\.planned"):
        build_study_from_runs("prompt_len", [damaged, *builder.runs])


def test_reports_read_the_numbers_that_the_harness_writes() -> None:
    """The numbers are metrics, quality metrics and flags of each seed."""
    recorder = pytest.importorskip("harness.recording.numbers")
    accuracies = {"seen": [60.0, 62.0], "unseen": [50.0, 48.0], "harmonic_mean": [54.5, 54.1]}
    quality_and_flags = {"quality/frechet": [0.4, 0.5], "flag/posterior_collapse": [0.0, 1.0]}
    tested = {f"test/{name}": values for name, values in (accuracies | quality_and_flags).items()}
    selection = {"selection/seen": [58.0, 59.0], "selection_epoch": [5, 10]}
    numbers = {
        f"{name}/seed_{seed}": value
        for name, values in (tested | selection).items()
        for seed, value in zip((3, 4), values, strict=True)
    }
    numbers |= {
        "trial/seconds": 9.0,
        "trial/peak_memory_mb": 1.0,
        "trial/text_tokens": 100.0,
    }
    builder = StoreBuilder(seeds=(3, 4), protocol="generalized_zero_shot", objective="seen")
    builder.add_run(ASSIGNMENT, {3: {}, 4: {}})
    run = builder.runs[0]
    run.metrics.clear()
    run.metrics.update(recorder.compute_final_metrics(numbers, (3, 4), "generalized_zero_shot"))
    interval = compute_percent_interval(accuracies["unseen"])
    ends = [run.metrics[f"test/unseen_{end}"] for end in ("low", "high")]
    assert ends == [interval.low, interval.high]
    expected = {f"test/{name}_{end}" for name in accuracies for end in ("low", "high")}
    assert {name for name in run.metrics if name.endswith(("_low", "_high"))} == expected
    run.tags.update(recorder.make_flag_tags(numbers, (3, 4)))
    study = builder.make_study()
    names = ("seed", "test/unseen", "selection/seen", "test/quality/frechet", "selection_epoch")
    assert study.rows.select(names).rows() == [(3, 50.0, 58.0, 0.4, 5), (4, 48.0, 59.0, 0.5, 10)]
    assert study.rows["flag/posterior_collapse"].to_list() == [0.0, 1.0]
    assert study.objective == "seen"
    assert not any(name.endswith(("_low", "_high")) for name in study.rows.columns)


def test_runs_are_read_page_by_page(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run is read once, with the written metrics (including NaN), params and tags."""
    builder = make_prompt_len()
    builder.runs[0].metrics["test/joint_new/seed_0"] = math.nan
    monkeypatch.setattr("harness.store.runs.PAGE", 2)
    runs = read_runs("prompt_len", builder.write(store_uri))
    trial_runs = [run for run in runs if run.tags["ship.kind"] == "trial"]
    assert len(trial_runs) == len(builder.runs) == 9
    for run, written in zip(trial_runs, builder.runs, strict=True):
        assert run.metrics == pytest.approx(written.metrics, nan_ok=True)
        assert (run.started, run.params) == (written.started, written.params)
        assert written.tags.items() <= run.tags.items()


def test_deleted_runs_are_not_read(store_uri: str) -> None:
    """MLflow marks deleted runs, and keeps their rows."""
    from mlflow.tracking import MlflowClient

    uri = make_prompt_len().write(store_uri)
    last = read_runs("prompt_len", uri)[-1]
    MlflowClient(tracking_uri=uri).delete_run(last.run_id)
    assert last.run_id not in {run.run_id for run in read_runs("prompt_len", uri)}


def test_an_sqlite_address_with_options_is_a_one_line_error(store_uri: str) -> None:
    """The message contains the address without options."""
    uri = make_prompt_len().write(store_uri)
    with pytest.raises(ReportError) as raised:
        load_records("prompt_len", f"{uri}?timeout=30")
    assert str(raised.value) == f"{uri}?timeout=***: an sqlite store has no options. Write {uri}"
