"""What thousands of settings cost: `python -m tests.bench.bench_settings [SETTINGS ...]`.

For each number of settings a grid is planned by `ship-sweep --dry-run`, its store is filled with a
finished run for each of them, and then the grid is planned again and shown by `ship-report`: the
seconds of the clock and the largest memory of each command, and of the report the processor's
seconds, which other work on the machine moves less. Nothing is trained: the recorder writes runs of
a method that does nothing (tests.bench.idle_parts), 40 a second.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config import StudyConfig, load_study
from harness.method import MethodFunctions
from harness.planning import Fingerprints
from harness.store import open_store, read_history
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
controls: false
generator: {{name: vae, epochs: 1}}
finetuner: {{name: clip_adapter, epochs: 1}}
"""


@dataclass(frozen=True)
class Measured:
    """Seconds, MiB of memory at most, and MB of the page, with so many settings.

    new: `ship-sweep --dry-run` where nothing has run.
    finished: the same where everything has.
    history: reading the runs alone.
    report: `ship-report`. report_processor: its seconds of the processor.
    """

    configurations: int
    new: float
    new_mib: float
    finished: float
    finished_mib: float
    history: float
    report: float
    report_processor: float
    report_mib: float
    page_mb: float


def measure(configurations: int, folder: Path) -> Measured:
    """Plan, fill and report a study of so many settings, a multiple of twenty."""
    space = space_file(configurations, folder)
    sweep = [SWEEP, "--space", str(space), "--dry-run"]
    new, _, new_mib = command(sweep, folder)
    history = fill(load_study(space), folder)
    finished, _, finished_mib = command(sweep, folder)
    shown = command([REPORT, "large"], folder)
    page = folder / "large-report" / "large.html"
    page_mb = page.stat().st_size / 1e6
    return Measured(
        configurations, new, new_mib, finished, finished_mib, history, *shown, page_mb=page_mb
    )


def space_file(configurations: int, folder: Path) -> Path:
    """A grid of so many settings, a multiple of twenty."""
    weights = ", ".join(str(round(1e-6 * (n + 1), 9)) for n in range(configurations // 20))
    file = folder / "large.yaml"
    file.write_text(STUDY.format(weights=weights, seeds=SEEDS))
    return file


def command(words: Sequence[str], folder: Path) -> tuple[float, float, float]:
    """Run one; its seconds of the clock and of the processor, and the MiB it held at most."""
    began, most = time.monotonic(), 0.0
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(Path.cwd()), "COLUMNS": "100"},
            stdout=output,
            stderr=output,
        )
        # not the most that wait4 tells: a process begins with that of the one which started it
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            most = peak_mib(process.pid) or most
            time.sleep(0.05)
        _, status, usage = ended
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    if process.returncode:
        raise SystemExit((folder / "output").read_text()[-2000:])
    return seconds, usage.ru_utime + usage.ru_stime, most


def peak_mib(pid: int) -> float | None:
    """The memory that a process has held at most; None once it has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), None)


def fill(study: StudyConfig, folder: Path) -> float:
    """Give each setting a finished run; the seconds that reading them all takes."""
    prints = Fingerprints(MethodFunctions(), None, folder / "cache")
    store = open_store(f"sqlite:///{folder}/mlflow.db")
    experiment = store.create_experiment(study.name)
    plan, recorder = recording(store, experiment, study, prints)
    run_trial = idle_method(folder / "log", EPOCHS).run_trial
    for work in plan.work:
        write_trial(recorder, work, run_trial)
    began = time.monotonic()
    history = read_history(store.client, experiment, study.objective)
    assert len(history.runs) == len(plan.configurations)
    return time.monotonic() - began


def measured(sizes: Sequence[int]) -> Iterator[Measured]:
    """One row a size."""
    for configurations in sizes:
        with tempfile.TemporaryDirectory(prefix="settings-") as folder:
            yield measure(configurations, Path(folder))


def main() -> None:
    """Print a row a size, those of SIZES or those that are given."""
    rows = []
    for row in measured([int(size) for size in sys.argv[1:]] or SIZES):
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    print(of_fields(rows))


if __name__ == "__main__":
    main()
