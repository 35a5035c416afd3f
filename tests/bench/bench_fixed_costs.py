"""What a study takes beside its trials: `python -m tests.bench.bench_fixed_costs [--repeats N]`.

Prints, for the command `ship-sweep` with two small settings on the packaged backbone and pictures,
the seconds until the first trial computes and from the last trial's end until the command returns:
with nothing cached, with the features cached, and where nothing is left to do. Beside them stands
the processor time of all its processes, which says more on a machine that others use, too.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.timing import spans

STUDY = (
    "seeds=1",
    "generator.epochs=1",
    "finetuner.epochs=1",
    "space.generator.n_ctx={choices: [1, 4], baseline: 4}",
    "reference_arms=false",
)


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
    whole = returned - called
    trials = spans(f"sqlite:///{folder}/mlflow.db", name, called)
    if not trials:
        return CommandTime(None, None, whole, spent)
    begins, ends = zip(*trials, strict=True)
    return CommandTime(min(begins) - called, returned - max(ends), whole, spent)


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


if __name__ == "__main__":
    main()
