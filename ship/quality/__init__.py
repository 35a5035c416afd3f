"""How good synthetic features are, judged by real pictures of the same classes."""

from ship.quality.measure import flags, measure_quality

__all__ = ["flags", "measure_quality"]
