"""Load a study from MLflow: its rows, one per (configuration, seed), and its properties."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import polars as pl

from harness.store import (
    COMPLETE,
    FAIL,
    PRUNED,
    SEEDS_CSV,
    ConfigurationRecord,
    FactorRecord,
    Kind,
    ProtocolMetrics,
    Run,
    RunFiles,
    RunRecord,
    StoreError,
    StudyRecord,
    Tag,
    get_default_tracking_uri,
    get_runs_address,
    list_study_names,
    merge_seeds_csv,
    read_runs,
    refresh_study_run,
    require_store,
)
from harness.wording import count
from reports.errors import EmptyStudyError, ReportError
from reports.study.names import format_configuration, get_study_protocol
from reports.study.on_demand import CorrectFiles, Histories
from reports.study.rows import (
    get_trial_records,
    make_seed_rows,
    make_study_frame,
    select_planned_rows,
)


@dataclass(frozen=True)
class Provenance:
    """Params and tags of a configuration's run, which record how its results were computed.

    Attributes:
        params: Dotted name of an option of TrialConfig -> its value as text.
        tags: MLflow tags of the run.
    """

    params: Mapping[str, str]
    tags: Mapping[str, str]


# Configuration -> seed -> metric -> percentage.
ResultsBySeed = Mapping[str, Mapping[int, Mapping[str, float]]]


@dataclass(frozen=True)
class ExternalResults:
    """Results from a CSV file, which ship-sweep has neither computed nor checked.

    Attributes:
        file: Name of the file. "" if there are no external results.
        values: Dataset -> configuration -> seed -> metric -> percentage. The dataset is "" if the
            study has only one.
    """

    file: str = ""
    values: Mapping[str, ResultsBySeed] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Study:
    """All data of a study that reports use. Instances are compared by identity.

    Attributes:
        name: Name of the study.
        rows: One row per planned (config_key, seed); see make_study_frame. Metrics are null unless
            the state is COMPLETE. The state is MISSING if there is no run.
        factors: The factors.
        configurations: The configurations, including the controls.
        protocol: Metrics of the study's protocol, with those of plugins and target datasets.
        objective: Metric that selection maximizes.
        sampler: Name of the sampler. "grid" for a full grid.
        constants: Options that have the same value in all runs: dotted name -> value as text.
        demonstration: Whether any run used the demonstration backbone.
        n_left_out: Number of finished results that are not in `rows`, because the study no longer
            plans their configuration or seed.
        n_untried: Number of configurations that the sampler has not proposed yet.
        warnings: Problems in the study's records, one line each.
        scope: Part of the study that this object contains: the name of a dataset, or "average over
            5 datasets". "" for the whole study.
        pooled_datasets: Datasets over which each row is averaged. () if rows are not averages.
        correct_predictions: Correct predictions of the runs.
        histories: Metric histories of the runs.
        smallest_effect: Smallest effect of interest, in percentage points.
        description: Description from the YAML.
        runs_address: URL of the runs in MLflow's UI, to which a run ID is appended. "" if unknown.
        config: Content of the YAML with its defaults, from the last time the study was run.
        versions: Versions of the code and of the packages that produced the results.
        reused: Name of another study -> number of finished rows that were reused from it.
        provenance: Params and tags of each configuration's newest run, by config_key.
            Configurations without a run are absent.
        external: External results, which tables show next to the study's own.
    """

    name: str
    rows: pl.DataFrame
    factors: tuple[FactorRecord, ...]
    configurations: tuple[ConfigurationRecord, ...]
    protocol: ProtocolMetrics
    objective: str
    sampler: str
    constants: dict[str, str]
    demonstration: bool
    n_left_out: int
    n_untried: int
    warnings: tuple[str, ...]
    scope: str = ""
    pooled_datasets: tuple[str, ...] = ()
    correct_predictions: CorrectFiles = field(default_factory=CorrectFiles)
    histories: Histories = field(default_factory=Histories)
    smallest_effect: float = 1.0
    description: str = ""
    runs_address: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    reused: Mapping[str, int] = field(default_factory=dict)
    provenance: Mapping[str, Provenance] = field(default_factory=dict)
    external: ExternalResults = field(default_factory=ExternalResults)

    @property
    def non_controls(self) -> tuple[ConfigurationRecord, ...]:
        """All configurations except the controls."""
        return tuple(
            configuration for configuration in self.configurations if not configuration.control
        )

    @property
    def score_column(self) -> str:
        """Name of the column in `rows` with the selection score: the objective's value."""
        return f"selection/{self.objective}"

    @cached_property
    def by_configuration(self) -> dict[str, list[dict[str, Any]]]:
        """`rows` as dictionaries, by config_key. For few rows, faster than filtering the frame."""
        rows: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows.iter_rows(named=True):
            rows.setdefault(row["config_key"], []).append(row)
        return rows


