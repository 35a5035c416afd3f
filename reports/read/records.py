"""MLflow runs -> one tidy frame: one row per (setting_key, seed), and what the study was."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from reports.contract import (
    COMPLETE,
    DEFAULT_PROTOCOL,
    FAIL,
    PRUNED,
    EmptyStudyError,
    Kind,
    Protocol,
    ReportError,
    Tag,
)
from reports.read.addresses import runs_address
from reports.read.config import are_seeds, listed_seeds_of, own_seeds, trials_of
from reports.read.curves import Histories
from reports.read.detection import Detection, detection_of
from reports.read.flags import with_zeros, without_points
from reports.read.hits import HitFiles
from reports.read.measures import lacking_lines, study_protocol, targets_of
from reports.read.rows import Factor, Setting, frame, missing_rows, one_per_seed, seed_rows
from reports.read.runs import Run, read_runs


@dataclass(frozen=True)
class Study:
    """A study as the reports see it.

    rows: one row per (setting_key, seed); numbers are null unless state is COMPLETE; rows in state
        MISSING are wanted and have no run.
    protocol: what its metrics are.
    constants: the TrialConfig params (as MLflow text) that all settings share.
    left_out: finished rows of settings or seeds that the study no longer wants.
    untried: settings that the sampler has still to propose.
    aside: settings that --path ran, and that this part of the study leaves out.
    scope: "" for the whole study, else the dataset, or the words for an average over datasets, that
        this part of it holds.
    pooled: the datasets that a row is the average over, () where it is of one dataset.
    hits: the right answers that the runs keep.
    histories: every value of a metric that the runs have logged.
    smallest_effect: that is of interest, in points.
    description: as the YAML has it.
    runs_address: of a run in MLflow's UI, without its id; "" where it is not known.
    config: the YAML's content with its defaults, as it was last run.
    versions: what made the numbers: the code's version, and packages with theirs.
    seeds: that the study lists, in the order in which they were given out.
    detection: how `ship-sweep --detect` gave them out; None: every setting has them all.
    """

    name: str
    rows: pl.DataFrame
    factors: tuple[Factor, ...]
    settings: tuple[Setting, ...]
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
    seeds: tuple[int, ...] = ()
    detection: Detection | None = None
    aside: int = 0


def load_records(study_name: str, tracking_uri: str) -> Study:
    """Read a study from MLflow, by its experiment's name.

    Raises:
        ReportError: unreadable store or unknown study (one line).
        EmptyStudyError: nothing of it has ended yet.
    """
    runs = read_runs(study_name, tracking_uri)
    folders = {run.run_id: run.artifacts for run in runs}
    study = study_from_runs(study_name, runs)
    return replace(
        study,
        hits=HitFiles(folders, tracking_uri),
        histories=Histories(tracking_uri),
        runs_address=runs_address(tracking_uri, runs[0].experiment_id),
    )


def study_from_runs(name: str, runs: Sequence[Run]) -> Study:
    """Build the study from its runs, oldest first (see load_records)."""
    parents = [r for r in runs if r.tags[Tag.KIND] == Kind.STUDY and _describes(r)]
    if not parents:
        raise ReportError(f"{name}: an MLflow experiment, but no study of ship-sweep")
    tags = parents[-1].tags
    warnings: list[str] = []
    trials = [r for r in runs if r.tags[Tag.KIND] == Kind.TRIAL and _readable(r, warnings)]
    listed = _wanted(tags) or _newest_settings(trials)
    settings = tuple({(s.key, s.arm): s for s in listed}.values())
    wanted = {setting.key for setting in settings}
    every = [row for run in trials for row in seed_rows(run, warnings)]
    config = _json_tag(tags, Tag.STUDY, {})
    listed_seeds = listed_seeds_of(config)
    seeds_of = {s.key: s.seeds or listed_seeds for s in settings}
    belongs = [
        row["setting_key"] in wanted
        and (not listed_seeds or row["seed"] in seeds_of[row["setting_key"]])
        for row in every
    ]
    kept = one_per_seed([row for row, own in zip(every, belongs, strict=True) if own], warnings)
    if not any(row["state"] in (COMPLETE, FAIL, PRUNED) for row in kept):
        raise EmptyStudyError(f"{name}: nothing to report, no run has ended yet")
    seeds = listed_seeds or sorted({row["seed"] for row in kept})
    kept += missing_rows(settings, seeds, kept)
    stale = {
        (row["setting_key"], row["seed"])
        for row, own in zip(every, belongs, strict=True)
        if not own and row["state"] == COMPLETE
    }
    factors = tuple(_factor(f) for f in _json_tag(tags, Tag.FACTORS, []))
    # A sampler may propose one setting twice: both count as tried.
    proposed = {r.tags[Tag.SETTING_KEY] for r in trials if Tag.ADDED not in r.tags}
    tried = sum(not s.arm and (not s.added or s.key in proposed) for s in listed)
    finished = tags.get(Tag.STATE) == COMPLETE
    current = [run for run in trials if run.tags[Tag.SETTING_KEY] in wanted]
    protocol = _protocol(current, kept)
    rows = with_zeros(frame(kept, factors, settings, tuple(protocol.headings)), current)
    warnings += lacking_lines(rows, settings, list(protocol.headings))
    return Study(
        name=name,
        rows=without_points(rows, current),
        factors=factors,
        settings=settings,
        protocol=protocol,
        objective=_objective(tags.get(Tag.OBJECTIVE), protocol, kept),
        sampler=tags.get(Tag.SAMPLER, "grid"),
        constants=_constants(current),
        demonstration=any(r.tags.get(Tag.DEMONSTRATION) == "true" for r in current),
        left_out=len(stale),
        # A finished study may hold fewer: a small space has no more settings than it has.
        untried=0 if finished else max(0, trials_of(config) - tried),
        warnings=tuple(warnings),
        smallest_effect=_smallest_effect(config),
        description=_text(config.get("description")),
        config=config,
        versions=_versions(tags),
        seeds=tuple(seeds),
        detection=detection_of(config.get("detect")),
    )


def _protocol(runs: Sequence[Run], rows: Sequence[Mapping[str, Any]]) -> Protocol:
    """The protocol of the study's runs, with the targets that they name or measure."""
    tagged = {run.tags.get(Tag.PROTOCOL, DEFAULT_PROTOCOL) for run in runs}
    metrics = {key.removeprefix("test/") for row in rows for key in row if key.startswith("test/")}
    return study_protocol(tagged, targets_of([run.params for run in runs], sorted(metrics)))


