"""Typed config classes of a study's YAML, and the choices for some of its keys."""

import math
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, field_validator

from harness.config.factor import Factor
from ship.settings import Settings
from ship.trial_config import SEEN_OBJECTIVES, Selection, TrialConfig

MAX_SEEDS = 1000

FOLDER_KEYS = (
    "class_names",
    "split",
    "split_seed",
)  # keys that only dataset image_folder:NAME reads

Sampler = Literal["grid", "tpe", "gp", "random"]
SAMPLERS: dict[Sampler, str] = {
    "grid": "every combination of the factors' levels",
    "tpe": "Optuna's tree-structured Parzen estimator, multivariate",
    "gp": "Optuna's Gaussian process; supports neither factors with `when` nor a scheduler",
    "random": "independent draws",
}
SELECTIONS: dict[Selection, str] = {
    "pseudo_new": "by H, with some base classes held out and treated as new; uses no test image",
    "base_val": "by validation images of the seen classes; the default of few_shot, where all "
    "classes are seen",
    "few_val": "by min(shots, 4) validation images of each seen class",
    "none": "no selection: the last epoch is tested",
    "test": 'by the test images, after each epoch; a leak: tables say "selected on test"',
    "authors": "by the test images, as SHIP's authors do, among five of the generator's epochs; "
    "also a leak",
}


class NoScheduler(Settings):
    """Every trial runs to its end."""

    name: Literal["none"] = "none"


class AshaScheduler(Settings):
    """Asynchronous successive halving: the worst trials at each rung are stopped (PRUNED)."""

    name: Literal["asha"] = "asha"
    grace_period: int = Field(1, ge=1)
    """number of evaluations after which a trial may be stopped"""
    reduction_factor: int = Field(3, ge=2)
    """at each rung, one in this many trials continues"""


SCHEDULERS: dict[str, type[NoScheduler] | type[AshaScheduler]] = {
    "none": NoScheduler,
    "asha": AshaScheduler,
}


class Resources(Settings):
    """Resources of one trial. Fractions let trials share a device."""

    cpus: float = Field(1, gt=0)
    """CPU cores of one trial; it has one torch thread per core, rounded up"""
    gpus: float | None = Field(None, ge=0)
    """GPUs of one trial: 0, 1 or a share of one; null: 1 if any node has a GPU, else 0"""

    @property
    def threads(self) -> int:
        """Number of threads of one trial: its cores, rounded up."""
        return math.ceil(self.cpus)

    @field_validator("gpus")
    @classmethod
    def _check_gpus(cls, value: float | None) -> float | None:
        if value is not None and value > 1:
            raise ValueError(
                "must be <= 1 (a trial uses at most one GPU; other GPUs run other trials)"
            )
        return value


class Log(Settings):
    """Metrics that runs in MLflow have in addition to means over seeds and final numbers."""

    seed_curves: bool = False
    """each seed's metrics over epochs"""
    system_metrics: bool = False
    """load of the worker's machine over epochs: CPU, memory, GPU"""


# Keys whose value may differ between datasets (`variants.dataset`). The other keys determine what
# the study measures, and must be the same for all of its datasets.
VARIANT_KEYS: Final = (
    "max_classes", "shots", "augmentations", "templates", "pseudo_new_fraction", "eval_every",
    "quality", "generator", "finetuner", "synthetic",
)  # fmt: skip


