"""What a study is, once its YAML is read: typed settings."""

import re
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from harness.config.choices import (
    NoScheduler,
    Record,
    Resources,
    Sampler,
    SchedulerConfig,
)
from harness.config.factor import Factor
from ship.settings import Settings
from ship.trial_config import SEEN_OBJECTIVES, TrialConfig

MAX_SEEDS = 1000
SELECTING = ("selection", "objective")  # settings that say what a trial's selection metric is


class Detection(Settings):
    """How `--detect` gives out seeds; a report names it, and uses its intervals.

    metric: that comparisons are decided by. effect: in its points. looks: numbers of seeds.
    comparisons: in the study, twins of other settings among them.
    """

    metric: str
    effect: float = Field(gt=0)
    looks: tuple[int, ...]
    comparisons: int = Field(ge=1)


class StudyConfig(Settings):
    """One study. In YAML the fields of `trial` stand beside these keys, at the top level."""

    name: str = Field(description="the experiment's name")
    description: str = Field("", description="one line for --list")
    source: Path | None = Field(None, description="the YAML file")
    trial: TrialConfig = Field(description="the constants")
    space: dict[str, Factor] = Field(description="dotted setting -> its factor")
    variants: dict[str, dict[str, dict[str, Any]]] = Field(
        default_factory=dict,
        description="settings of the levels of generator and finetuner, and of single datasets",
    )
    sampler: Sampler = Field("grid", description="what proposes settings")
    sampler_seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of tpe and random")
    trials: int | None = Field(None, ge=1, le=100_000, description="settings to try; grid: all")
    seeds: tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...] = Field(
        (0, 1, 2, 3, 4), description="a count n (seeds 0 to n-1), or a list"
    )
    smallest_effect: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        description="the smallest difference that matters, in points of the metric that settings "
        "are compared by",
    )
    save: bool = Field(
        False,
        description="whether each run keeps the generators and fine-tuners that it trained",
    )
    scheduler: SchedulerConfig = Field(default_factory=NoScheduler, description="early stopping")
    resources: Resources = Field(default_factory=Resources, description="what one trial takes")
    record: Record = Field(
        default_factory=Record, description="what runs in MLflow hold beyond means"
    )
    time_limit: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="seconds that one try of a trial may run",
    )
    checkpoint_every: float | None = Field(
        60.0,
        ge=0,
        allow_inf_nan=False,
        description="seconds between checkpoints of a running trial, at least; 0: at every chance; "
        "null: none",
    )
    max_failures: int | None = Field(
        10, ge=1, description="settings that fail in a row until the study stops; null: never"
    )
    concurrency: int | None = Field(None, ge=1, description="most trials at once")
    reference_arms: bool = Field(True, description="whether reference arms run beside the study")
    detect: Detection | None = Field(None, description="how --detect gives out seeds")
    own_seeds: dict[str, tuple[int, ...]] = Field(
        default_factory=dict, description="setting key -> its seeds, where they are not the study's"
    )
    added: tuple[dict[str, Any], ...] = Field(
        (), description="assignments that --path asks for beside those of the grid or the sampler"
    )

    def seeds_of(self, key: str) -> tuple[int, ...]:
        """The seeds that a setting is wanted for, by its key."""
        return self.own_seeds.get(key, self.seeds)

    @property
    def objective(self) -> str:
        """What samplers maximise, and what settings are ordered by.

        A metric of the selection pictures that every setting has; "" under selection none.
        """
        factors = {key: self.space[key].choices or () for key in SELECTING if key in self.space}
        for asked in (factors, {**factors, "objective": (None,)}):
            levels = (dict(zip(asked, values, strict=True)) for values in product(*asked.values()))
            found = {self.trial.model_copy(update=level).selection_metric for level in levels}
            if len(found - {""}) <= 1:
                return max(found)
        return SEEN_OBJECTIVES[self.trial.protocol]

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9_-]{1,100}", value):
            raise ValueError("must consist of a-z, 0-9, _ and - (the default is the file's stem)")
        return value

    @field_validator("description")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if len(value.strip().splitlines()) > 1:
            raise ValueError("must be one line")
        return value.strip()

    @field_validator("seeds", mode="before")
    @classmethod
    def _counted(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            if not 1 <= value <= MAX_SEEDS:
                raise ValueError(f"must be from 1 to {MAX_SEEDS}, or a list of seeds")
            return tuple(range(value))
        if not isinstance(value, list | tuple):
            raise ValueError("must be a count or a list of integers >= 0")
        if not 1 <= len(value) <= MAX_SEEDS:
            raise ValueError(f"must have from 1 to {MAX_SEEDS} seeds")
        return tuple(value)

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError("must be distinct")
        return value

    @field_validator("resources", mode="before")
    @classmethod
    def _auto_alone(cls, value: Any) -> Any:
        return {"auto": True} if value == "auto" else value

    @field_validator("scheduler", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


_NO_KEYS = ("source", "trial", "detect", "own_seeds", "added")  # fields that no YAML has at its top
STUDY_KEYS = tuple(key for key in StudyConfig.model_fields if key not in _NO_KEYS)
TRIAL_KEYS = tuple(TrialConfig.model_fields)
# Keys that studies had, and what to use instead.
REMOVED = {
    "compile": "steps are no longer recorded as CUDA graphs",
    "fuse": "settings are no longer trained side by side; where a GPU is not kept busy, "
    "resources.gpus: 0.25 lets four trials share it",
}
