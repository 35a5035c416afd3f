"""The searcher and the recorder without Ray: what each takes of the processor."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.study_config import StudyConfig
from harness.messages import FINAL, make_epoch_message, make_final_numbers
from harness.planning import ConfigurationMaker, Fingerprints, Plan, Work, make_plan
from harness.recording import ParentRun, TrialRecorder
from harness.store import (
    OBJECTIVE,
    Cost,
    RunHistory,
    Store,
    name_seed_metric,
    open_store,
    read_history,
)
from harness.tuning import StudySearcher
from tests.bench.idle_method import idle_method
from tests.harness.fakes import FakeClip, FakeFeatures, make_study
from tests.harness.planning.made import run_of

SEEDS = 3
MARKS = 4  # of the runs that are written, evenly
LENGTHS = list(range(1, 21))


def idle_study(trials: int) -> StudyConfig:
    """Return a grid study. The number of configurations is a multiple of 20."""
    weights = [round(1e-6 * (n + 1), 9) for n in range(trials // len(LENGTHS))]
    space = {"generator.kl_weight": weights, "generator.n_ctx": LENGTHS}
    return make_study(space=space, seeds=SEEDS, max_concurrent_trials=None)


def sampled_study(sampler: str, trials: int) -> StudyConfig:
    """A range and twenty lengths, of which a sampler takes so many."""
    weight = {"low": 1e-6, "high": 1.0, "log": True}
    return make_study(
        space={"generator.kl_weight": weight, "generator.n_ctx": LENGTHS},
        seeds=SEEDS,
        sampler=sampler,
        n_trials=trials,
        max_concurrent_trials=None,
    )


@dataclass(frozen=True)
class Searched:
    """The searcher's processor time.

    known: trials that wait (grid), or that have ended (others).
    start: building it from the run history, seconds.
    suggest, complete: giving a trial out, and taking its end in, milliseconds a trial.
    """

    sampler: str
    known: int
    start: float
    suggest: float
    complete: float


def searching(sampler: str, known: int, n_asked: int, folder: Path) -> Searched:
    """Drive a searcher: give trials out, and take each one's end in.

    Args:
        sampler: grid, tpe or random.
        known: a multiple of twenty, at least `n_asked`.
        n_asked: trials that are given out.
        folder: for fingerprints.
    """
    prints = Fingerprints(idle_method(folder / "log", 1), None, folder / "cache")
    study, history = idle_study(known), RunHistory()
    if sampler != "grid":
        every = make_plan(study, history, prints).configurations
        seeds = tuple(range(SEEDS))
        history = RunHistory(
            tuple(
                run_of(
                    trial, seeds, objective=dict.fromkeys(seeds, 50.0 + place * 7919 % 997 / 100)
                )
                for place, trial in enumerate(every)
            )
        )
        study = sampled_study(sampler, known + n_asked)
    make = ConfigurationMaker(study, prints)
    plan = make_plan(study, history, prints)
    began = time.process_time()
    searcher = StudySearcher(study, plan, history, make, lambda: n_asked)
    start = time.process_time() - began
    suggest = complete = 0.0
    for number in range(n_asked):
        name, began = str(number), time.process_time()
        assert isinstance(searcher.suggest(name), dict)
        begin = time.process_time()
        searcher.on_trial_complete(name, _last())
        suggest, complete = suggest + begin - began, complete + time.process_time() - begin
    return Searched(sampler, known, start, 1e3 * suggest / n_asked, 1e3 * complete / n_asked)


def _last() -> dict[str, Any]:
    keys = [name_seed_metric(seed, "selection/harmonic_mean") for seed in range(SEEDS)]
    return {FINAL: [{"metrics": {OBJECTIVE: 50.0, **dict.fromkeys(keys, 50.0)}}]}


@dataclass(frozen=True)
class Written:
    """Runs in a store, of those since the row before.

    runs: there are so many now.
    processor, wall: milliseconds a run.
    read: processor milliseconds of reading the run history, per run.
    disk: KiB of the sqlite file, for each run in it.
    """

    runs: int
    processor: float
    wall: float
    read: float
    disk: float


def writing(runs: int, epochs: int, folder: Path) -> Iterator[Written]:
    """Write runs of the idle method one by one, as a study does, into a new sqlite file.

    Args:
        runs: a multiple of twenty.
        epochs: of selection in each, all of which are reported.
        folder: for the store.
    """
    method = idle_method(folder / "log", epochs)
    prints, study = Fingerprints(method, None, folder / "cache"), idle_study(runs)
    store = open_store(f"sqlite:///{folder}/written.db")
    experiment = store.create_experiment(study.name)
    plan, recorder = recording(store, experiment, study, prints)
    each = len(plan.work) // MARKS
    for part in range(MARKS):
        began, spent = time.monotonic(), time.process_time()
        for number in range(part * each, (part + 1) * each):
            write_trial(recorder, plan.work[number], method.run_trial)
        spent, wall = time.process_time() - spent, time.monotonic() - began
        there, began = (part + 1) * each, time.process_time()
        read_history(store.client, experiment, study.objective)
        read, size = time.process_time() - began, (folder / "written.db").stat().st_size
        yield Written(
            there, 1e3 * spent / each, 1e3 * wall / each, 1e3 * read / there, size / 1024 / there
        )


def recording(
    store: Store, experiment: str, study: StudyConfig, prints: Fingerprints
) -> tuple[Plan, TrialRecorder]:
    """The plan of a study of which nothing has run, which its store notes, and the recorder."""
    record = ParentRun.get_or_create(store, experiment, study)
    plan = make_plan(study, RunHistory(), prints)
    record.describe(study, plan)
    return plan, TrialRecorder(record, study, prints)


def write_trial(recorder: TrialRecorder, work: Work, run_trial: Any) -> None:
    """A trial from its start to its end."""
    seeds, config = work.seeds, work.configuration.trial
    items = list(run_trial(config, seeds, FakeFeatures("", None), FakeClip(""), {}, None))
    name = work.configuration.key
    recorder.start(name, work)
    *trained, test = items
    recorder.add_epochs(name, [make_epoch_message(item) for item in trained], {})
    by_epoch = {item.epoch: item.per_seed for item in trained}
    numbers = make_final_numbers(test, by_epoch, seeds, config.selection_metric)
    numbers |= {Cost.SECONDS: 1.0, Cost.PEAK_MEMORY: 1.0, Cost.TEXT_TOKENS: 1.0}
    recorder.complete(name, {"metrics": numbers, "files": {}, "device": "cpu"})