class StudyConfig(Settings):
    """One study. In YAML the fields of `base` are at the top level, next to these keys.

    Example:
        >>> from harness.config import load_study
        >>> study = load_study("prompt_len", ["shots=4"])
        >>> study.base.shots, list(study.space)
        (4, ['generator.n_ctx'])
    """

    name: str
    """name of the study, and of its experiment in MLflow"""
    description: str = ""
    """one-line description, which ship-sweep list shows"""
    source: Path | None = None
    """the YAML file"""
    base: TrialConfig
    """the constants: options of a trial, which factors override"""
    space: dict[str, Factor]
    """the factors"""
    variants: dict[str, dict[str, dict[str, Any]]] = Field(default_factory=dict)
    """options that apply only with a certain method or dataset"""
    sampler: Sampler = "grid"
    """method that proposes the configurations"""
    sampler_seed: int = Field(0, ge=0, le=2**32 - 1)
    """seed of tpe, gp and random"""
    n_trials: int | None = Field(None, ge=1, le=100_000)
    """number of configurations; null: the whole grid (other samplers require a number)"""
    seeds: tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...] = (0, 1, 2, 3, 4)
    """seeds that every configuration is run with; a number n means 0 to n-1"""
    smallest_effect: float = Field(1.0, gt=0)
    """the smallest difference that matters, in points of the metric"""
    class_names: str | None = Field(None, min_length=1)
    """for dataset image_folder:NAME: file with the class names; null: class_names.csv or .txt in
    the folder, if it exists"""
    split: str | None = Field(None, min_length=1)
    """for dataset image_folder:NAME: JSON file with the splits, and optionally the few-shot images
    per seed; null: its folders train, val and test, or else a random split"""
    split_seed: int = Field(0, ge=0)
    """for dataset image_folder:NAME: seed of the random split"""
    save_models: bool = False
    """save the trained models of each run"""
    scheduler: Annotated[NoScheduler | AshaScheduler, Field(discriminator="name")] = NoScheduler()
    """early stopping"""
    resources: Resources = Resources()
    """resources of one trial"""
    log: Log = Log()
    """additional metrics of runs in MLflow"""
    trial_timeout: float | None = Field(None, gt=0)
    """maximum seconds of one attempt of a trial; null: no limit"""
    checkpoint_every: float | None = Field(60.0, ge=0)
    """minimum seconds between a trial's checkpoints; 0: as many as possible; null: none"""
    max_consecutive_failures: int | None = Field(10, ge=1)
    """number of consecutive failed configurations that stops the study; null: no limit"""
    max_concurrent_trials: int | None = Field(None, ge=1)
    """maximum number of concurrent trials; null: as many as fit"""
    controls: bool = True
    """also run the controls that the study is compared with"""
    backbone_defaults: dict[str, Any] = Field(default_factory=dict)
    """defaults of the backbone for keys that the YAML omits: dotted key -> value"""

    @property
    def folder_options(self) -> dict[str, dict[str, Any]]:
        """Dataset -> arguments of ship.datasets.ImageFolder. {} if none of FOLDER_KEYS is set."""
        arguments = {key: value for key in FOLDER_KEYS if (value := getattr(self, key))}
        return {self.base.dataset: arguments} if arguments else {}

    @property
    def objective(self) -> str:
        """Metric that samplers maximize and that ranks configurations, from the selection images.

        If levels of `selection` have different metrics, the objective is the accuracy on seen
        classes, which all of them measure. "" if `selection` is only none.
        """
        objective = None if "objective" in self.space else self.base.objective
        factor = self.space.get("selection")
        levels = (factor.choices if factor else None) or ()
        if factor is None or factor.when:  # while the factor is inactive, the constant applies
            levels = (*levels, self.base.selection)
        updates = ({"selection": level, "objective": objective} for level in levels)
        metrics = {self.base.model_copy(update=update).selection_metric for update in updates}
        metrics.discard("")
        if len(metrics) > 1:
            return SEEN_OBJECTIVES[self.base.protocol]
        return metrics.pop() if metrics else ""

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9_-]{1,100}", value):
            raise ValueError("must be 1 to 100 characters of a-z, 0-9, _ and -")
        return value

    @field_validator("description")
    @classmethod
    def _check_description(cls, value: str) -> str:
        if len(value.strip().splitlines()) > 1:
            raise ValueError("must be one line")
        return value.strip()

    @field_validator("seeds", mode="before")
    @classmethod
    def _expand_seeds(cls, value: Any) -> Any:
        if type(value) is int and 1 <= value <= MAX_SEEDS:
            return tuple(range(value))
        if not isinstance(value, list | tuple) or not 1 <= len(value) <= MAX_SEEDS:
            raise ValueError(
                f"must be 1 to {MAX_SEEDS}, or a list of 1 to {MAX_SEEDS} integers >= 0"
            )
        if len(set(map(repr, value))) < len(value):
            raise ValueError("must not repeat a seed")
        return tuple(value)


# fields that are not top-level keys of a YAML
_NO_KEYS = ("source", "base", "backbone_defaults")
STUDY_KEYS = tuple(key for key in StudyConfig.model_fields if key not in _NO_KEYS)
TRIAL_KEYS = tuple(TrialConfig.model_fields)
