"""What thousands of settings cost: `python -m tests.bench.bench_settings [SETTINGS ...]`.

For each number of settings a grid is planned by `ship-sweep --dry-run`, its store is filled with a
finished run for each of them, and then the grid is planned again and shown by `ship-report`: the
seconds of the clock and the largest memory of each command. Nothing is trained: one run is written
by the recorder (tests.bench.idle_parts), the others are copies of it with their own setting and
accuracies.
"""

import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.config import StudyConfig, load_study
from harness.method import Method
from harness.planning import Fingerprints, Setting
from harness.store import open_store, read_ledger
from reports.contract import Tag
from tests.bench.idle_method import idle_method
from tests.bench.idle_parts import recording, write_trial
from tests.bench.markdown import of_fields

SIZES = (1_000, 5_000, 10_000)
SEEDS, EPOCHS = 3, 3
SWEEP = "from harness.cli.main import main; main()"
REPORT = "from reports.cli import main; main()"
STUDY = """
name: large
space:
  generator.kl_weight: [{weights}]
  generator.n_ctx: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]
dataset: photos
shots: 4
seeds: {seeds}
reference_arms: false
generator: {{name: vae, epochs: 1}}
finetuner: {{name: clip_adapter, epochs: 1}}
"""


@dataclass(frozen=True)
class Measured:
    """Seconds, MiB of memory at most, and MB of the page, with so many settings.

    new: `ship-sweep --dry-run` where nothing has run.
    finished: the same where everything has.
    ledger: reading the runs alone.
    report: `ship-report`.
    """

    settings: int
    new: float
    new_mib: float
    finished: float
    finished_mib: float
    ledger: float
    report: float
    report_mib: float
    page_mb: float


def measure(settings: int, folder: Path) -> Measured:
    """Plan, fill and report a study of so many settings, a multiple of twenty."""
    space = space_file(settings, folder)
    sweep = [SWEEP, "--space", str(space), "--dry-run"]
    new, new_mib = command(sweep, folder)
    ledger = fill(load_study(space), folder)
    finished, finished_mib = command(sweep, folder)
    report, report_mib = command([REPORT, "large"], folder)
    page = folder / "large-report" / "large.html"
    page_mb = page.stat().st_size / 1e6
    return Measured(
        settings, new, new_mib, finished, finished_mib, ledger, report, report_mib, page_mb
    )


def space_file(settings: int, folder: Path) -> Path:
    """A grid of so many settings, a multiple of twenty."""
    weights = ", ".join(str(round(1e-6 * (n + 1), 9)) for n in range(settings // 20))
    file = folder / "large.yaml"
    file.write_text(STUDY.format(weights=weights, seeds=SEEDS))
    return file


def command(words: Sequence[str], folder: Path) -> tuple[float, float]:
    """Run one; its seconds, and the memory that its own process held at most, in MiB."""
    began, most = time.monotonic(), 0.0
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(Path.cwd()), "COLUMNS": "100"},
            stdout=output,
            stderr=output,
        )
        while process.poll() is None:
            most = peak_mib(process.pid) or most
            time.sleep(0.05)
    seconds = time.monotonic() - began
    if process.returncode:
        raise SystemExit((folder / "output").read_text()[-2000:])
    return seconds, most


def peak_mib(pid: int) -> float | None:
    """The memory that a process has held at most; None once it has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), None)


def fill(study: StudyConfig, folder: Path) -> float:
    """Give each setting a finished run; the seconds that reading them all takes."""
    prints = Fingerprints(Method(), None, folder / "cache")
    store = open_store(f"sqlite:///{folder}/mlflow.db", folder)
    assert store is not None
    experiment = store.create_experiment(study.name)
    plan, recorder = recording(store, experiment, study, prints)
    write_trial(recorder, plan.work[0], idle_method(folder / "log", EPOCHS).run_trial, flushes=1)
    with closing(sqlite3.connect(folder / "mlflow.db")) as base:
        copy_runs(base, plan.settings)
    began = time.monotonic()
    ledger = read_ledger(store.client, experiment, study.objective)
    assert len(ledger.runs) == len(plan.settings)
    return time.monotonic() - began


def copy_runs(base: sqlite3.Connection, settings: Sequence[Setting]) -> None:
    """Give all settings but the first a copy of the first one's run."""
    tag = "SELECT run_uuid FROM tags WHERE key = ? AND value = ?"
    ((source,),) = base.execute(tag, (Tag.SETTING_KEY, settings[0].key))
    ids = [uuid.uuid4().hex for _ in settings[1:]]
    rng = np.random.default_rng(0)
    moved = dict(zip(ids, rng.normal(0, 3, (len(ids), SEEDS)).tolist(), strict=True))
    whose = dict(zip(ids, settings[1:], strict=True))

    def changed(name: str, row: dict[str, Any], run: str) -> dict[str, Any]:
        setting = whose[run]
        key, own = row.get("key"), dict(setting.assignment)
        if name == "tags":
            told = {Tag.SETTING_KEY: setting.key, Tag.ASSIGNMENT: json.dumps(own)}
            row["value"] = told.get(key, row["value"])
        elif name == "params":
            row["value"] = str(own.get(key, row["value"]))
        elif (seed := re.match(r"seed_(\d+)/", key or "")) and 30 < row["value"] < 90:
            row["value"] += moved[run][int(seed[1])]  # what looks like a percentage
        return {**row, "run_uuid": run}

    for name in ("runs", "params", "tags", "metrics", "latest_metrics"):
        read = base.execute(f"SELECT * FROM {name} WHERE run_uuid = ?", (source,))
        columns = [column for column, *_ in read.description]
        rows = [dict(zip(columns, row, strict=True)) for row in read]
        marks = ", ".join("?" * len(columns))
        copies = (tuple(changed(name, dict(row), run).values()) for run in ids for row in rows)
        base.executemany(f"INSERT INTO {name} VALUES ({marks})", copies)
    base.commit()


def measured(sizes: Sequence[int]) -> Iterator[Measured]:
    """One row a size."""
    for settings in sizes:
        with tempfile.TemporaryDirectory(prefix="settings-") as folder:
            yield measure(settings, Path(folder))


def main() -> None:
    """Print a row a size, those of SIZES or those that are given."""
    rows = []
    for row in measured([int(size) for size in sys.argv[1:]] or SIZES):
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    print(of_fields(rows))


if __name__ == "__main__":
    main()
