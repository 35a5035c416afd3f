"""A setting's right answers on the test pictures, as the file that its run keeps.

The worker makes it: what travels, and stays in Tune's memory, is then small.
"""

import base64
from collections.abc import Sequence
from io import BytesIO

import numpy as np

from reports.contract import CLASS, CLASS_ID, EXAM, SEEN, hit_column
from ship.trial_config import Hits


def hits_file(exams: Sequence[Hits], seeds: Sequence[int]) -> str:
    """A parquet file of one row a test picture, in base64; "" where there are no answers.

    Args:
        exams: the right answers on each exam's pictures, of a replica for each seed.
        seeds: of the trial.
    """
    import polars as pl

    if not exams:
        return ""
    text = {EXAM: pl.String, CLASS: pl.String}  # also where an exam has no pictures
    frames = [pl.DataFrame(_columns(exam, seeds), schema_overrides=text) for exam in exams]
    held = BytesIO()
    pl.concat(frames, how="diagonal").write_parquet(held)
    return base64.b64encode(held.getvalue()).decode("ascii")


def _columns(exam: Hits, seeds: Sequence[int]) -> dict[str, np.ndarray | list[str]]:
    ids = np.array(exam.class_ids, dtype=np.int32)
    columns: dict[str, np.ndarray | list[str]] = {
        EXAM: [exam.exam] * len(ids),
        CLASS_ID: ids,
        CLASS: [exam.class_names[i] for i in ids],
        SEEN: np.array(exam.seen)[ids],
    }
    for kind, rows in exam.right.items():
        for seed, row in zip(seeds, rows, strict=True):
            bits = np.unpackbits(np.frombuffer(row, dtype=np.uint8), count=len(ids))
            columns[hit_column(seed, kind)] = bits.astype(bool)
    return columns
