"""What a run of a study would do: its plan, what has changed, how long it will take, what it shows.

The sentences on the smallest difference that its seeds will show are of reports' own paired
differences and tests.
"""

import statistics
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness import planning, store
from harness.config import StudyConfig, load_plugins, load_study, parse_study
from harness.device import machine_memory
from harness.errors import ConfigError
from harness.method import Method
from harness.planning import Fingerprints, Plan, Say
from harness.resources import machine_resources, resolved_resources
from harness.store import Known, Ledger, Store, StoredStudy
from harness.study.features import features_seconds, fingerprints_of, needed
from harness.study.prompts import prompt_lines
from harness.study.rounds import rounds_of
from harness.study_files import label_of
from harness.wording import count, duration, one_line
from reports.contract import ReportError

if TYPE_CHECKING:
    from reports.tables import Family

# of each comparison of a family: seed -> difference
Differences = Sequence[Mapping[int, float]]
FEWEST_PAIRS = 3  # of two, the deviation is hardly known
MOST_SEEDS = 100_000


def plan_study(
    space: str | Path | Mapping[str, Any] | StudyConfig,
    overrides: Sequence[str] = (),
    *,
    plugins: Sequence[str | Path] = (),
    data_root: Path | str | None = None,
    cache_dir: Path | str | None = None,
    tracking_uri: str | None = None,
    detect: float | None = None,
    max_seeds: int | None = None,
    path: bool = False,
    reuse: bool = True,
    method: Method | None = None,
    say: Say | None = print,
) -> Plan:
    """What run_study would do next, and how long that would take on this machine; runs nothing.

    Args:
        space, overrides, plugins, data_root, cache_dir, tracking_uri, method: see run_study.
        detect, max_seeds, path: see run_study; with them it is the next round that is planned.
        reuse: see run_study.
        say: told what finding out the time takes; None: the plan comes without an estimate, and
            without what the seeds will show.

    Returns:
        The plan: `rows` (setting, state, seeds that would run), `finished`, `estimate` and `notes`,
        as ship-sweep --dry-run prints them.

    Raises:
        harness.errors.UserError, ValueError: see run_study.
    """
    study = typed_study(space, overrides, plugins, data_root, here=True)
    uri = store.store_uri(tracking_uri)
    prints = fingerprints_of(study, method, data_root, cache_dir)

    def plan_of(study: StudyConfig) -> Plan:
        return read_plan(study, uri, prints).plan

    next_round = rounds_of(study, plan_of, uri, detect=detect, max_seeds=max_seeds, path=path)
    wanted = next_round(None)
    if path and plan_of(study).finished:
        wanted = next_round(wanted)
    elif path:
        line = "path: what it lacks is known once the study's own settings have run"
        wanted = replace(wanted, lines=(line,))
    read = read_plan(wanted.study, uri, prints)
    plan, told = read.plan, wanted.lines
    known = elsewhere(read.opened, read.experiment_id, wanted.study, plan) if reuse else []
    ledger, found = read.ledger, planning.adoptions(wanted.study, plan, known)
    if found:
        ledger, rest = planning.once_adopted(wanted.study, ledger, found, prints)
        plan = replace(rest, notes=(*plan.notes, *planning.adoption_lines(found)))
    if say is not None:
        told += tuple(detectable_lines(wanted.study, uri))
        if not plan.finished:
            told += tuple(prompt_lines(wanted.study, plan, prints))
            plan = _with_time(wanted.study, plan, ledger, known, read.opened, prints, say)
    return replace(plan, notes=(*plan.notes, *told))


def typed_study(
    space: str | Path | Mapping[str, Any] | StudyConfig,
    overrides: Sequence[str],
    plugins: Sequence[str | Path],
    data_root: Path | str | None,
    *,
    here: bool,
) -> StudyConfig:
    """The study, read with the plugins that it may name; here: it is to run on this machine.

    Args: see run_study.
    """
    if isinstance(overrides, str) or not all(isinstance(one, str) for one in overrides):
        raise ConfigError([f'overrides must be a list such as ["seeds=3"], got {overrides!r}'])
    if isinstance(space, StudyConfig) and overrides:
        raise ConfigError([f"overrides must be left out beside a study, got {overrides!r}"])
    load_plugins(plugins)
    if isinstance(space, StudyConfig):
        return space
    memory = machine_memory() if here else None
    root = None if data_root is None else Path(data_root)
    if not isinstance(space, Mapping):
        return load_study(space, overrides, root, memory=memory)
    try:
        return parse_study(space, None, overrides=overrides, data_root=root, memory=memory)
    except RecursionError as error:
        raise ConfigError(["study: must not be nested so deep, or hold itself"]) from error


