"""Files and metric histories of runs, which are read only when a table or figure needs them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import polars as pl

from harness.store import (
    CLASS_ID,
    CORRECT_FILE,
    EVAL_SET,
    MAX_FAILED_REQUESTS,
    MAX_METRIC_VALUE,
    SEEN,
    RunFiles,
    silence_client,
    split_seed,
)

MAX_IMAGES = 1_000_000  # files of correct predictions with more images are ignored
MAX_VALUES = 1_000_000  # values of a metric that are kept, in all runs together
MAX_HISTORIES = 300  # runs whose history of a metric is read, with one request per run

# (step, value) pairs of a metric, with ascending steps.
History = list[tuple[int, float]]
# Required columns of a file of correct predictions.
_REQUIRED = {EVAL_SET: pl.String, CLASS_ID: pl.Int32, SEEN: pl.Boolean}
_NO_COUNTS = pl.DataFrame(schema=_REQUIRED)


@dataclass(frozen=True)
class Histories:
    """Metric histories of a store's runs, which are read on first use and cached.

    The store is untrusted input: values that are not finite numbers are dropped, and at most
    MAX_VALUES values are kept. If there are more than MAX_HISTORIES runs, an evenly spaced subset
    is read.

    Attributes:
        uri: MLflow tracking URI of the store. "" for no histories.
    """

    uri: str = ""
    _cache: dict[tuple[str, tuple[str, ...]], dict[str, History]] = field(default_factory=dict)

    def load(self, metric: str, run_ids: Sequence[str]) -> dict[str, History]:
        """Return the histories of a metric by run ID.

        Runs that cannot be read, or that have no valid values, have no entry.

        Args:
            metric: Key of the metric in MLflow.
            run_ids: IDs of the runs.
        """
        key = (metric, tuple(run_ids))
        if key not in self._cache:
            self._cache[key] = self._read(metric, run_ids)
        return self._cache[key]

    def _read(self, metric: str, run_ids: Sequence[str]) -> dict[str, History]:
        """Read the histories, drop invalid values, and sort each history by step."""
        if not self.uri or not run_ids:
            return {}
        values_by_step: dict[str, dict[int, float]] = {}
        for run_id, step, value in _read_points(self.uri, metric, run_ids):
            # the comparison is False for NaN
            if type(step) is int and type(value) in (int, float) and abs(value) < MAX_METRIC_VALUE:
                # of several values of a step, the last one counts
                values_by_step.setdefault(run_id, {})[step] = float(value)
        return {run_id: sorted(values.items()) for run_id, values in values_by_step.items()}


def _read_points(uri: str, metric: str, run_ids: Sequence[str]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (run ID, step, value) for at most MAX_HISTORIES evenly spaced runs.

    Runs whose request fails are skipped. After MAX_FAILED_REQUESTS failures, no further run is
    read.
    """
    n_failed, n_left = 0, MAX_VALUES
    with silence_client():
        from mlflow.tracking import MlflowClient

        try:
            client = MlflowClient(uri)
        except Exception:  # MLflow may raise anything; a report needs no histories
            return
        for run_id in run_ids[:: math.ceil(len(run_ids) / MAX_HISTORIES)]:
            try:
                history: Iterable[Any] = client.get_metric_history(run_id, metric)
                points = [(run_id, point.step, point.value) for point in history][:n_left]
            except Exception:  # MLflow may raise anything; a report does not need this run
                n_failed += 1
                if n_failed >= MAX_FAILED_REQUESTS:
                    return
                continue
            n_left -= len(points)
            yield from points


@dataclass(frozen=True)
class CorrectFiles:
    """Correct predictions of runs, from CORRECT_FILE, which is read on first use and cached.

    Attributes:
        files: Files of the study's runs.
    """

    files: RunFiles = field(default_factory=RunFiles)
    _cache: dict[str, pl.DataFrame] = field(default_factory=dict)

    def load(self, run_id: str) -> pl.DataFrame:
        """Return a run's numbers of images and correct predictions, per evaluation set and class.

        Args:
            run_id: ID of the run.

        Returns:
            A row per evaluation set and class, with these columns:

            - EVAL_SET, CLASS_ID, SEEN: as in the file.
            - images: Number of images.
            - KIND/seed_N: Number of correct predictions of a model, named as in the file. Null if
              the value of any of the images is missing.

            There are no rows if the file is absent, damaged or too large, or if it lacks a required
            column.
        """
        if run_id not in self._cache:
            self._cache[run_id] = self._read(run_id)
        return self._cache[run_id]

    def _read(self, run_id: str) -> pl.DataFrame:
        """Return the counts of a run without the cache; see `load`."""
        content = self.files.read(run_id, CORRECT_FILE)
        return _count_predictions(content) if content else _NO_COUNTS


def _count_predictions(content: bytes) -> pl.DataFrame:
    """Return the counts of a file (see CorrectFiles.load); no rows if the content is invalid."""
    # pyarrow, because polars' reader aborts the process on some damaged files. Its import is slow,
    # so it is imported here.
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(BytesIO(content))
        if file.metadata.num_rows > MAX_IMAGES:
            return _NO_COUNTS
        predictions = pl.DataFrame(file.read(use_threads=False))
        seed_columns = [name for name in predictions.columns if split_seed(name)]
    # damaged files may raise anything; polars' PanicException is not a subclass of Exception
    except (Exception, pl.exceptions.PanicException):
        return _NO_COUNTS
    schema = {**_REQUIRED, **dict.fromkeys(seed_columns, pl.Boolean)}
    has_schema = schema.items() <= {**predictions.schema}.items()
    if (
        not has_schema
        or any(predictions[name].null_count() for name in _REQUIRED)
        or (predictions[CLASS_ID] < 0).any()
    ):
        return _NO_COUNTS
    sums = [
        pl.when(pl.col(name).null_count() == 0).then(pl.col(name).sum()).alias(name)
        for name in seed_columns
    ]
    images = pl.len().alias("images")
    by_class = predictions.group_by(EVAL_SET, CLASS_ID).agg(pl.col(SEEN).first(), images, *sums)
    return by_class.sort(EVAL_SET, CLASS_ID)
