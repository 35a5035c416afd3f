"""What the runs of a study have logged of a metric over their steps: read when a figure asks."""

import contextlib
import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from reports.contract import SQLITE, ReportError
from reports.read.runs import checked, quiet, read_only

# step, value: the steps ascend
History = list[tuple[int, float]]

MOST_POINTS = 10_000  # of a run's history that is sound
MOST_VALUES = 1_000_000  # of all histories together
MOST_ASKED = 300  # runs whose history a server is asked for, one request each, evenly over them
MOST_FAILED = 3  # requests; each may take seconds
_AT_ONCE = 500  # runs a query; sqlite takes no more than some thousand parameters
_LARGEST = 1e300  # MLflow's SQL store writes an infinity as the largest float


@dataclass(frozen=True)
class Histories:
    """The metric histories of a store's runs, each metric read once, when it is asked for.

    A store is somebody else's: what is no number is left out, and of too much the rest is.

    uri: of the store; "" has no histories.
    """

    uri: str = ""
    _known: dict[tuple[str, tuple[str, ...]], dict[str, History]] = field(default_factory=dict)

    def of(self, metric: str, run_ids: Sequence[str]) -> dict[str, History]:
        """Run id -> its history, of the runs that have one which can be read.

        Args:
            metric: the key in MLflow.
            run_ids: the runs.
        """
        place = (metric, tuple(run_ids))
        if place not in self._known:
            self._known[place] = self._read(metric, run_ids)
        return self._known[place]

    def _read(self, metric: str, run_ids: Sequence[str]) -> dict[str, History]:
        if not self.uri or not run_ids:
            return {}
        try:
            uri = checked(self.uri)
        except ReportError:  # it has gone since the study was read
            return {}
        read = _from_sqlite if uri.startswith(SQLITE) else _from_client
        found: dict[str, dict[int, float]] = {}
        for run_id, step, value in read(uri, metric, run_ids):
            if _sound(step, value) and len(found.setdefault(run_id, {})) < MOST_POINTS:
                found[run_id][step] = float(value)  # of one step the last that was written
        return {run_id: sorted(values.items()) for run_id, values in found.items()}


def _sound(step: Any, value: Any) -> bool:
    number = type(value) in (int, float) and abs(value) < _LARGEST and not math.isnan(value)
    return type(step) is int and number


def _from_sqlite(uri: str, metric: str, run_ids: Sequence[str]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (run id, step, value) in the order of writing; nothing where it cannot be read."""
    left = MOST_VALUES
    with (
        contextlib.suppress(sqlite3.Error, UnicodeDecodeError),
        contextlib.closing(sqlite3.connect(read_only(uri), uri=True)) as base,
    ):
        for first in range(0, len(run_ids), _AT_ONCE):
            some = run_ids[first : first + _AT_ONCE]
            marks = ", ".join("?" * len(some))
            query = (
                "SELECT run_uuid, step, CASE WHEN is_nan THEN NULL ELSE value END FROM metrics"
                f" WHERE key = ? AND run_uuid IN ({marks}) ORDER BY timestamp LIMIT ?"
            )
            rows = base.execute(query, [metric, *some, left]).fetchall()
            left -= len(rows)
            yield from rows


def _from_client(uri: str, metric: str, run_ids: Sequence[str]) -> Iterator[tuple[str, Any, Any]]:
    """The same by MLflow's client, of some of the runs where there are many."""
    failed, left = 0, MOST_VALUES
    step = max(1, math.ceil(len(run_ids) / MOST_ASKED))
    with quiet():
        from mlflow.tracking import MlflowClient

        client = None
        for run_id in run_ids[::step]:
            try:
                client = client or MlflowClient(tracking_uri=uri)
                history: Iterable[Any] = client.get_metric_history(run_id, metric)
                points = [(run_id, point.step, point.value) for point in history][:left]
            except Exception:  # a store may throw anything; the figures do without
                failed += 1
                if failed >= MOST_FAILED:
                    return
                continue
            left -= len(points)
            yield from points