def ledger_of(
    opened: Store, experiment_id: str, study: StudyConfig
) -> tuple[Ledger, StoredStudy | None]:
    """What the store has of a study, and what it says that the study is.

    Args:
        opened: an open store.
        experiment_id: of the study.
        study: the study, whose objective the ledger holds.

    Raises:
        StoreError: the store cannot be read.
    """
    stored = store.read_stored_study(opened, experiment_id)
    ledger = opened.read(lambda client: store.read_ledger(client, experiment_id, study.objective))
    return replace(ledger, table=frozenset(stored.settings) if stored else None), stored


def source_of(study: StudyConfig) -> str:
    """What messages call the study's YAML."""
    return label_of(study.source) if study.source else f"study {study.name}"


def elsewhere(
    opened: Store | None, experiment_id: str | None, study: StudyConfig, plan: Plan
) -> list[Known]:
    """What other studies of a store know of the settings that a plan would run.

    Args:
        opened: an open store; None: there is none.
        experiment_id: of the study; None: the store does not know it yet.
        study: the study.
        plan: of it, by what it has itself.

    Raises:
        StoreError: the store cannot be read.
    """
    keys = [work.setting.key for work in plan.work]
    if opened is None or not keys:
        return []
    return opened.read(
        lambda client: store.read_known(client, experiment_id, keys, trained=study.save)
    )


class Read(NamedTuple):
    """What is left of a study by what it has itself, and what that was made from.

    opened, experiment_id: None where there is no store, or no such study in it.
    """

    plan: Plan
    ledger: Ledger
    opened: Store | None
    experiment_id: str | None


def read_plan(study: StudyConfig, uri: str, prints: Fingerprints) -> Read:
    """What is left of a study, with notes of what has changed.

    Args:
        uri: of the store; there need not be one.
        prints: of the study's data and weights.
    """
    opened, ledger, stored = store.find_store(uri), Ledger(), None
    experiment_id = opened.experiment(study.name) if opened is not None else None
    if opened is not None and experiment_id is not None:
        ledger, stored = ledger_of(opened, experiment_id, study)
    plan = planning.make_plan(study, ledger, prints)
    changes = planning.compare(study, plan, ledger, stored, planning.SettingMaker(study, prints))
    noted = replace(plan, notes=tuple(changes.notes(source_of(study))))
    return Read(noted, ledger, opened, experiment_id)


def _with_time(
    study: StudyConfig,
    plan: Plan,
    ledger: Ledger,
    known: Sequence[Known],
    opened: Store | None,
    prints: Fingerprints,
    say: Say,
) -> Plan:
    """The plan with an estimate of its time, where one can be made.

    Args:
        ledger: that the plan was made from.
        known: what other studies know of settings that lack seeds.
    """
    n_trials, there = len(plan.work) + plan.proposals, machine_resources(study.resources)
    resources = resolved_resources(study.resources, there, ledger, n_trials)
    resolved = study.model_copy(update={"resources": resources})
    # of a setting that has seconds of its own, no others count
    runs = [*ledger.runs, *(one.row for one in known if not ledger.has(one.row.setting_key))]
    uri = opened and opened.uri
    if uri and (note := store.waiting_note(uri, study.name, prints.cache_dir)):
        say(note)

    def of_features() -> float | None:
        if resources.gpus:  # GPUs extract in actors of the study, which a plan does not start
            return None
        try:
            return features_seconds(needed(resolved, plan), prints)
        except Exception as error:  # whatever it is, the plan can be shown without
            say(f"the time of the feature extraction cannot be estimated: {one_line(error)}")
            return None

    return replace(
        plan, estimate=planning.estimate_time(resolved, plan, runs, prints, say, of_features)
    )


