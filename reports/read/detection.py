"""How `ship-sweep --detect` gave out a study's seeds, as the study's own run tells it."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from reports.contract import ReportError, Tag
from reports.stats import MOST_COMPARISONS, MOST_LOOKS, Design

MOST_SEEDS = 1_000_000  # of a look that is sound


@dataclass(frozen=True)
class Detection:
    """metric: that comparisons were stopped by. design: when, and for what effect."""

    metric: str
    design: Design


def detection_of(entry: Any) -> Detection | None:
    """The design in Tag.STUDY; None where the study has none.

    Raises:
        ReportError: an entry that is not what ship-sweep writes.
    """
    match entry:
        case None:
            return None
        case {
            "metric": str(metric),
            "effect": float(effect),
            "looks": list(looks),
            "comparisons": int(comparisons),
        } if 0 < effect < math.inf and 1 <= comparisons <= MOST_COMPARISONS and _are_looks(looks):
            return Detection(metric, Design(effect, tuple(looks), comparisons))
    raise ReportError(f"MLflow tag {Tag.STUDY}: its detection is not what ship-sweep writes")


def _are_looks(value: list[Any]) -> bool:
    sound = 1 <= len(value) <= MOST_LOOKS
    if not sound or not all(type(n) is int and 2 <= n <= MOST_SEEDS for n in value):
        return False
    return all(a < b for a, b in pairwise(value))
