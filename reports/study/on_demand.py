"""Files and histories of a study's runs that are read only when a table or a figure needs them."""

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

MAX_IMAGES = 1_000_000  # larger files of answers are ignored
MAX_VALUES = 1_000_000  # values of a metric that are read, over all histories
MAX_HISTORIES = 300  # runs whose history is read, one request each

# (step, value) pairs with ascending steps
History = list[tuple[int, float]]
# Required columns of a file of answers.
_IMAGE = {EVAL_SET: pl.String, CLASS_ID: pl.Int32, SEEN: pl.Boolean}
_NOTHING = pl.DataFrame(schema=_IMAGE)


@dataclass(frozen=True)
class Histories:
    """Metric histories of a store's runs. Each metric is read once, on first use.

    The store is untrusted input: values that are not finite numbers are dropped, and at most
    MAX_VALUES values are read. Of many runs, an evenly spaced sample is read.

    Attributes:
        uri: MLflow tracking URI of the store; "" for no histories.
    """

    uri: str = ""
    _cache: dict[tuple[str, tuple[str, ...]], dict[str, History]] = field(default_factory=dict)

    def load(self, metric: str, run_ids: Sequence[str]) -> dict[str, History]:
        """Return the histories that can be read, by run ID.

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
            # also drops NaN, for which the comparison is False
            if type(step) is int and type(value) in (int, float) and abs(value) < MAX_METRIC_VALUE:
                # the last value of a step wins
                values_by_step.setdefault(run_id, {})[step] = float(value)
        return {run_id: sorted(values.items()) for run_id, values in values_by_step.items()}


def _read_points(uri: str, metric: str, run_ids: Sequence[str]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (run ID, step, value), from at most MAX_HISTORIES evenly spaced runs.

    After MAX_FAILED_REQUESTS failed requests, no further run is read.
    """
    n_failed, n_left = 0, MAX_VALUES
    with silence_client():
        from mlflow.tracking import MlflowClient

        try:
            client = MlflowClient(uri)
        except Exception:  # a store may raise anything; the figures work without histories
            return
        for run_id in run_ids[:: math.ceil(len(run_ids) / MAX_HISTORIES)]:
            try:
                history: Iterable[Any] = client.get_metric_history(run_id, metric)
                points = [(run_id, point.step, point.value) for point in history][:n_left]
            except Exception:  # a store may raise anything; the figures work without the run
                n_failed += 1
                if n_failed >= MAX_FAILED_REQUESTS:
                    return
                continue
            n_left -= len(points)
            yield from points


@dataclass(frozen=True)
class CorrectFiles:
    """Files of correct answers of a study's runs. Each is read once, on first use.

    Files without the required columns are ignored.
    """

    files: RunFiles = field(default_factory=RunFiles)
    _cache: dict[str, pl.DataFrame] = field(default_factory=dict)

    def load(self, run_id: str) -> pl.DataFrame:
        """Return the counts of a run, one row per class and evaluation set.

        The columns are EVAL_SET, CLASS_ID, SEEN, images (the number of images), and the number of
        correct answers in a column per seed and kind of answer, named as in the file. The number is
        null if answers of this kind are missing.

        Without a readable file there are no rows.
        """
        if run_id not in self._cache:
            self._cache[run_id] = self._read(run_id)
        return self._cache[run_id]

    def _read(self, run_id: str) -> pl.DataFrame:
        content = self.files.read(run_id, CORRECT_FILE)
        return _count_answers(content) if content else _NOTHING


def _count_answers(content: bytes) -> pl.DataFrame:
    """Return the counts of a file (see CorrectFiles.load); no rows if the content is invalid."""
    # polars' reader aborts the process on some damaged files. pyarrow is slow to import.
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(BytesIO(content))
        if file.metadata.num_rows > MAX_IMAGES:
            return _NOTHING
        answers = pl.DataFrame(file.read(use_threads=False))
        seed_columns = [name for name in answers.columns if split_seed(name)]
    # a damaged file may raise anything, and a panic of polars is not an Exception
    except (Exception, pl.exceptions.PanicException):
        return _NOTHING
    schema = {**_IMAGE, **dict.fromkeys(seed_columns, pl.Boolean)}
    is_valid = schema.items() <= {**answers.schema}.items()
    if (
        not is_valid
        or any(answers[n].null_count() for n in _IMAGE)
        or (answers[CLASS_ID] < 0).any()
    ):
        return _NOTHING
    sums = [
        pl.when(pl.col(n).null_count() == 0).then(pl.col(n).sum()).alias(n) for n in seed_columns
    ]
    images = pl.len().alias("images")
    by_class = answers.group_by(EVAL_SET, CLASS_ID).agg(pl.col(SEEN).first(), images, *sums)
    return by_class.sort(EVAL_SET, CLASS_ID)
