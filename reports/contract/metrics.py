"""The metric keys of a trial's run in MLflow, and the flags that it may raise."""

from enum import StrEnum
from typing import Final

OBJECTIVE: Final = "objective"
TARGET: Final = "accuracy/"  # cross_dataset: the accuracy on one target
QUALITY: Final = "quality/"
FLAG: Final = "flag/"
HEADLINE: Final = "headline/"  # of the study's own run; no trial's run has any
_SEED: Final = "seed_"


class Cost(StrEnum):
    """What a trial took; a member is the metric's key.

    SECONDS: of computing, without waiting. PEAK_MEMORY and DEVICE_MEMORY: in MiB.
    GPUS, DEVICE_MEMORY: of trials that held GPUs, how many, and the memory of a single one.
    """

    SECONDS = "cost/seconds"
    PEAK_MEMORY = "cost/peak_memory_mb"
    TEXT_TOKENS = "cost/text_tokens"
    GPUS = "cost/gpus"
    DEVICE_MEMORY = "cost/device_memory_mb"


def seed_metric(seed: int, name: str) -> str:
    """The metric key of one seed's final number, e.g. seed_3/test/harmonic_mean."""
    return f"{_SEED}{seed}/{name}"


def curve_metric(seed: int, name: str) -> str:
    """The metric key of one seed over epochs, e.g. curve/seed_3/selection/harmonic_mean.

    Not that of the final number, which is of the epoch that selection chose.
    """
    return f"curve/{seed_metric(seed, name)}"


def interval_metrics(name: str, low: float | None, high: float | None) -> dict[str, float]:
    """The metric keys of an interval's ends, NAME_low and NAME_high; {} where there is none."""
    ends = {"low": low, "high": high}
    return {f"{name}_{end}": value for end, value in ends.items() if value is not None}


def split_seed(key: str) -> tuple[int, str] | None:
    """(3, "test/harmonic_mean") of "seed_3/test/harmonic_mean"; None: no seed's own metric."""
    head, _, name = key.partition("/")
    seed = head.removeprefix(_SEED)
    return (int(seed), name) if name and seed != head and seed.isdecimal() else None


FLAGS: Final = {
    "posterior_collapse": (
        "posterior collapse",
        "no latent unit is active (variance of its posterior mean above 0.01)",
    ),
    "diversity_collapse": (
        "diversity collapse",
        "diversity within a class, or effective rank, below a tenth of the real features'; not"
        " asked of text features, points by construction, nor of the few real pictures",
    ),
    "mean_gap": (
        "mean gap",
        "synthetic class means are further from the real ones than the text features are, by more"
        " than 0.02 in cosine",
    ),
    "last_epoch": (
        "last epoch",
        "selection chose the last epoch (or age of the generator): longer training might do better",
    ),
    "grid_edge": (
        "edge of the grid",
        "selection chose the largest or smallest alpha, beta or ratio that it tried: a better one"
        " may lie beyond",
    ),
}
"""Flags that a trial may raise: what a footnote calls them, and what they mean."""
