"""Read and write seeds.csv, the artifact with all final numbers of each seed of a trial's run.

MLflow draws a chart for each metric of a run. Only some of these numbers are therefore logged as
metrics, too: those that tables show by default, the objective, and custom metrics.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.store.artifacts import RunFiles
from harness.store.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from harness.store.runs import Run
from harness.store.schema import COMPLETE, CUSTOM, SEEDS_CSV, Kind, Tag, seed_metric, split_seed

_HEADING = "metric"  # heading of the first column


def list_logged_names(protocol: str, objective: str = "") -> frozenset[str]:
    """Return the names of the numbers that are logged as metrics, such as "test/harmonic_mean".

    Each seed has a metric of this name, see `seed_metric`.

    Args:
        protocol: Name of the run's protocol.
        objective: Selection metric that the study maximizes. Defaults to none.
    """
    rules = PROTOCOLS[protocol]
    names = {f"test/{name}" for name in (*rules.required, *rules.shown)}
    return frozenset({*names, f"selection/{objective}"})


def is_logged(key: str, logged_names: frozenset[str]) -> bool:
    """Return True if a final number is logged as a metric, False if only the seed table has it.

    Numbers that are not of a single seed, such as means, are always logged.

    Args:
        key: Key of the number.
        logged_names: Result of `list_logged_names`.
    """
    seed_and_name = split_seed(key)
    if seed_and_name is None:
        return True
    name = seed_and_name[1]
    return name in logged_names or name.startswith(f"test/{CUSTOM}")


def format_seeds_csv(numbers: Mapping[str, float]) -> bytes:
    """Return the content of a run's seed table: CSV with a row per metric and a column per seed.

    Args:
        numbers: Final numbers by the metric's key. Numbers that are not of a single seed are left
            out.
    """
    rows: dict[str, dict[int, float]] = {}
    for key, value in numbers.items():
        if seed_and_name := split_seed(key):
            seed, name = seed_and_name
            rows.setdefault(name, {})[seed] = value
    seeds = sorted({seed for values in rows.values() for seed in values})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_HEADING, *(f"seed_{seed}" for seed in seeds)])
    for name, values in sorted(rows.items()):
        writer.writerow([name, *(repr(values[seed]) if seed in values else "" for seed in seeds)])
    return text.getvalue().encode()


def parse_seeds_csv(content: bytes) -> dict[str, float]:
    """Return the numbers of a seed table by the metric's key, or {} if the file is damaged.

    Args:
        content: Content of the file. It is untrusted input.
    """
    try:
        head, *rows = csv.reader(io.StringIO(content.decode()))
        seeds = [int(name.removeprefix("seed_")) for name in head[1:]]
        return {
            seed_metric(seed, name): float(value)
            for name, *values in rows
            for seed, value in zip(seeds, values, strict=True)
            if value
        }
    except (ValueError, csv.Error):
        return {}


def merge_seeds_csv(runs: Sequence[Run], files: RunFiles) -> tuple[list[Run], int]:
    """Add the numbers of the seed tables to the metrics of finished runs.

    Args:
        runs: Runs of a study.
        files: Files of the runs.

    Returns:
        All runs, and the number of finished runs without a readable table. The number is 0 if no
        run has a readable table.
    """
    trials = [run for run in runs if run.tags.get(Tag.KIND) == Kind.TRIAL]
    finished = [run.run_id for run in trials if run.tags.get(Tag.STATE) == COMPLETE]
    contents = files.read_all(finished, SEEDS_CSV)
    tables = {run_id: parse_seeds_csv(content) for run_id, content in contents.items()}
    extended = [
        replace(run, metrics=_unlogged_numbers(run, tables[run.run_id]) | run.metrics)
        if run.run_id in tables
        else run
        for run in runs
    ]
    n_readable = sum(map(bool, tables.values()))
    return extended, len(finished) - n_readable if n_readable else 0


def _unlogged_numbers(run: Run, table: Mapping[str, float]) -> dict[str, float]:
    """Return the numbers of a run's seed table that are never logged as metrics.

    A logged number that the run lacks is not restored from the table: its seed counts as unfinished
    (see `is_finished`) and is rerun.

    Args:
        run: The run.
        table: Numbers of its seed table by the metric's key.

    Returns:
        Numbers by the metric's key. {} if the run's protocol is unknown.
    """
    protocol = run.tags.get(Tag.PROTOCOL, DEFAULT_PROTOCOL)
    if protocol not in PROTOCOLS:
        return {}
    logged_names = list_logged_names(protocol)
    return {key: value for key, value in table.items() if not is_logged(key, logged_names)}
