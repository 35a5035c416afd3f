"""The right answers that the runs of a study keep, by class: read when a table asks for them."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlparse

import numpy as np
import polars as pl

from reports.contract import CLASS_ID, EXAM, HITS, SEEN, SQLITE, hit_column, split_hit
from reports.stats import ClassCounts

MOST_BYTES, MOST_PICTURES = 64 * 2**20, 1_000_000  # of a file that is sound
# Where a tracking server's clients keep files, itself or a cloud's storage. Not plain addresses: to
# any of them MLflow would send the token of the tracking server.
_SERVED = ("mlflow-artifacts", "s3", "gs", "abfss", "wasbs", "dbfs", "hdfs")
MOST_FAILED = 3  # of the downloads of a study: each may take seconds

# exam -> its counts, of one seed
Exams = dict[str, ClassCounts]


@dataclass(frozen=True)
class HitFiles:
    """The files of right answers of a study's runs, each read once, when it is asked for.

    A store is somebody else's: what it names is read only where a store of its kind keeps files,
    and only if it is of bounded size and has the columns that it should have.

    folders: run id -> where the run's artifacts are. uri: of the store.
    """

    folders: Mapping[str, str] = field(default_factory=dict)
    uri: str = ""
    _known: dict[str, dict[int, Exams]] = field(default_factory=dict)
    _failed: list[str] = field(default_factory=list)

    def of(self, run_id: str, seed: int) -> Exams:
        """A seed's counts of each exam; {} where the run keeps none, or they cannot be read."""
        if run_id not in self._known:
            self._known[run_id] = self._read(run_id)
        return self._known[run_id].get(seed, {})

    def _read(self, run_id: str) -> dict[int, Exams]:
        folder = self.folders.get(run_id, "")
        place = urlparse(folder)
        if place.scheme in ("", "file"):
            content = _from_disk(Path(unquote(place.path)) / HITS) if folder else None
        elif place.scheme in _SERVED and self._served():
            content = _downloaded(folder, self.uri)
            self._failed.extend([run_id] * (content is None))
        else:
            content = None
        return {} if content is None else _counts(content)

    def _served(self) -> bool:
        """Whether files may be fetched: from a server, unless it has failed to give several."""
        return not self.uri.startswith(SQLITE) and len(self._failed) < MOST_FAILED


def _counts(content: bytes) -> dict[int, Exams]:
    """seed -> exam -> counts; {} of what is no such file."""
    try:
        rows = int(pl.scan_parquet(BytesIO(content)).select(pl.len()).collect().item())
        answers = pl.read_parquet(BytesIO(content)) if rows <= MOST_PICTURES else pl.DataFrame()
    except (pl.exceptions.PolarsError, OSError, ValueError):
        return {}
    return _by_seed(answers) if _is_sound(answers) else {}


def _is_sound(answers: pl.DataFrame) -> bool:
    """Whether a frame has the columns that ship-sweep writes, without nulls where none may be."""
    kinds = dict(answers.schema)
    must = {EXAM: pl.String, CLASS_ID: pl.Int32, SEEN: pl.Boolean}
    if not all(kinds.get(name) == kind for name, kind in must.items()):
        return False
    if any(answers[name].null_count() for name in must) or (answers[CLASS_ID] < 0).any():
        return False
    return all(kinds[name] == pl.Boolean for name in answers.columns if split_hit(name))


def _by_seed(answers: pl.DataFrame) -> dict[int, Exams]:
    """seed -> exam -> counts, from one row a picture."""
    kinds = [split for name in answers.columns if (split := split_hit(name)) is not None]
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


def _from_disk(path: Path) -> bytes | None:
    """A file's content; None of what is none, or is too large to be one of ours."""
    with contextlib.suppress(OSError):
        if path.is_file() and path.stat().st_size <= MOST_BYTES:
            return path.read_bytes()
    return None


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
            return _from_disk(Path(path))
        except Exception:  # a store may throw anything; the tables do without
            return None