def detectable_lines(study: StudyConfig, uri: str) -> list[str]:
    """How small a difference the study's seeds will show, and what smaller ones would take.

    Args:
        study: with its seeds.
        uri: of the store.
    """
    from reports.tables import load_families

    try:
        found = load_families(study.name, uri)
    except ReportError:  # no store, no such study, or nothing finished: the plan says so
        found = []
    if found and not any(family.comparable for family in found):
        return []  # its levels are of different pictures
    if found and not any(pair for family in found for pair in family.pairs):
        return []  # nothing stands beside it
    known = [family for family in found if _deviations(family.differences)]
    if known:
        lines = [_line(family, len(study.seeds), study.smallest_effect) for family in known]
        heads = [f"{family.name}: " if len(known) > 1 else "" for family in known]
        return [f"{head}{line}" for head, line in zip(heads, lines, strict=True)]
    if any(len(one) >= FEWEST_PAIRS for family in found for one in family.differences):
        return [
            "which differences the seeds would show cannot be told: the finished pairs of a level "
            "and the baseline do not vary"
        ]
    return [
        f"which differences {count(len(study.seeds), 'seed')} would show can be told from at least "
        f"{FEWEST_PAIRS} finished pairs of a level and the baseline, e.g. those of a pilot: "
        f"--set seeds={FEWEST_PAIRS}"
    ]


def _line(family: "Family", seeds: int, smallest_effect: float) -> str:
    """Of one family: what the seeds show, then what half of that and what matters would take."""
    pairs, shown = family.differences, smallest_shown(family.differences, seeds)
    counts = [n for n, _ in _deviations(pairs)]
    of = "1 comparison" if len(counts) == 1 else f"median of {len(counts)} comparisons"
    spread = " to ".join(str(n) for n in sorted({min(counts), max(counts)}))
    targets = {smallest_effect}
    told = [f"{count(seeds, 'seed')} show no difference, as no deviation can be told from one pair"]
    if shown is not None:
        targets.add(float(f"{shown / 2:.2g}"))
        told = [
            f"{count(seeds, 'seed')} show differences in {family.head} of {shown:.2g} points or "
            f"more (with 80% power; {of}, from {spread} finished pairs each)"
        ]
    for effect in sorted(targets, reverse=True):
        needed, points = seeds_for(pairs, effect), "point" if effect == 1 else "points"
        many = f"about {count(needed, 'seed')}" if needed else f"more than {MOST_SEEDS:,} seeds"
        more = ((needed or 0) - seeds) * family.seconds
        cost = f" (+{duration(more)} of computing)" if more > 0 else ""
        told.append(f"for {effect:g} {points} {many}{cost}")
    return "; ".join(told)


def smallest_shown(differences: Differences, seeds: int) -> float | None:
    """The median over comparisons of the differences that so many seeds show; None: no difference.

    Args:
        differences: of each comparison of a family, by seed; of at least one FEWEST_PAIRS of them.
        seeds: of each setting.
    """
    from reports.stats import minimum_detectable

    return minimum_detectable(_middle(differences), seeds, len(differences))


def seeds_for(differences: Differences, effect: float) -> int | None:
    """The fewest seeds that show a difference in half of a family; None: more than MOST_SEEDS."""
    from reports.stats import minimum_detectable

    middle, tests = _middle(differences), len(differences)
    # that a single seed shows no difference counts as enough: the search begins above it
    found = bisect_left(
        range(MOST_SEEDS + 1),
        True,
        lo=2,
        key=lambda n: (minimum_detectable(middle, n, tests) or 0.0) <= effect,
    )
    return found if found <= MOST_SEEDS else None


def _middle(differences: Differences) -> float:
    """The median deviation: what is detected is proportional to it, so its median is that of it."""
    return statistics.median(std for _, std in _deviations(differences))


def _deviations(differences: Differences) -> list[tuple[int, float]]:
    """Pairs and standard deviation of each comparison with enough of them, and with a spread."""
    found = [list(one.values()) for one in differences if len(one) >= FEWEST_PAIRS]
    spread = [(len(values), statistics.stdev(values)) for values in found]
    return [(n, deviation) for n, deviation in spread if deviation > 0]
