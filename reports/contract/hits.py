"""The file of a trial's run in MLflow that holds its right answers, picture by picture.

A parquet file of one row a test picture. Beside the columns below it has one of booleans for each
seed and kind of answer: see hit_column.
"""

import re
from typing import Final

HITS: Final = "hits.parquet"
# Beside it, of a study with save: true: the folder of what was trained (ship.trial.trained).
TRAINED: Final = "trained"
EXAM: Final = "exam"  # "", or the metric that the picture counts towards
CLASS_ID: Final = "class_id"
CLASS: Final = "class"  # its name
SEEN: Final = "seen"  # whether the model was trained on real pictures of the class

_HIT: Final = re.compile(r"seed_(\d{1,18})/(\w+)")


def hit_column(seed: int, kind: str) -> str:
    """The column of a seed's answers of a kind, e.g. seed_3/own.

    Args:
        seed: of the run.
        kind: "own": among the classes of the picture's own kind (seen or unseen). "all": among all
            classes that compete.
    """
    return f"seed_{seed}/{kind}"


def trained_file(seed: int) -> str:
    """A seed's file in the folder TRAINED, e.g. seed_3.safetensors."""
    return f"seed_{seed}.safetensors"


def split_hit(column: str) -> tuple[int, str] | None:
    """(3, "own") of "seed_3/own"; None: no column of a seed's answers."""
    found = _HIT.fullmatch(column)
    return (int(found[1]), found[2]) if found else None