def load_records(
    study_name: str, tracking_uri: str | None = None, recent_runs: Sequence[Run] = ()
) -> Study:
    """Read a study from MLflow.

    Args:
        study_name: Name of the study's experiment.
        tracking_uri: MLflow tracking URI. Defaults to MLFLOW_TRACKING_URI, else ./mlflow.db.
        recent_runs: Runs of the experiment, oldest first, if the caller has just read them. Only
            the study's own run, which is not a trial, is then read again. Defaults to reading all
            runs.

    Raises:
        ReportError: If the store cannot be read, the study is unknown, or its records are damaged.
        EmptyStudyError: If no run of the study has ended yet. It is a ReportError.
    """
    with _as_report_errors():
        uri = require_store(tracking_uri or get_default_tracking_uri())
        runs = refresh_study_run(recent_runs, uri) or read_runs(study_name, uri)
    files = RunFiles(uri, {run.run_id: run.artifacts for run in runs})
    runs, n_unreadable = merge_seeds_csv(runs, files)
    study = build_study_from_runs(study_name, runs)
    warnings = study.warnings
    if n_unreadable:
        message = f"{count(n_unreadable, 'finished run')} without {SEEDS_CSV}"
        warnings += (f"{message}: only the metrics in MLflow are known for their seeds",)
    return replace(
        study,
        warnings=warnings,
        correct_predictions=CorrectFiles(files),
        histories=Histories(uri),
        runs_address=get_runs_address(uri, runs[0].experiment_id),
    )


def load_study_names(tracking_uri: str) -> list[str]:
    """Return the names of a store's studies, newest first.

    Raises:
        ReportError: If the store cannot be read.
    """
    with _as_report_errors():
        return list_study_names(tracking_uri)


@contextmanager
def _as_report_errors() -> Iterator[None]:
    """Raise a ReportError in place of each StoreError inside the context."""
    try:
        yield
    except StoreError as error:
        raise ReportError(str(error)) from error.__cause__


