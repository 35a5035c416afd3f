"""What a study takes beside its trials: `python -m tests.bench.bench_fixed_costs [--repeats N]`.

Prints, for the command `ship-sweep` with two small settings on the packaged backbone and pictures,
the seconds until the first trial computes and from the last trial's end until the command returns:
with nothing cached, with the features cached, and where nothing is left to do. Beside them stands
the processor time of all its processes, which says more on a machine that others use, too. Then
what the record of a trial takes in a store of sqlite.
"""

import argparse
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mlflow.tracking import MlflowClient

from harness.config.study_config import StudyConfig
from harness.planning import Fingerprints, make_plan
from harness.recording import StudyRecord, TrialRecorder, trial_runs
from harness.store import Hold, Ledger, Timing, outbox
from tests.harness.fakes import make_method, make_study

STUDY = (
    "seeds=1",
    "generator.epochs=1",
    "finetuner.epochs=1",
    "space.generator.n_ctx={choices: [1, 4], baseline: 4}",
    "reference_arms=false",
)
# of a recorded trial
TRIALS, EPOCHS, BATCH, METRICS = 20, 50, 10, 8


@dataclass(frozen=True)
class CommandTime:
    """A command's time, seconds.

    start: from the call until the first trial computes; None: it ran none.
    end: from the last trial's end until the command returned; None: it ran none.
    whole: from the call until it returned.
    processor: of all its processes.
    """

    start: float | None
    end: float | None
    whole: float
    processor: float


@dataclass(frozen=True)
class RecordTime:
    """Milliseconds that a trial's record holds Tune's loop up.

    start: its run is made, with tags and params.
    epoch: an epoch is noted, not yet written.
    batch: BATCH epochs of METRICS metrics are written, which happens once a second.
    end: the final numbers and the state are written.
    """

    start: float
    epoch: float
    batch: float
    end: float


def command_time(folder: Path, name: str, cache: Path) -> CommandTime:
    """Run the study of that name in a folder, whose store it shares with those before it."""
    words = [f"name={name}", *STUDY]
    overrides = [word for pair in zip(["--set"] * len(words), words, strict=True) for word in pair]
    command = [sys.executable, "-m", "harness.cli.main", "--space", "prompt_len.yaml", *overrides]
    before, called = _processor(), time.time()
    subprocess.run(
        [*command, "--cache-dir", str(cache)], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    returned, spent = time.time(), _processor() - before
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name(name)
    runs = [
        run
        for run in client.search_runs([experiment.experiment_id])
        if "cost/seconds" in run.data.metrics and run.info.start_time > 1000 * called
    ]
    whole = returned - called
    if not runs:
        return CommandTime(None, None, whole, spent)
    ends = [run.info.end_time / 1000 for run in runs]
    began = min(end - run.data.metrics["cost/seconds"] for end, run in zip(ends, runs, strict=True))
    return CommandTime(began - called, returned - max(ends), whole, spent)


def record_time(folder: Path) -> RecordTime:
    """Record trials of the analytic method as a study does, through its lease and its outbox."""
    study = make_study(space={"generator.n_ctx": list(range(1, TRIALS + 1))}, seeds=5)
    prints = Fingerprints(make_method(folder / "log"), None, folder)
    works = make_plan(study, Ledger(), prints).work
    hold = Hold(f"sqlite:///{folder}/mlflow.db", folder, Timing(), _raise, print)
    spent: dict[str, list[float]] = {}

    def timed(what: str, work: Callable[[], object]) -> None:
        started = time.perf_counter()
        work()
        spent.setdefault(what, []).append(1000 * (time.perf_counter() - started))

    with (
        hold.study(study.name) as held,
        outbox(held.store, study.name, held.experiment_id, folder, print, held.drivers) as store,
    ):
        record = StudyRecord.create(store, held.experiment_id, study)
        recorder = TrialRecorder(store, held.experiment_id, record, study, prints)
        for place, work in enumerate(works):
            one = str(place)
            timed("start", lambda one=one, work=work: recorder.start(one, work))
            for epoch in range(1, EPOCHS + 1):
                written = epoch % BATCH == 0
                with patch.object(trial_runs, "FLUSH_SECONDS", 0.0 if written else math.inf):
                    timed(
                        "batch" if written else "epoch",
                        lambda one=one, epoch=epoch: recorder.epochs(one, [_epoch(epoch)]),
                    )
            timed("end", lambda one=one: recorder.complete(one, _final(study)))
    return RecordTime(**{what: statistics.median(values) for what, values in spent.items()})


def _epoch(number: int) -> dict[str, Any]:
    means = {f"metric_{place}": float(number) for place in range(METRICS)}
    return {"stage": "selection", "epoch": number, "progress": 0.0, "means": means, "seeds": {}}


def _final(study: StudyConfig) -> dict[str, Any]:
    values = [50.0 + seed for seed in study.seeds]
    six = ("base", "new", "harmonic_mean", "joint_base", "joint_new", "joint_harmonic_mean")
    cost = {"cost/seconds": 1.0, "cost/peak_memory_mb": 1.0, "cost/text_tokens": 1.0}
    return {
        "test": dict.fromkeys(six, values),
        "selection": dict.fromkeys(six, values),
        "selection_epoch": [float(EPOCHS)] * len(values),
        "objective": 50.0,
        "hits": "",
        "trained": {},
        "device": "cpu",
        "fused": 1,
        **cost,
    }


def _raise(error: Exception) -> None:
    raise error


def _processor() -> float:
    """Seconds of processor time of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _least(times: Sequence[CommandTime]) -> CommandTime:
    """The least of each: whatever else runs on the machine only adds to it."""
    first = times[0]
    fields = ("start", "end", "whole", "processor")
    found = {
        name: None if getattr(first, name) is None else min(getattr(one, name) for one in times)
        for name in fields
    }
    return replace(first, **found)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="of each command; the least counts")
    repeats = parser.parse_args().repeats
    times: dict[str, list[CommandTime]] = {}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            cache = folder / "cache"
            for what, study in (
                ("nothing cached", "one"),
                ("features cached", "two"),
                ("nothing to do", "two"),
            ):
                times.setdefault(what, []).append(command_time(folder, study, cache))
    print("| command | first trial computes s | after the last trial s | whole s | processor s |")
    print("| :--- | ---: | ---: | ---: | ---: |")
    for what, held in times.items():
        least = _least(held)
        cells = (least.start, least.end, least.whole, least.processor)
        print(f"| {what} |", " | ".join("" if x is None else f"{x:.1f}" for x in cells), "|")
    with tempfile.TemporaryDirectory() as name:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        found = record_time(Path(name))
    print(
        f"a trial's record: {found.start:.1f} ms to begin, {1000 * found.epoch:.0f} us an epoch, "
        f"{found.batch:.1f} ms for {BATCH} epochs of {METRICS} metrics (once a second), "
        f"{found.end:.1f} ms to end"
    )


if __name__ == "__main__":
    main()
