"""Seeds and counts that the tags of a study's own run hold, taken as somebody else's."""

from collections.abc import Mapping
from typing import Any

from reports.contract import ReportError, Tag

MOST_SEEDS = 1_000_000  # of a tag that is sound


def listed_seeds_of(config: Mapping[str, Any]) -> list[int]:
    """The seeds that the study wants now, [] where it does not say.

    Raises:
        ReportError: no seeds, or more than there can be.
    """
    seeds = config.get("seeds")
    if isinstance(seeds, int) and seeds <= MOST_SEEDS:
        return list(range(seeds))
    if not are_seeds(seeds or []):
        raise ReportError(f"MLflow tag {Tag.STUDY}: its seeds are not what ship-sweep writes")
    return list(seeds or ())


def are_seeds(value: Any) -> bool:
    """Whether a value of JSON is a list of seeds."""
    return isinstance(value, list) and all(type(s) is int and 0 <= s < 2**63 for s in value)


def trials_of(config: Mapping[str, Any]) -> int:
    """How many settings a sampler is to try; 0 where the study does not say.

    Raises:
        ReportError: no count.
    """
    trials = config.get("trials") or 0
    if not isinstance(trials, int):
        raise ReportError(f"MLflow tag {Tag.STUDY}: its trials are not a count")
    return trials


def own_seeds(entry: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The seeds of one entry of Tag.WANTED; None where it has none of its own.

    Raises:
        TypeError: no seeds.
    """
    own = entry.get("seeds")
    if own is not None and not are_seeds(own):
        raise TypeError("seeds must be a list of integers")
    return None if own is None else tuple(own)
