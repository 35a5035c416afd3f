"""What a study chooses from by name: samplers, schedulers, selections; and a trial's resources."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from ship.settings import Settings
from ship.trial_config import Selection

Sampler = Literal["grid", "tpe", "random"]

SAMPLERS: dict[Sampler, str] = {
    "grid": "every combination of the factors' levels",
    "tpe": "Optuna's tree-structured Parzen estimator, multivariate",
    "random": "independent draws",
}


SELECTIONS: dict[Selection, str] = {
    "pseudo_new": "by H on held-out base classes that play new ones; leaks nothing",
    "base_val": "by validation pictures of seen classes (of all under few_shot: its default)",
    "few_val": "by at most 4 validation pictures of each such class, and no more than shots",
    "none": "nothing is chosen: settings as given, tested at the last epoch",
    "test": 'by the test pictures, after each epoch; a leak: tables say "selected on test"',
    "reference": "by the test pictures, as SHIP's authors do: the best of five ages of the "
    "generator, each with a fine-tuner of its own; a leak, too",
}


class NoScheduler(Settings):
    """Every trial runs to its end."""

    name: Literal["none"] = "none"


class AshaScheduler(Settings):
    """Asynchronous successive halving: trials that lag behind at a rung are stopped (PRUNED)."""

    name: Literal["asha"] = "asha"
    grace_period: int = Field(1, ge=1, description="reports before a trial may be stopped")
    reduction_factor: int = Field(3, ge=2, description="one of this many goes on at each rung")


SchedulerConfig = Annotated[NoScheduler | AshaScheduler, Field(discriminator="name")]
SCHEDULERS: dict[str, type[NoScheduler] | type[AshaScheduler]] = {
    "none": NoScheduler,
    "asha": AshaScheduler,
}


class Resources(Settings):
    """What one trial occupies; fractions let trials share a device."""

    auto: bool = Field(
        False,
        description="measure: a first trial has a GPU to itself, and its peak memory says how many "
        "share one then; without GPUs, idle cores become threads (`resources: auto` for short)",
    )
    cpus: float = Field(
        1,
        gt=0,
        allow_inf_nan=False,
        description="cores of one trial, which are its threads of torch, too",
    )
    gpus: float = Field(
        0, ge=0, allow_inf_nan=False, description="GPUs of one trial, or a part of one"
    )

    @field_validator("gpus")
    @classmethod
    def _shareable(cls, value: float, info: ValidationInfo) -> float:
        if value > 1 and value % 1:
            raise ValueError("must be below 1, or a whole number")
        if value and info.data.get("auto"):
            raise ValueError("must be left out where resources.auto is true, which decides it")
        return value


class Record(Settings):
    """What a trial's run in MLflow holds beyond its means and final numbers."""

    seed_curves: bool = Field(False, description="each seed's metrics over epochs")
    system_metrics: bool = Field(
        False, description="load of the worker's machine over epochs: cores, memory, its GPU"
    )
