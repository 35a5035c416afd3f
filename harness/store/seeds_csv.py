"""Read and write seeds.csv, an artifact of each trial's run with all final numbers of its seeds.

The file has a row per metric and a column per seed. Because MLflow draws a chart for each metric of
a run, only these are logged as metrics, too: metrics that the protocol requires or tables show by
default, the objective, and custom metrics.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.store.artifacts import RunFiles
from harness.store.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from harness.store.runs import Run
from harness.store.schema import (
    COMPLETE,
    CUSTOM,
    SEEDS_CSV,
    Kind,
    Tag,
    name_seed_metric,
    split_seed,
)

_HEADING = "metric"  # heading of the first column


def list_logged_names(protocol: str, objective: str = "") -> frozenset[str]:
    """Return the names of a seed's numbers that are logged as metrics, e.g. "test/harmonic_mean".

    Custom metrics, which are always logged, are not included. `name_seed_metric` returns the
    metric's key for a name and a seed.

    Args:
        protocol: Name of the run's protocol.
        objective: Selection metric that the study maximizes. "" if there is none.
    """
    rules = PROTOCOLS[protocol]
    names = {f"test/{name}" for name in (*rules.required, *rules.shown)}
    if objective:
        names.add(f"selection/{objective}")
    return frozenset(names)


def is_logged(key: str, logged_names: frozenset[str]) -> bool:
    """Return True if a final number is logged as a metric, False if it is only in seeds.csv.

    Numbers that are not of a single seed, such as means, are always logged.

    Args:
        key: Metric's key of the number.
        logged_names: Result of `list_logged_names`.
    """
    seed_and_name = split_seed(key)
    if seed_and_name is None:
        return True
    name = seed_and_name[1]
    return name in logged_names or name.startswith(f"test/{CUSTOM}")


def format_seeds_csv(numbers: Mapping[str, float]) -> bytes:
    """Return the content of a run's seeds.csv.

    Args:
        numbers: Final numbers by the metric's key. Numbers that are not of a single seed are left
            out. A number that a seed lacks becomes an empty cell.
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
    """Return the numbers of a seeds.csv by the metric's key, or {} if the file is damaged.

    Args:
        content: Content of the file. It is untrusted input.
    """
    try:
        headings, *rows = csv.reader(io.StringIO(content.decode()))
        seeds = [int(heading.removeprefix("seed_")) for heading in headings[1:]]
        return {
            name_seed_metric(seed, name): float(value)
            for name, *values in rows
            for seed, value in zip(seeds, values, strict=True)
            if value
        }
    except (ValueError, csv.Error):
        return {}


def merge_seeds_csv(runs: Sequence[Run], files: RunFiles) -> tuple[list[Run], int]:
    """Add numbers that are only in seeds.csv to the metrics of finished trials' runs.

    Args:
        runs: Runs of a study.
        files: Files of the runs.

    Returns:
        All runs in their order, and the number of finished runs without a readable seeds.csv. The
        number is 0 if none of the runs has a readable one.
    """
    trials = [run for run in runs if run.tags.get(Tag.KIND) == Kind.TRIAL]
    finished_ids = [run.run_id for run in trials if run.tags.get(Tag.STATE) == COMPLETE]
    contents = files.read_all(finished_ids, SEEDS_CSV)
    numbers_by_run = {run_id: parse_seeds_csv(content) for run_id, content in contents.items()}
    merged_runs = [
        replace(run, metrics=_select_unlogged(run, numbers_by_run[run.run_id]) | run.metrics)
        if run.run_id in numbers_by_run
        else run
        for run in runs
    ]
    n_readable = sum(map(bool, numbers_by_run.values()))
    n_unreadable = len(finished_ids) - n_readable if n_readable else 0
    return merged_runs, n_unreadable


def _select_unlogged(run: Run, numbers: Mapping[str, float]) -> dict[str, float]:
    """Return the numbers of a run's seeds.csv that are never logged as metrics.

    If a metric that should be logged was deleted, it is not restored from the file. Its seed counts
    as unfinished (see `is_finished`) and is rerun.

    Args:
        run: The run.
        numbers: Numbers of its seeds.csv by the metric's key.

    Returns:
        Numbers by the metric's key. {} if the run's protocol is unknown.
    """
    protocol = run.tags.get(Tag.PROTOCOL, DEFAULT_PROTOCOL)
    if protocol not in PROTOCOLS:
        return {}
    logged_names = list_logged_names(protocol)
    return {key: value for key, value in numbers.items() if not is_logged(key, logged_names)}
