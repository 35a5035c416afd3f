"""MLflow runs -> one tidy frame: one row per (setting_key, seed), and what the study was."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import polars as pl

from harness.store import (
    COMPLETE,
    FAIL,
    PRUNED,
    SEED_TABLE,
    Configuration,
    Factor,
    Kind,
    Protocol,
    Run,
    RunFiles,
    RunRecord,
    StoreError,
    StudyRecord,
    Tag,
    checked,
    default_tracking_uri,
    read_runs,
    refreshed,
    runs_address,
    with_seed_tables,
)
from harness.wording import count
from reports.errors import EmptyStudyError, ReportError
from reports.study.names import in_words, study_protocol
from reports.study.on_demand import Histories, HitFiles
from reports.study.rows import frame, seed_rows, trial_records, wanted_rows


@dataclass(frozen=True, eq=False)
class Study:
    """A study as the reports see it; two are one only if they are the same object.

    rows: one row per (setting_key, seed); numbers are null unless state is COMPLETE; rows in state
        MISSING are wanted and have no run.
    protocol: what its metrics are.
    constants: the TrialConfig params (as MLflow text) that all settings share.
    left_out: finished rows of settings or seeds that the study no longer wants.
    untried: settings that the sampler has still to propose.
    adopted: study -> finished rows of this one's that were run under that one's name.
    scope: "" for the whole study, else the dataset, or the words for an average over datasets, that
        this part of it holds.
    pooled: the datasets that a row is the average over, () where it is of one dataset.
    hits: the right answers that the runs keep.
    histories: every value of a metric that the runs have logged.
    smallest_effect: that is of interest, in points.
    description: as the YAML has it.
    runs_address: of a run in MLflow's UI, without its id; "" where it is not known.
    config: the YAML's content with its defaults, as it was last run, under the study's name.
    versions: what made the numbers: the code's version, and packages with theirs.
    """

    name: str
    rows: pl.DataFrame
    factors: tuple[Factor, ...]
    settings: tuple[Configuration, ...]
    protocol: Protocol
    objective: str
    sampler: str
    constants: dict[str, str]
    demonstration: bool
    left_out: int
    untried: int
    warnings: tuple[str, ...]
    scope: str = ""
    pooled: tuple[str, ...] = ()
    hits: HitFiles = field(default_factory=HitFiles)
    histories: Histories = field(default_factory=Histories)
    smallest_effect: float = 1.0
    description: str = ""
    runs_address: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    adopted: Mapping[str, int] = field(default_factory=dict)

    @property
    def own(self) -> tuple[Configuration, ...]:
        """The settings that are no reference arms."""
        return tuple(setting for setting in self.settings if not setting.arm)

    @property
    def score(self) -> str:
        """The column of the selection objective."""
        return f"selection/{self.objective}"

    @cached_property
    def by_setting(self) -> dict[str, list[dict[str, Any]]]:
        """setting_key -> its rows; of a few rows, plain values take less time than a frame."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows.iter_rows(named=True):
            found.setdefault(row["setting_key"], []).append(row)
        return found


def load_records(
    study_name: str, tracking_uri: str | None = None, known: Sequence[Run] = ()
) -> Study:
    """Read a study from MLflow, by its experiment's name.

    Args:
        study_name: of its experiment.
        tracking_uri: of the store; None: MLFLOW_TRACKING_URI, else ./mlflow.db.
        known: The runs of its experiment, oldest first, if they have just been read. Only the
            study's own run is then read again.

    Raises:
        ReportError: unreadable store or unknown study (one line).
        EmptyStudyError: nothing of it has ended yet.
    """
    try:
        uri = checked(tracking_uri or default_tracking_uri())
        runs = refreshed(known, uri) or read_runs(study_name, uri)
    except StoreError as error:
        raise ReportError(str(error)) from error.__cause__
    files = RunFiles(uri, {run.run_id: run.artifacts for run in runs})
    runs, n_lost = with_seed_tables(runs, files)
    study = study_from_runs(study_name, runs)
    warnings = study.warnings
    if n_lost:
        lost = f"{count(n_lost, 'finished run')} without {SEED_TABLE}"
        warnings += (f"{lost}: only the metrics that MLflow shows are known of their seeds",)
    return replace(
        study,
        warnings=warnings,
        hits=HitFiles(files),
        histories=Histories(uri),
        runs_address=runs_address(uri, runs[0].experiment_id),
    )


