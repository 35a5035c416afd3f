"""From a trial with few epochs to the whole: what an epoch takes is measured, not how many run."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ship.protocols import REFERENCE_AGES
from ship.trial import planned_ages
from ship.trial_config import TrialConfig

# Of a trial that is timed: the first epoch warms up, the last one is evaluated, and the median of
# the others counts.
EPOCHS = 5
# what each item of a trial took, in order, by its stage (EpochMetrics.stage)
Spent = Mapping[str, Sequence[float]]


def shortened(config: TrialConfig, most: int = EPOCHS) -> TrialConfig:
    """The same trial with so many epochs of each kind at most, evaluated after the last."""
    update: dict[str, Any] = {"eval_every": most + 1}
    for group in ("generator", "finetuner"):
        settings = getattr(config, group)
        if _epochs(settings) > most:
            update[group] = settings.model_copy(update={"epochs": most})
    return config.model_copy(update=update)


@dataclass(frozen=True)
class Rates:
    """What the parts of a trial take, in whatever it was measured: seconds, or operations.

    epoch: one epoch of each stage that trains.
    look: selection's evaluation of one epoch.
    run: beside epochs and looks, each time that the stage is run through (selection once for each
        age of the generator that it compares, final once a task that is tested).
    times: how often each stage is run through; selection where it compares no ages.
    once: what belongs to no stage that trains.
    """

    epoch: Mapping[str, float]
    look: float
    run: Mapping[str, float]
    times: Mapping[str, int]
    once: float

    @classmethod
    def of(cls, short: TrialConfig, spent: Spent) -> "Rates":
        """From what each item of a shortened trial took.

        Args:
            short: that was run.
            spent: what its items took.
        """
        ages = _ages(short)
        epoch, run, times, look, once = {}, {}, {}, 0.0, 0.0
        for stage, items in spent.items():
            planned = _planned(short, stage)
            if not planned:
                once += math.fsum(items)
                continue
            looked = stage == "selection" and ages == 1  # before the first epoch, and once more
            length = planned + looked
            parts = [items[at : at + length] for at in range(0, len(items), length)]
            each = statistics.fmean(map(_usual, parts))
            epoch[stage], times[stage] = each, len(parts)
            rest = math.fsum(items) - each * (len(items) - looked)
            if looked and len(items) == length:
                look = min(rest / 2, max(0.0, items[-1] - each))
                rest -= 2 * look
            run[stage] = rest / len(parts)
        return cls(epoch, look, run, times, once)

    def total(self, config: TrialConfig, ran: Mapping[str, int] | None = None) -> float:
        """Of a whole trial.

        Args:
            config: of the trial, like the one that was measured but for its epochs.
            ran: items that were reported, by stage; None: all that are planned, an upper bound.
        """
        ages, total = _ages(config), self.once
        for stage, each in self.epoch.items():
            planned, times = _planned(config, stage), self.times[stage]
            looked = stage == "selection" and ages == 1
            if stage == "selection" and ages > 1:
                times = ages
            epochs = planned * times if ran is None else max(0, ran.get(stage, 0) - looked)
            total += times * self.run[stage] + epochs * each
            if looked:
                total += self.look * (1 + math.ceil(epochs / config.eval_every))
        return total


def _usual(items: Sequence[float]) -> float:
    """One epoch: the median of those that are neither the first nor evaluated."""
    return statistics.median(items[1:-1] or items[-1:])


def _planned(config: TrialConfig, stage: str) -> int:
    """Epochs of a stage each time that it is run through; 0: it does not train."""
    if stage in ("selection_quality", "test"):
        return 0
    return _epochs(config.generator if stage.endswith("generator") else config.finetuner)


def _ages(config: TrialConfig) -> int:
    """Ages of the generator that selection compares."""
    wanted = REFERENCE_AGES if config.selection == "reference" else 1
    return len(planned_ages(_epochs(config.generator), wanted))


def _epochs(settings: Any) -> int:
    return int(getattr(settings, "epochs", 0))
