"""What a run of a study would do: its plan, what has changed, and how long it will take."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from harness.config import StudyConfig
from harness.method import Method
from harness.planning import (
    WAYS_OUT,
    Fingerprints,
    Plan,
    Say,
    SettingMaker,
    compare,
    estimate_time,
    make_plan,
)
from harness.resources import machine_resources, resolved_resources
from harness.store import Ledger, default_uri, open_store, read_finished, waiting_note
from harness.study.context import default_cache_dir, ledger_of, source_of
from harness.study.features import features_seconds, needed
from harness.wording import one_line


def plan_study(
    study: StudyConfig,
    *,
    data_root: Path | None,
    tracking_uri: str | None = None,
    cache_dir: Path | None = None,
    method: Method | None = None,
    say: Say | None = None,
) -> Plan:
    """What a run of the study would do; changes nothing in the store.

    Args:
        say: told what finding out the time takes; None: the plan comes without an estimate.

    Raises:
        StoreError: the store cannot be read.
        ValueError: a backbone or data set cannot be read.
    """
    directory = Path.cwd()
    uri = tracking_uri or default_uri(directory)
    store = open_store(uri, directory, create=False)
    ledger, recorded = Ledger(), None
    if store is not None:
        experiment_id = store.experiment(study.name)
        if experiment_id is not None:
            ledger, recorded = ledger_of(store, experiment_id, study)
    cache = cache_dir or default_cache_dir()
    fingerprints = Fingerprints(method or Method(), data_root, cache)
    plan = make_plan(study, ledger, fingerprints)
    changes = compare(study, plan, ledger, recorded, SettingMaker(study, fingerprints))
    notes = []
    if text := changes.text(source_of(study)):
        notes.append(f"{text}\n{WAYS_OUT}")
    if changes.removed:
        notes.append(f"{changes.removed.text} leave the table: they are not asked for any more")
    plan = replace(plan, notes=tuple(notes))
    if say is None or plan.finished:
        return plan
    note = waiting_note(store.uri, study.name, cache) if store is not None else None
    if note is not None:
        say(note)
    n_trials = len(plan.work) + plan.proposals
    resources = resolved_resources(
        study.resources, machine_resources(study.resources), ledger, n_trials
    )
    resolved_study = study.model_copy(update={"resources": resources})
    keys = [work.setting.key for work in plan.work if not ledger.has(work.setting.key)]
    others = () if store is None else store.read(lambda client: read_finished(client, keys))
    features = partial(_features_seconds, resolved_study, plan, fingerprints, say)
    estimate = estimate_time(
        resolved_study, plan, [*ledger.runs, *others], fingerprints, say, features
    )
    return replace(plan, estimate=estimate)


def _features_seconds(
    study: StudyConfig, plan: Plan, fingerprints: Fingerprints, say: Say
) -> float | None:
    """Seconds that the study's features will take; None where it cannot be told.

    GPUs extract in actors of the study, which a plan does not start.
    """
    method = fingerprints.method
    if study.resources.gpus:
        return None
    needs = needed(study, plan)
    try:
        return features_seconds(needs, fingerprints, method, fingerprints.cache_dir)
    except Exception as error:  # whatever it is, the plan can be shown without
        say(f"the time of the feature extraction cannot be estimated: {one_line(error)}")
        return None
