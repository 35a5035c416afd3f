"""What the runs of a study hold beside their last numbers: read when a table or a figure asks."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import polars as pl

from harness.store import (
    CLASS_ID,
    EXAM,
    HITS,
    LARGEST,
    SEEN,
    RunFiles,
    quiet_client,
    split_seed,
)

MOST_FAILED = 3  # requests of a study's runs; each may take seconds
MOST_PICTURES = 1_000_000  # of a file of answers that is sound
MOST_VALUES = 1_000_000  # of all histories together
MOST_ASKED = 300  # runs whose history is asked for, one request each, evenly over them

# step, value: the steps ascend
History = list[tuple[int, float]]
# The columns that a file of answers must have.
_PICTURE = {EXAM: pl.String, CLASS_ID: pl.Int32, SEEN: pl.Boolean}
_NOTHING = pl.DataFrame(schema=_PICTURE)


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
        found: dict[str, dict[int, float]] = {}
        for run_id, step, value in _points(self.uri, metric, run_ids):
            # NaN is below no number
            if type(step) is int and type(value) in (int, float) and abs(value) < LARGEST:
                found.setdefault(run_id, {})[step] = float(value)  # of a step the last written
        return {run_id: sorted(values.items()) for run_id, values in found.items()}


def _points(uri: str, metric: str, run_ids: Sequence[str]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (run id, step, value), of some of the runs where there are many."""
    failed, left = 0, MOST_VALUES
    with quiet_client():
        from mlflow.tracking import MlflowClient

        for run_id in run_ids[:: math.ceil(len(run_ids) / MOST_ASKED)]:
            try:
                history: Iterable[Any] = MlflowClient(uri).get_metric_history(run_id, metric)
                points = [(run_id, point.step, point.value) for point in history][:left]
            except Exception:  # a store may throw anything; the figures do without
                failed += 1
                if failed >= MOST_FAILED:
                    return
                continue
            left -= len(points)
            yield from points


@dataclass(frozen=True)
class HitFiles:
    """The files of right answers of a study's runs, each read once, when it is asked for.

    A file is read only if it has the columns that it should have.
    """

    files: RunFiles = field(default_factory=RunFiles)
    _known: dict[str, pl.DataFrame] = field(default_factory=dict)

    def of(self, run_id: str) -> pl.DataFrame:
        """Counts of a run, a row a class of an exam; no rows where it keeps none that can be read.

        Columns: EXAM, CLASS_ID, SEEN, pictures, and of each seed and kind of answer how many were
        right (as in the file); null where an exam has no answers of that kind.
        """
        if run_id not in self._known:
            self._known[run_id] = self._read(run_id)
        return self._known[run_id]

    def _read(self, run_id: str) -> pl.DataFrame:
        content = self.files.read(run_id, HITS)
        return _counts(content) if content else _NOTHING


def _counts(content: bytes) -> pl.DataFrame:
    """The counts of a file (see HitFiles.of); no rows of what is no such file."""
    # Not by polars, whose reader ends the process at some damage; takes a while to import.
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(BytesIO(content))
        if file.metadata.num_rows > MOST_PICTURES:
            return _NOTHING
        answers = pl.DataFrame(file.read(use_threads=False))
        hits = [name for name in answers.columns if split_seed(name)]
    # a damaged file may raise anything, and what polars takes for impossible is no Exception
    except (Exception, pl.exceptions.PanicException):
        return _NOTHING
    wanted = {**_PICTURE, **dict.fromkeys(hits, pl.Boolean)}
    sound = wanted.items() <= {**answers.schema}.items()
    if not sound or any(answers[n].null_count() for n in _PICTURE) or (answers[CLASS_ID] < 0).any():
        return _NOTHING
    right = [pl.when(pl.col(n).null_count() == 0).then(pl.col(n).sum()).alias(n) for n in hits]
    pictures = pl.len().alias("pictures")
    by_class = answers.group_by(EXAM, CLASS_ID).agg(pl.col(SEEN).first(), pictures, *right)
    return by_class.sort(EXAM, CLASS_ID)
