"""Cost of thousands of configurations: `python -m tests.bench.bench_configurations [COUNT ...]`.

For each number of configurations, `ship-sweep --dry-run` plans a grid, a finished run is written
for each configuration, `ship-sweep --dry-run` plans the grid again, and `ship-report` writes its
report. The benchmark measures wall-clock time and peak memory of each command, and the CPU time of
the report, on which other processes have less influence. Nothing is trained: the recorder writes 40
runs per second of a method that does nothing (tests.bench.idle_parts).
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
from tests.bench.idle_method import make_idle_method
from tests.bench.idle_parts import make_recorder, write_trial
from tests.bench.markdown import format_table

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
class Measurement:
    """Seconds, peak memory in MiB, and page size in MB for a number of configurations.

    Attributes:
        new: `ship-sweep --dry-run` before any run.
        finished: `ship-sweep --dry-run` after all runs.
        history: Reading only the runs.
        report: `ship-report`.
        report_processor: CPU seconds of `ship-report`.
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


def measure(configurations: int, folder: Path) -> Measurement:
    """Plan, fill and report a study. The number of configurations is a multiple of 20."""
    space = write_space_file(configurations, folder)
    sweep = [SWEEP, "--space", str(space), "--dry-run"]
    new, _, new_mib = run_command(sweep, folder)
    history = fill_store(load_study(space), folder)
    finished, _, finished_mib = run_command(sweep, folder)
    report = run_command([REPORT, "large"], folder)
    page = folder / "large-report" / "large.html"
    page_mb = page.stat().st_size / 1e6
    return Measurement(
        configurations, new, new_mib, finished, finished_mib, history, *report, page_mb=page_mb
    )


def write_space_file(configurations: int, folder: Path) -> Path:
    """Write the YAML of a grid. The number of configurations is a multiple of 20."""
    weights = ", ".join(str(round(1e-6 * (n + 1), 9)) for n in range(configurations // 20))
    file = folder / "large.yaml"
    file.write_text(STUDY.format(weights=weights, seeds=SEEDS))
    return file


def run_command(words: Sequence[str], folder: Path) -> tuple[float, float, float]:
    """Run a command. Return its wall-clock and CPU seconds, and its peak memory in MiB."""
    start, peak = time.monotonic(), 0.0
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(Path.cwd()), "COLUMNS": "100"},
            stdout=output,
            stderr=output,
        )
        # ru_maxrss of wait4 is not used, because it includes the peak of the parent process
        while not (result := os.wait4(process.pid, os.WNOHANG))[0]:
            peak = read_peak_mib(process.pid) or peak
            time.sleep(0.05)
        _, status, usage = result
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - start
    if process.returncode:
        raise SystemExit((folder / "output").read_text()[-2000:])
    return seconds, usage.ru_utime + usage.ru_stime, peak


def read_peak_mib(pid: int) -> float | None:
    """Return the peak memory of a process in MiB, or None after its end."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), None)


def fill_store(study: StudyConfig, folder: Path) -> float:
    """Write a finished run per configuration. Return the seconds of reading them all."""
    prints = Fingerprints(MethodFunctions(), None, folder / "cache")
    store = open_store(f"sqlite:///{folder}/mlflow.db")
    experiment = store.get_or_create_experiment(study.name)
    plan, recorder = make_recorder(store, experiment, study, prints)
    run_trial = make_idle_method(folder / "log", EPOCHS).run_trial
    for work in plan.work:
        write_trial(recorder, work, run_trial)
    start = time.monotonic()
    history = read_history(store.client, experiment, study.objective)
    assert len(history.runs) == len(plan.configurations)
    return time.monotonic() - start


def measure_all(sizes: Sequence[int]) -> Iterator[Measurement]:
    """Yield one row per size."""
    for configurations in sizes:
        with tempfile.TemporaryDirectory(prefix="configurations-") as folder:
            yield measure(configurations, Path(folder))


def main() -> None:
    """Print one row per size. Defaults to SIZES."""
    rows = []
    for row in measure_all([int(size) for size in sys.argv[1:]] or SIZES):
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    print(format_table(rows))


if __name__ == "__main__":
    main()