def _objective(name: str | None, protocol: Protocol, rows: Sequence[Mapping[str, Any]]) -> str:
    """The metric that was maximised on the selection pictures; a guess where the store lacks it."""
    measured = {key for row in rows for key in row if key.startswith("selection/")}
    choices = [name or protocol.default, protocol.default, *protocol.headings]
    return next((one for one in choices if f"selection/{one}" in measured), choices[0])


def _describes(run: Run) -> bool:
    return Tag.FACTORS in run.tags


def _json_tag(tags: Mapping[str, str], tag: str, default: Any) -> Any:
    """Parse a JSON tag of the parent run; a long one goes on in TAG.1, TAG.2.

    Raises:
        ReportError: the tag is there and is no JSON of the default's type.
    """
    if tag not in tags:
        return default
    names = itertools.takewhile(tags.__contains__, (f"{tag}.{i}" for i in itertools.count(1)))
    try:
        found = json.loads(tags[tag] + "".join(tags[name] for name in names))
        json.dumps(found, ensure_ascii=False).encode()  # half a character could not be written
    except (ValueError, RecursionError) as error:
        raise ReportError(f"MLflow tag {tag} of the study's run is not JSON: {error}") from error
    if not isinstance(found, type(default)):
        raise ReportError(f"MLflow tag {tag} of the study's run is not what ship-sweep writes")
    return found