def build_study_from_runs(name: str, runs: Sequence[Run]) -> Study:
    """Build a study from the runs of its experiment, without their files.

    Args:
        name: Name of the study.
        runs: Runs of the experiment, oldest first.

    Raises:
        ReportError: If the study's own run is missing or damaged.
        EmptyStudyError: If no run of the study has ended yet. It is a ReportError.
    """
    study_runs = [
        run for run in runs if run.tags.get(Tag.KIND) == Kind.STUDY and Tag.FACTORS in run.tags
    ]
    if not study_runs:
        raise ReportError(f"{name}: this MLflow experiment is not a ship-sweep study")
    with _as_report_errors():
        record = StudyRecord.from_tags(study_runs[-1].tags)
    warnings: list[str] = []
    trials = get_trial_records(runs, warnings)
    # a sampler may propose a configuration more than once
    unique_configurations = {
        (configuration.key, configuration.control): configuration
        for configuration in record.configurations
    }
    configurations = tuple(unique_configurations.values())
    keys = {configuration.key for configuration in configurations}
    run_rows = [row for trial in trials for row in make_seed_rows(trial)]
    run_seeds = sorted({row["seed"] for row in run_rows if row["config_key"] in keys})
    table_rows, n_left_out = select_planned_rows(
        configurations, record.seeds or tuple(run_seeds), run_rows, warnings
    )
    warnings += _warn_of_unfinished_seeds(trials, table_rows)
    if not any(row["state"] in (COMPLETE, FAIL, PRUNED) for row in table_rows):
        raise EmptyStudyError(f"{name}: nothing to report, no run has ended yet")
    # run ID -> study that the run was reused from; "" if it was not reused
    source_studies = {
        trial.logged.run_id: trial.logged.tags.get(Tag.REUSED_STUDY, "") for trial in trials
    }
    n_reused = Counter(
        source_studies[row["run_id"]] for row in table_rows if row["state"] == COMPLETE
    )
    # a configuration that was proposed twice counts twice here
    n_tried = sum(not configuration.control for configuration in record.configurations)
    planned_runs = [trial.logged for trial in trials if trial.config_key in keys]
    protocol = get_study_protocol(
        planned_runs, (key.removeprefix("test/") for row in table_rows for key in row)
    )
    metrics = tuple(protocol.headings)
    rows = make_study_frame(table_rows, record.factors, configurations, metrics)
    return Study(
        name=name,
        rows=rows,
        factors=record.factors,
        configurations=configurations,
        protocol=protocol,
        objective=record.objective or protocol.default,
        sampler=record.sampler,
        constants=_get_shared_params(planned_runs),
        demonstration=any(run.tags.get(Tag.DEMONSTRATION) == "true" for run in planned_runs),
        n_left_out=n_left_out,
        # a finished study is complete, even if its space has fewer than `n_trials` configurations
        n_untried=0 if record.is_complete else max(0, record.n_trials - n_tried),
        warnings=(*warnings, *_warn_of_missing_metrics(rows, configurations, metrics)),
        smallest_effect=record.smallest_effect,
        description=record.description,
        config=dict(record.yaml_content),
        versions=dict(record.versions),
        reused={study: n_rows for study, n_rows in n_reused.items() if study},
        provenance={
            trial.config_key: Provenance(trial.logged.params, trial.logged.tags)
            for trial in trials
            if trial.config_key in keys
        },
    )


def _get_shared_params(runs: Sequence[Run]) -> dict[str, str]:
    """Return the params, including the split version, that have the same value in all runs.

    Controls are ignored, unless all runs are controls.
    """
    compared_runs = [run for run in runs if not run.tags.get(Tag.CONTROL)] or runs
    params = [
        {**run.params, "split_version": run.tags.get(Tag.SPLIT_VERSION, "")}
        for run in compared_runs
    ]
    return {
        key: value
        for key, value in params[0].items()
        if all(run_params.get(key) == value for run_params in params)
    }


def _warn_of_unfinished_seeds(
    trials: Iterable[RunRecord], rows: Iterable[Mapping[str, Any]]
) -> Iterator[str]:
    """Yield a warning for each row whose run is COMPLETE, but lacks required metrics of its seed.

    Args:
        trials: Records of the study's trials.
        rows: Rows of the study.
    """
    failed_rows: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["state"] == FAIL:
            failed_rows.setdefault(row["run_id"], []).append(row)
    for trial in (trial for trial in trials if trial.unfinished):
        run_id = trial.logged.run_id
        run_text = f"run {run_id} ({format_configuration(trial.assignment, trial.control)})"
        for row in sorted(failed_rows.get(run_id, ()), key=lambda row: row["seed"]):
            reason = f"COMPLETE, but {row['reason']}; counted as failed"
            yield f"{run_text}, seed {row['seed']}: {reason}"


def _warn_of_missing_metrics(
    rows: pl.DataFrame, configurations: Iterable[ConfigurationRecord], metrics: Sequence[str]
) -> Iterator[str]:
    """Yield a warning per finished seed that lacks a metric of its configuration's other seeds.

    Args:
        rows: Rows of the study.
        configurations: The study's configurations, including the controls.
        metrics: Metrics of the protocol.
    """
    finished_rows = rows.filter(state=COMPLETE)
    # If a control and a configuration have the same key, the name is that of the configuration:
    # it comes later, and replaces the control.
    controls_first = sorted(configurations, key=lambda configuration: not configuration.control)
    names = {
        configuration.key: format_configuration(configuration.assignment, configuration.control)
        for configuration in controls_first
    }
    for metric in metrics:
        column = pl.col(f"test/{metric}")
        is_partial = (column.null_count() > 0) & (column.count() > 0)
        gaps = finished_rows.filter(is_partial.over("config_key") & column.is_null())
        for key, seed in gaps.select("config_key", "seed").rows():
            yield f"{names[key]}, seed {seed}: no test/{metric}, unlike other seeds"
