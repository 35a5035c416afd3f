"""CPU time of the searcher and of the recorder, without Ray."""

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
from tests.bench.idle_method import make_idle_method
from tests.harness.fakes import FakeClip, FakeFeatures, make_study
from tests.harness.planning.builders import build_record

SEEDS = 3
N_PARTS = 4  # number of equal parts of the runs, each with a row of results
LENGTHS = list(range(1, 21))


def make_idle_study(trials: int) -> StudyConfig:
    """Return a grid study. The number of configurations is a multiple of 20."""
    weights = [round(1e-6 * (n + 1), 9) for n in range(trials // len(LENGTHS))]
    space = {"generator.kl_weight": weights, "generator.n_ctx": LENGTHS}
    return make_study(space=space, seeds=SEEDS, max_concurrent_trials=None)


def make_sampled_study(sampler: str, trials: int) -> StudyConfig:
    """Return a study in which a sampler draws configurations from a range and 20 lengths."""
    weight = {"low": 1e-6, "high": 1.0, "log": True}
    return make_study(
        space={"generator.kl_weight": weight, "generator.n_ctx": LENGTHS},
        seeds=SEEDS,
        sampler=sampler,
        n_trials=trials,
        max_concurrent_trials=None,
    )


@dataclass(frozen=True)
class SearcherCost:
    """CPU time of the searcher.

    Attributes:
        sampler: Name of the sampler.
        known: Number of waiting trials (grid), or of finished ones (other samplers).
        start: Seconds to create the searcher from the run history.
        suggest: Milliseconds per call of suggest.
        complete: Milliseconds per call of on_trial_complete.
    """

    sampler: str
    known: int
    start: float
    suggest: float
    complete: float


def measure_searcher(sampler: str, known: int, n_suggestions: int, folder: Path) -> SearcherCost:
    """Measure a searcher that suggests trials and receives their results.

    Args:
        sampler: grid, tpe or random.
        known: Number of known trials; a multiple of 20, at least `n_suggestions`.
        n_suggestions: Number of trials to suggest.
        folder: Folder for fingerprints.
    """
    prints = Fingerprints(make_idle_method(folder / "log", 1), None, folder / "cache")
    study, history = make_idle_study(known), RunHistory()
    if sampler != "grid":
        every = make_plan(study, history, prints).configurations
        seeds = tuple(range(SEEDS))
        history = RunHistory(
            tuple(
                build_record(
                    trial, seeds, objective=dict.fromkeys(seeds, 50.0 + place * 7919 % 997 / 100)
                )
                for place, trial in enumerate(every)
            )
        )
        study = make_sampled_study(sampler, known + n_suggestions)
    maker = ConfigurationMaker(study, prints)
    plan = make_plan(study, history, prints)
    before = time.process_time()
    searcher = StudySearcher(study, plan, history, maker, lambda: n_suggestions)
    start = time.process_time() - before
    suggest = complete = 0.0
    for number in range(n_suggestions):
        name, before = str(number), time.process_time()
        assert isinstance(searcher.suggest(name), dict)
        between = time.process_time()
        searcher.on_trial_complete(name, _make_final_result())
        suggest += between - before
        complete += time.process_time() - between
    return SearcherCost(
        sampler, known, start, 1e3 * suggest / n_suggestions, 1e3 * complete / n_suggestions
    )


def _make_final_result() -> dict[str, Any]:
    """Return the last result of a trial, as Ray Tune passes it to the searcher."""
    keys = [name_seed_metric(seed, "selection/harmonic_mean") for seed in range(SEEDS)]
    return {FINAL: [{"metrics": {OBJECTIVE: 50.0, **dict.fromkeys(keys, 50.0)}}]}


@dataclass(frozen=True)
class RecorderCost:
    """Cost of writing a part of the runs.

    Attributes:
        runs: Number of runs in the store after this part.
        processor: CPU milliseconds per run.
        wall: Wall-clock milliseconds per run.
        read: CPU milliseconds per run for reading the whole run history.
        disk: Size of the SQLite file in KiB per run.
    """

    runs: int
    processor: float
    wall: float
    read: float
    disk: float


def measure_recorder(runs: int, epochs: int, folder: Path) -> Iterator[RecorderCost]:
    """Write runs of the idle method one by one into a new SQLite file, as a study does.

    Args:
        runs: Number of runs; a multiple of 20.
        epochs: Number of selection epochs per run, all of which are reported.
        folder: Folder of the store.

    Yields:
        The cost of each of N_PARTS equal parts.
    """
    method = make_idle_method(folder / "log", epochs)
    prints, study = Fingerprints(method, None, folder / "cache"), make_idle_study(runs)
    store = open_store(f"sqlite:///{folder}/written.db")
    experiment = store.get_or_create_experiment(study.name)
    plan, recorder = make_recorder(store, experiment, study, prints)
    part_size = len(plan.work) // N_PARTS
    for part in range(N_PARTS):
        wall_start, processor_start = time.monotonic(), time.process_time()
        for work in plan.work[part * part_size : (part + 1) * part_size]:
            write_trial(recorder, work, method.run_trial)
        processor = time.process_time() - processor_start
        wall = time.monotonic() - wall_start
        n_runs, read_start = (part + 1) * part_size, time.process_time()
        read_history(store.client, experiment, study.objective)
        read = time.process_time() - read_start
        kib = (folder / "written.db").stat().st_size / 1024
        yield RecorderCost(
            runs=n_runs,
            processor=1e3 * processor / part_size,
            wall=1e3 * wall / part_size,
            read=1e3 * read / n_runs,
            disk=kib / n_runs,
        )


def make_recorder(
    store: Store, experiment: str, study: StudyConfig, prints: Fingerprints
) -> tuple[Plan, TrialRecorder]:
    """Return the plan of a study without runs, and a recorder. The parent run is written."""
    parent_run = ParentRun.get_or_create(store, experiment, study)
    plan = make_plan(study, RunHistory(), prints)
    parent_run.describe(study, plan)
    return plan, TrialRecorder(parent_run, study, prints)


def write_trial(recorder: TrialRecorder, work: Work, run_trial: Any) -> None:
    """Record a trial from its start to its end."""
    seeds, config = work.seeds, work.configuration.trial
    items = list(run_trial(config, seeds, FakeFeatures("", None), FakeClip(""), {}, None))
    name = work.configuration.key
    recorder.start(name, work)
    *epochs, test = items
    recorder.add_epochs(name, [make_epoch_message(item) for item in epochs], {})
    by_epoch = {item.epoch: item.per_seed for item in epochs}
    numbers = make_final_numbers(test, by_epoch, seeds, config.selection_metric)
    numbers |= {Cost.SECONDS: 1.0, Cost.PEAK_MEMORY: 1.0, Cost.TEXT_TOKENS: 1.0}
    recorder.complete(name, {"metrics": numbers, "files": {}, "device": "cpu"})