def _readable(run: Run, warnings: list[str]) -> bool:
    """Say whether a trial run carries the tags that place it in the table; warn where not."""
    try:
        seeds = json.loads(run.tags[Tag.SEEDS])
        known = isinstance(json.loads(run.tags.get(Tag.ASSIGNMENT, "{}")), dict)
        if known and Tag.SETTING_KEY in run.tags and are_seeds(seeds):
            return True
    except (KeyError, ValueError, RecursionError):
        pass
    warnings.append(f"run {run.run_id} left out: setting_key, seeds or assignment unreadable")
    return False


def _wanted(tags: Mapping[str, str]) -> tuple[Setting, ...]:
    """The settings that the parent run lists, () if it lists none.

    Raises:
        ReportError: an entry is not what ship-sweep writes.
    """
    listed = _json_tag(tags, Tag.WANTED, [])
    try:
        found = tuple(
            Setting(w["setting_key"], w["assignment"], w["arm"], own_seeds(w), "added" in w)
            for w in listed
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ReportError(f"MLflow tag {Tag.WANTED}: not a list of settings") from error
    kinds = {(type(s.key), type(s.assignment), type(s.arm)) for s in found}
    if not kinds <= {(str, dict, str)}:
        raise ReportError(f"MLflow tag {Tag.WANTED}: not a list of settings")
    return found


def _newest_settings(trials: Sequence[Run]) -> tuple[Setting, ...]:
    """Without a list: of every assignment and arm, the setting that ran last."""
    newest: dict[tuple[str, str], Setting] = {}
    for run in trials:
        assignment = json.loads(run.tags.get(Tag.ASSIGNMENT, "{}"))
        arm = run.tags.get(Tag.ARM, "")
        place = (json.dumps(assignment, sort_keys=True), arm)
        added = Tag.ADDED in run.tags
        newest[place] = Setting(run.tags[Tag.SETTING_KEY], assignment, arm, added=added)
    return tuple(newest.values())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _versions(tags: Mapping[str, str]) -> dict[str, str]:
    """The code's version and the packages', as the study's run has them."""
    packages = _json_tag(tags, Tag.PACKAGES, {})
    found = {**packages, "ship-sweep": tags.get(Tag.CODE_VERSION, "")}
    return {str(name): str(version) for name, version in found.items() if version}


def _smallest_effect(config: Mapping[str, Any]) -> float:
    """The study's smallest effect of interest, in points; 1 in a store that is older than it."""
    effect = config.get("smallest_effect", 1.0)
    if isinstance(effect, bool) or not isinstance(effect, int | float) or not 0 < effect <= 100:
        raise ReportError(f"MLflow tag {Tag.STUDY}: its smallest_effect is no number of points")
    return float(effect)


def _factor(entry: Any) -> Factor:
    sound = isinstance(entry, dict) and isinstance(entry.get("key"), str)
    levels = entry.get("levels") if sound else None
    if not sound or not isinstance(levels, list | None):
        raise ReportError(f"MLflow tag {Tag.FACTORS}: not a list of factors")
    return Factor(
        key=entry["key"],
        levels=None if levels is None else tuple(levels),
        log=bool(entry.get("log")),
        baseline=entry.get("baseline"),
    )


def _constants(runs: Sequence[Run]) -> dict[str, str]:
    """The params that all settings of the study proper share (arms differ by design)."""
    own = [run for run in runs if not run.tags.get(Tag.ARM)] or runs
    params = [{**run.params, "split_version": run.tags.get(Tag.SPLIT_VERSION, "")} for run in own]
    first, rest = params[0], params[1:]
    return {k: v for k, v in first.items() if all(p.get(k) == v for p in rest)}
