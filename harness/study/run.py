"""Brings a study to what its YAML says: runs what is missing, and says what became of it."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from harness import store
from harness.checkpoints import Storage, storage_uri
from harness.config import StudyConfig
from harness.environment import environment
from harness.method import Method
from harness.planning import StudyOutcome, require_consent
from harness.progress import SteadyConsole
from harness.recording import publish as show_report
from harness.scratch import remove_left
from harness.store import StudyStore, Timing
from harness.study.execution import Before, Execution
from harness.study.features import fingerprints_of
from harness.study.interrupts import Interrupts
from harness.study.preview import typed_study
from harness.study.rounds import rounds_of, run_rounds
from harness.study.standing import standing_at
from harness.study.trials import Options
from reports.contract import Publication, ReportError

Publish = Callable[[StudyOutcome], Publication | None]
RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}


def run_study(
    space: str | Path | Mapping[str, Any] | StudyConfig,
    overrides: Sequence[str] = (),
    *,
    plugins: Sequence[str | Path] = (),
    data_root: Path | str | None = None,
    address: str | None = None,
    in_process: bool = False,
    verbose: bool = False,
    cache_dir: Path | str | None = None,
    storage: str | None = None,
    tracking_uri: str | None = None,
    detect: float | None = None,
    max_seeds: int | None = None,
    path: bool = False,
    reuse: bool = True,
    accept_changes: bool = False,
    ask: Callable[[str], bool] | None = None,
    method: Method | None = None,
    console: Console | None = None,
    timing: Timing | None = None,
    before: Before | None = None,
    publish: Publish | None = None,
) -> StudyOutcome:
    """Run whatever a study wants and the store does not have. The same call again is the resume.

    Progress is printed as the command prints it. The report is not made: read the study with
    `reports.load_study(outcome.experiment, outcome.tracking_uri)`.

    Args:
        space: a YAML file, the name of a packaged study, a mapping with the keys of a YAML (`name`
            among them, or among the overrides), or a study that has been read.
        overrides: as of --set, e.g. ["seeds=3", "generator.epochs=5"].
        plugins: files with generators, fine-tuners or datasets of one's own, which the study may
            name; they are run, and stay known to this process.
        data_root: folder of the data sets, None if the study needs none.
        address: of a running Ray cluster (HOST:PORT or "auto"); None: this machine.
        in_process: run one trial after the other in this process, without Ray's, so that a debugger
            stops in a method of one's own; the store and the numbers are the same.
        verbose: let Ray, its workers and MLflow talk.
        cache_dir: for features, checkpoints, and writes that the store lacks.
        storage: where checkpoints of running trials lie; see ship-sweep --storage.
        tracking_uri: of the MLflow store; None: MLFLOW_TRACKING_URI, else ./mlflow.db.
        detect: points that a difference matters from: seeds are given out until it is decided which
            settings differ from the baseline by as much; see ship-sweep --detect.
        max_seeds: of a setting, with detect.
        path: whether to run then what is missing on the path from the baseline to the setting that
            selection prefers; see ship-sweep --path.
        reuse: whether seeds that other studies of the store have finished, of the very same
            settings, are taken from there, and not run.
        accept_changes: whether finished rows may leave the table since constants, data or weights
            have changed.
        ask: puts a question to a person, where they may not; None: nobody is asked.
        method: ship, unless a test puts something else in its place.
        console: where progress goes.
        timing: of the lease that keeps other hosts away.
        before: called before a study that has runs already is changed and run on.
        publish: what the study's own run is to show of an outcome, None for nothing; it is asked
            once all that was run is in the store, and may raise ReportError.

    Returns:
        What the study has come to: counts of settings, whether it is complete, and where it is.

    Raises:
        harness.errors.UserError: a mistake in the YAML or the data, a store or a cluster that
            cannot be used; one clear message with every fault. Among them StoreAway: the store does
            not answer; what it lacks waits on disk for the next call.
        ValueError: a backbone or data set cannot be read.
        KeyboardInterrupt: interrupted while the store was away, so that there is no outcome.
    """
    study = typed_study(space, overrides, plugins, data_root)
    uri = store.store_uri(tracking_uri)
    prints = fingerprints_of(study, method, data_root, cache_dir)
    consent = partial(require_consent, accepted=accept_changes, ask=ask)
    console = console or SteadyConsole()
    options = Options(console, consent, address, in_process, verbose, reuse)
    checkpoints = storage_uri(storage, prints.cache_dir)
    remove_left()

    def run_round(study: StudyConfig) -> StudyOutcome:
        with (
            Interrupts() as interrupts,
            environment(store.CLIENT_ENVIRONMENT),
            store.own_study(
                uri, study.name, prints.cache_dir, timing or Timing(), interrupts.fail, options.say
            ) as own,
        ):
            if verbose:
                store.quieten(logging.INFO)
            place = study_storage(checkpoints, own, own.experiment_id)
            execution = Execution(study, own, prints, place, options, interrupts)
            outcome = execution.bring_about(before)
            if publish is None or not outcome.done or outcome.interrupted:
                return outcome
            return replace(outcome, unpublished=_show(execution, publish, outcome))

    next_round = rounds_of(
        study,
        lambda study: standing_at(study, prints, uri).plan,
        uri,
        detect=detect,
        max_seeds=max_seeds,
        path=path,
    )
    return run_rounds(next_round, run_round, options.say)


def _show(execution: Execution, publish: Publish, outcome: StudyOutcome) -> str:
    """Show the report at the study's own run; where that fails, why: the study is as it was.

    Nothing is made here that a second request would make twice, and no trial waits: each request
    is made again as ship-report does, and what is cut off in mid answer a few times as a whole.
    """
    try:
        with environment(RETRIES, over=True):
            made = store.again(execution.store.uri, lambda: publish(outcome))
            if made is not None:
                show_report(execution.store, execution.record.run_id, made)
    except (store.StoreError, ReportError) as error:
        return f"the report is not in MLflow yet, the same command writes it: {error}"
    return ""


def study_storage(uri: str, own: StudyStore, experiment_id: str) -> Storage:
    """The storage of a study, which other studies and other stores do not share.

    By when its experiment was made, to the millisecond: a study may be renamed, a store may be
    reached under several addresses, and two stores may have one.

    Args:
        uri: of the storage that all studies share.
        own: an open store.
        experiment_id: of the study.
    """
    experiment = own.read(lambda client: client.get_experiment(experiment_id))
    made = str(experiment.creation_time)
    digest = hashlib.blake2b(made.encode(), digest_size=8).hexdigest()
    return Storage(uri, f"{digest}-{experiment_id}")
