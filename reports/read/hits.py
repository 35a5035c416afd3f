"""The right answers that the runs of a study keep, by class: read when a table asks for them."""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlparse

import numpy as np
import polars as pl

from reports.contract import CLASS_ID, EXAM, HITS, SEEN, hit_column
from reports.stats import ClassCounts

# exam -> its counts, of one seed
Exams = dict[str, ClassCounts]


@dataclass(frozen=True)
class HitFiles:
    """The files of right answers of a study's runs.

    folders: run id -> where the run's artifacts are. uri: of the store.
    """

    folders: Mapping[str, str] = field(default_factory=dict)
    uri: str = ""
    _known: dict[str, dict[int, Exams]] = field(default_factory=dict)

    def of(self, run_id: str, seed: int) -> Exams:
        """A seed's counts of each exam; {} where the run keeps none, or they cannot be read."""
        if run_id not in self._known:
            self._known[run_id] = self._read(run_id)
        return self._known[run_id].get(seed, {})

    def _read(self, run_id: str) -> dict[int, Exams]:
        content = _content(self.folders.get(run_id, ""), self.uri)
        if content is None:
            return {}
        try:
            return _by_seed(pl.read_parquet(BytesIO(content)))
        except (pl.exceptions.PolarsError, KeyError, ValueError):
            return {}


def _by_seed(answers: pl.DataFrame) -> dict[int, Exams]:
    """seed -> exam -> counts, from one row a picture."""
    columns = [re.fullmatch(r"seed_(\d+)/(\w+)", name) for name in answers.columns]
    kinds = [(int(found[1]), found[2]) for found in columns if found]
    found: dict[int, Exams] = {seed: {} for seed, _ in kinds}
    for (exam,), part in answers.partition_by(EXAM, as_dict=True).items():
        by_class = part.group_by(CLASS_ID).agg(
            pl.col(SEEN).first(),
            pl.len().alias("pictures"),
            *(pl.col(hit_column(seed, kind)).sum() for seed, kind in kinds),
        )
        by_class = by_class.sort(CLASS_ID)
        for seed in found:
            held = {kind: hit_column(s, kind) for s, kind in kinds if s == seed}
            # an exam that has no answers of a kind has nulls
            held = {kind: name for kind, name in held.items() if part[name].null_count() == 0}
            found[seed][str(exam)] = ClassCounts(
                ids=by_class[CLASS_ID].to_numpy().astype(np.int64),
                seen=by_class[SEEN].to_numpy(),
                pictures=by_class["pictures"].to_numpy().astype(np.float64),
                right={k: by_class[n].to_numpy().astype(np.float64) for k, n in held.items()},
            )
    return found


def _content(folder: str, uri: str) -> bytes | None:
    """The file's content, from disk where the artifacts are there, else by MLflow's client."""
    if not folder:
        return None
    place = urlparse(folder)
    if place.scheme in ("", "file"):
        with contextlib.suppress(OSError):
            return (Path(unquote(place.path)) / HITS).read_bytes()
        return None
    return _downloaded(folder, uri)


def _downloaded(folder: str, uri: str) -> bytes | None:
    """The file by MLflow's client, quietly; None where the store does not give it."""
    from mlflow import artifacts, environment_variables

    environment_variables.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)  # type: ignore[no-untyped-call]
    place = f"{folder.rstrip('/')}/{HITS}"
    with TemporaryDirectory() as scratch:
        try:
            path = artifacts.download_artifacts(
                artifact_uri=place, dst_path=scratch, tracking_uri=uri
            )
            return Path(path).read_bytes()
        except Exception:  # a store may throw anything; the tables do without
            return None
