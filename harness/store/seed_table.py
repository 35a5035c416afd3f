"""Read and write the CSV file of a run's final numbers per seed, one of its artifacts.

MLflow draws a chart for each metric. Therefore only the numbers that tables show by default are
metrics of a run. All others are only in this file.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.store.artifacts import RunFiles
from harness.store.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from harness.store.runs import Run
from harness.store.schema import COMPLETE, CUSTOM, SEED_TABLE, Kind, Tag, seed_metric, split_seed

_METRIC = "metric"  # heading of the first column


def shown_metrics(protocol: str, objective: str = "") -> frozenset[str]:
    """Return the final numbers that are metrics of a run for each seed, without their seed.

    Args:
        protocol: Protocol of the run.
        objective: Selection metric that the study maximizes. "" if it has none.
    """
    rules = PROTOCOLS[protocol]
    names = {f"test/{name}" for name in (*rules.required, *rules.shown)}
    return frozenset({*names, f"selection/{objective}"})


def is_metric(key: str, shown_names: frozenset[str]) -> bool:
    """Return True if a final number is a metric of its run, False if only the table has it.

    Args:
        key: Key of the metric.
        shown_names: See `shown_metrics`.
    """
    split = split_seed(key)
    return split is None or split[1] in shown_names or split[1].startswith(f"test/{CUSTOM}")


def format_seed_table(numbers: Mapping[str, float]) -> bytes:
    """Return the file of a run's final numbers: a row for each metric, a column for each seed.

    Args:
        numbers: Final numbers by the metric's key. Numbers without a seed are left out.
    """
    rows: dict[str, dict[int, float]] = {}
    for key, value in numbers.items():
        if split := split_seed(key):
            rows.setdefault(split[1], {})[split[0]] = value
    seeds = sorted({seed for values in rows.values() for seed in values})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_METRIC, *(f"seed_{seed}" for seed in seeds)])
    for name, values in sorted(rows.items()):
        writer.writerow([name, *(repr(values[seed]) if seed in values else "" for seed in seeds)])
    return text.getvalue().encode()


def parse_seed_table(content: bytes) -> dict[str, float]:
    """Return the numbers of a seed table by the metric's key, or {} if it is damaged.

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


def add_seed_tables(runs: Sequence[Run], files: RunFiles) -> tuple[list[Run], int]:
    """Add the numbers of their seed tables to the metrics of finished runs.

    Args:
        runs: Runs of a study.
        files: Files of the runs.

    Returns:
        The runs, and the number of finished runs without a readable table. That number is 0 if no
        table is readable.
    """
    trials = [run for run in runs if run.tags.get(Tag.KIND) == Kind.TRIAL]
    finished = [run.run_id for run in trials if run.tags.get(Tag.STATE) == COMPLETE]
    contents = files.read_all(finished, SEED_TABLE)
    tables = {run_id: parse_seed_table(content) for run_id, content in contents.items()}
    extended = [
        replace(run, metrics=_unlogged_numbers(run, tables[run.run_id]) | run.metrics)
        if run.run_id in tables
        else run
        for run in runs
    ]
    n_readable = sum(map(bool, tables.values()))
    return extended, len(finished) - n_readable if n_readable else 0


def _unlogged_numbers(run: Run, table: Mapping[str, float]) -> dict[str, float]:
    """Return the numbers of a seed table that are not logged as metrics of its run.

    A number that should be a metric is not taken from the table: if it was deleted from the run,
    its seed counts as unfinished and is rerun.
    """
    protocol = run.tags.get(Tag.PROTOCOL, DEFAULT_PROTOCOL)
    if protocol not in PROTOCOLS:
        return {}
    shown_names = shown_metrics(protocol)
    return {key: value for key, value in table.items() if not is_metric(key, shown_names)}