def study_from_runs(name: str, runs: Sequence[Run]) -> Study:
    """Build the study from its runs, oldest first (see load_records)."""
    parents = [r for r in runs if r.tags[Tag.KIND] == Kind.STUDY and Tag.FACTORS in r.tags]
    if not parents:
        raise ReportError(f"{name}: an MLflow experiment, but no study of ship-sweep")
    try:
        record = StudyRecord.from_tags(parents[-1].tags)
    except StoreError as error:
        raise ReportError(str(error)) from error
    warnings: list[str] = []
    trials = trial_records(runs, warnings)
    settings = tuple({(c.key, c.arm): c for c in record.configurations}.values())
    keys = {setting.key for setting in settings}
    found = [row for trial in trials for row in seed_rows(trial)]
    known = sorted({row["seed"] for row in found if row["setting_key"] in keys})
    kept, left_out = wanted_rows(settings, record.seeds or tuple(known), found, warnings)
    warnings += _unfinished_lines(trials, kept)
    if not any(row["state"] in (COMPLETE, FAIL, PRUNED) for row in kept):
        raise EmptyStudyError(f"{name}: nothing to report, no run has ended yet")
    source_of = {one.logged.run_id: one.logged.tags.get(Tag.ADOPTED_STUDY, "") for one in trials}
    adopted = Counter(source_of[row["run_id"]] for row in kept if row["state"] == COMPLETE)
    # a configuration that a sampler has proposed twice was tried twice
    tried = sum(not configuration.arm for configuration in record.configurations)
    current = [trial.logged for trial in trials if trial.setting_key in keys]
    protocol = study_protocol(current, (key.removeprefix("test/") for row in kept for key in row))
    metrics = tuple(protocol.headings)
    rows = frame(kept, record.factors, settings, metrics)
    return Study(
        name=name,
        rows=rows,
        factors=record.factors,
        settings=settings,
        protocol=protocol,
        objective=record.objective or protocol.default,
        sampler=record.sampler,
        constants=_constants(current),
        demonstration=any(r.tags.get(Tag.DEMONSTRATION) == "true" for r in current),
        left_out=left_out,
        # a finished study lacks none: its space may hold fewer than `trials` asks for
        untried=0 if record.finished else max(0, record.trials - tried),
        warnings=(*warnings, *_lacking_lines(rows, settings, metrics)),
        smallest_effect=record.smallest_effect,
        description=record.description,
        config=dict(record.content),
        versions=dict(record.versions),
        adopted={study: rows for study, rows in adopted.items() if study},
    )


def _constants(runs: Sequence[Run]) -> dict[str, str]:
    """The params that all settings of the study proper share (arms differ by design)."""
    own = [run for run in runs if not run.tags.get(Tag.ARM)] or runs
    params = [{**run.params, "split_version": run.tags.get(Tag.SPLIT_VERSION, "")} for run in own]
    first, rest = params[0], params[1:]
    return {k: v for k, v in first.items() if all(p.get(k) == v for p in rest)}


def _unfinished_lines(
    trials: Iterable[RunRecord], rows: Iterable[Mapping[str, Any]]
) -> Iterator[str]:
    """Yield a line for each row whose run is COMPLETE, but has not finished the row's seed.

    Args:
        trials: Records of the study's trials.
        rows: The rows of the study's table.
    """
    failed: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["state"] == FAIL:
            failed.setdefault(row["run_id"], []).append(row)
    for trial in (trial for trial in trials if trial.unfinished):
        run_id = trial.logged.run_id
        named = f"run {run_id} ({in_words(trial.assignment, trial.arm)})"
        for row in sorted(failed.get(run_id, ()), key=lambda row: row["seed"]):
            why = f"COMPLETE, but {row['reason']}; counted as failed"
            yield f"{named}, seed {row['seed']}: {why}"


def _lacking_lines(
    rows: pl.DataFrame, settings: Iterable[Configuration], metrics: Sequence[str]
) -> Iterator[str]:
    """A line for each metric that a finished seed of a setting lacks, and its others have.

    Args:
        rows: of the study.
        settings: of the study.
        metrics: the protocol's.
    """
    done = rows.filter(state=COMPLETE)
    # an arm may share the key of a setting, whose values then name it
    by_kind = sorted(settings, key=lambda s: not s.arm)
    named = {s.key: in_words(s.assignment, s.arm) for s in by_kind}
    for name in metrics:
        column = pl.col(f"test/{name}")
        some = (column.null_count() > 0) & (column.count() > 0)
        odd = done.filter(some.over("setting_key") & column.is_null())
        for key, seed in odd.select("setting_key", "seed").rows():
            yield f"{named[key]}, seed {seed}: no test/{name}, which its other seeds have"
