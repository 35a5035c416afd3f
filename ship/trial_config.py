"""Configuration of a trial, and the metrics it reports while it runs.

Imports no torch, so that drivers start quickly.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, Field, field_validator

from ship.architectures import ImagePrecision, Precision
from ship.configs import FinetunerConfig, GeneratorConfig
from ship.configs.finetuners import CoOpConfig
from ship.configs.generators import PromptVAEConfig
from ship.settings import Settings
from ship.templates import DATASET_TEMPLATE, expand_templates, validate_template

# Incremented by hand whenever a code change alters the results of a configuration. Results of
# different versions are never pooled.
RESULTS_VERSION = 12

ProtocolName = Literal[
    "base_to_new", "few_shot", "cross_dataset", "generalized_zero_shot", "single_unseen"
]

_GroupMetric = Literal[
    "harmonic_mean", "base", "new", "joint_harmonic_mean", "joint_base", "joint_new"
]
_GeneralizedMetric = Literal[
    "harmonic_mean",
    "seen",
    "unseen",
    "calibrated_harmonic_mean",
    "calibrated_seen",
    "calibrated_unseen",
    "ausuc",
]
Objective = Literal[_GroupMetric, "accuracy", _GeneralizedMetric]

# Metrics on the selection images that selection may maximize. The first one is the default.
OBJECTIVES: Final[dict[ProtocolName, tuple[Objective, ...]]] = {
    "base_to_new": get_args(_GroupMetric),
    "few_shot": ("accuracy",),
    "cross_dataset": get_args(_GroupMetric),
    "generalized_zero_shot": get_args(_GeneralizedMetric),
    "single_unseen": get_args(_GeneralizedMetric),
}
# The only objective that can be measured without unseen classes (selections base_val, few_val).
SEEN_OBJECTIVES: Final[dict[ProtocolName, Objective]] = {
    "base_to_new": "base",
    "few_shot": "accuracy",
    "cross_dataset": "base",
    "generalized_zero_shot": "seen",
    "single_unseen": "seen",
}

Selection = Literal["pseudo_new", "base_val", "few_val", "none", "test", "authors"]
SEEN_SELECTIONS: Final[frozenset[Selection]] = frozenset({"base_val", "few_val"})
"""Selections that use images of seen classes only."""
LEAKING_SELECTIONS: Final[frozenset[Selection]] = frozenset({"test", "authors"})
"""Selections that use the test images."""


_WITHOUT_TEMPLATES: Final = ("coop", "cocoop", "coop_dept")
"""Fine-tuners that use no templates. All others initialize or train with them."""


class SyntheticConfig(Settings):
    """Use of synthetic features in the training of a fine-tuner."""

    ratio: float = Field(1.0, gt=0, le=16)
    """synthetic features per real feature in a step, for fine-tuners that add them in each step"""
    per_class: int | None = Field(None, ge=1)
    """synthetic features per class, if they are drawn once; null: mean number of images per seen
    class"""
    resample: bool = True
    """true: draw new synthetic features in each step; false: draw one set for all steps"""
    loss_weight: float = Field(1.0, gt=0)
    """loss weight of a synthetic feature; that of a real one is 1 (gda: weight in means and
    covariance; lp_plus_plus: also in initialization and learning rates)"""
    real_share: float = Field(0.0, ge=0, le=1)
    """fraction of each class's synthetic features replaced by real training images"""


class TrialConfig(Settings):
    """Configuration of a trial. Together with a seed it determines a result."""

    backbone: str = "pocket"
    """pocket, an open_clip NAME:PRETRAINED, or hf-hub:ORG/MODEL"""
    precision: Precision = "fp32"
    """precision of the frozen text tower; tf32: fp32 with TF32 matrix multiplications on NVIDIA
    GPUs"""
    image_precision: ImagePrecision = "fp32"
    """precision of the image tower's matrix multiplications"""
    dataset: str = "emoji"
    """name of a dataset, or image_folder:NAME"""
    targets: tuple[str, ...] = ()
    """datasets to test on under protocol cross_dataset"""
    max_classes: int | None = Field(None, ge=4)
    """use only the dataset's first classes, at most this many; null: all"""
    protocol: ProtocolName = "base_to_new"
    """which classes are seen, and how accuracy is computed"""
    unseen_class: str | None = None
    """the class without training images under protocol single_unseen; null: the last one"""
    shots: int | None = Field(16, ge=1)
    """maximum number of training images per seen class; null: all"""
    augmentations: int = Field(2, ge=0, le=64)
    """augmented views per training image"""
    selection: Selection = "pseudo_new"
    """images on which the best epoch is selected"""
    objective: Objective | None = None
    """metric by which the epoch and a fine-tuner's inference options (alpha, beta) are selected,
    and which sampler and scheduler maximize; null: the default of protocol and selection"""
    pseudo_new_fraction: float = Field(0.5, gt=0, lt=1)
    """fraction of the seen classes that selection pseudo_new holds out"""
    eval_every: int = Field(1, ge=1)
    """epochs between evaluations on the selection images; epoch 0 and the last are always
    evaluated"""
    quality: bool = True
    """measure the quality of synthetic features against real images"""
    templates: tuple[Annotated[str, AfterValidator(validate_template)], ...] = (DATASET_TEMPLATE,)
    """prompt sentences, each with one {} for the class name; their text features are averaged. An
    entry can also be a name: dataset (the dataset's sentence), ensemble (seven sentences by CLIP's
    authors), authors (the sentences in the code of the fine-tuner's authors)"""
    metrics: tuple[str, ...] = ()
    """metric plugins to report; they cannot be objectives"""
    generator: GeneratorConfig = Field(default_factory=PromptVAEConfig)
    """source of synthetic features"""
    finetuner: FinetunerConfig = Field(default_factory=CoOpConfig)
    """method that adapts CLIP to the task"""
    synthetic: SyntheticConfig = Field(default_factory=SyntheticConfig)
    """use of synthetic features"""

    @property
    def unseen_images_setting(self) -> tuple[str, str] | None:
        """Key and value that make the trial use real training images of unseen classes.

        None if it uses none.
        """
        if self.generator.name == "real":
            return "generator", "real"
        return ("synthetic.real_share", "above 0") if self.synthetic.real_share else None

    @property
    def selection_metric(self) -> str:
        """Metric that selection maximizes, "" if selection is none.

        It is the objective if one is set, otherwise the default of protocol and selection. Whether
        the selection can measure the objective is checked in ship.protocol_rules.
        """
        if self.selection == "none":
            return ""
        if self.objective is not None:
            return self.objective
        seen_only = self.selection in SEEN_SELECTIONS
        return SEEN_OBJECTIVES[self.protocol] if seen_only else OBJECTIVES[self.protocol][0]

    def explain_unused(self, key: str) -> str | None:
        """Return the reason why the value of a key cannot change the accuracy.

        Args:
            key: Dotted name of the key, e.g. "synthetic.ratio".

        Returns:
            The reason, or None if another value may change the accuracy.
        """
        for settings in (self.generator, self.finetuner):
            if reason := settings.explain_unused(key):
                return reason
        generator, finetuner = self.generator.name, self.finetuner.name
        uses_no_templates = finetuner in _WITHOUT_TEMPLATES and generator in ("none", "vae")
        if key == "templates" and uses_no_templates:
            return (
                f"neither finetuner {finetuner} nor generator {generator} uses hand-written prompts"
            )
        if key == "synthetic.real_share" and self.generator.name == "real":
            return "generator real returns only real images"
        if key == "metrics":
            return "it only adds metrics"
        if key == "quality":
            return "it only turns the measurement of feature quality on or off"
        if key == "eval_every" and self.selection == "none":
            return "selection none evaluates no epoch"
        if key == "eval_every" and self.selection == "authors":
            return "selection authors evaluates each fine-tuner only at its last epoch"
        if key == "pseudo_new_fraction" and self.selection != "pseudo_new":
            return f"selection {self.selection} holds out no classes"
        uses_resample = not self.finetuner.explain_unused("synthetic.resample")
        if key == "synthetic.per_class" and uses_resample and self.synthetic.resample:
            return f"finetuner {self.finetuner.name} resamples in each step (synthetic.resample)"
        return None

    def templates_for(
        self, dataset: str, dataset_template: str = DATASET_TEMPLATE
    ) -> tuple[str, ...]:
        """Return the distinct templates for one of the trial's datasets.

        Args:
            dataset: Name of the dataset.
            dataset_template: Template that replaces the entry DATASET_TEMPLATE. By default, the
                entry is kept.
        """
        templates = expand_templates(self.templates, self.finetuner.name, dataset)
        return tuple(
            dict.fromkeys(
                dataset_template if template == DATASET_TEMPLATE else template
                for template in templates
            )
        )

    @field_validator("targets", "templates", "metrics", mode="before")
    @classmethod
    def _to_tuple(cls, value: Any) -> Any:
        """Convert a YAML list to a tuple; a single name becomes a tuple of one."""
        if isinstance(value, str):
            return (value,)
        return tuple(value) if isinstance(value, list) else value

    @field_validator("targets", "templates", "metrics")
    @classmethod
    def _require_distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("must be distinct")
        return value

    @field_validator("templates")
    @classmethod
    def _require_entries(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("must have at least one sentence or name")
        return value

    @field_validator("generator", "finetuner", mode="before")
    @classmethod
    def _expand_name(cls, value: Any) -> Any:
        """Expand `finetuner: coop` to `finetuner: {name: coop}` with its defaults."""
        return {"name": value} if isinstance(value, str) else value


Stage = Literal[
    "selection_generator", "selection_quality", "selection", "final_generator", "final", "test"
]


@dataclass(frozen=True)
class CorrectPredictions:
    """The correct predictions on the n test images of one evaluation set.

    Attributes:
        eval_set: Metric that the evaluation set measures, or "" for protocols with a single
            evaluation set.
        class_ids: Class of each image, an index into class_names.
        class_names: Names of the task's classes.
        seen: For each class, whether the tested model was trained on real images of it.
        correct: Kind of prediction -> for each seed, n bits that are 1 for correct images, packed
            by numpy.packbits. Kinds are "all" (all classes compete) and "own" (only the classes of
            the image's group compete).
    """

    eval_set: str
    class_ids: tuple[int, ...]
    class_names: tuple[str, ...]
    seen: tuple[bool, ...]
    correct: dict[str, tuple[bytes, ...]]


class NonFiniteLoss(ValueError):
    """A loss, logit or synthetic feature is NaN or infinite. The failed seeds have no result.

    Attributes:
        failed: Index of each failed seed in the trial -> name, stage and epoch of the non-finite
            value.
    """

    def __init__(self, failed: Mapping[int, str]) -> None:
        super().__init__(join_reasons(failed, "seed indices"))
        self.failed = dict(failed)

    def __reduce__(self) -> tuple[type["NonFiniteLoss"], tuple[dict[int, str]]]:
        return type(self), (self.failed,)


def join_reasons(failed: Mapping[int, str], noun: str = "seeds") -> str:
    """Join reasons to one text, e.g. "loss is not finite (seeds 0, 2); logits are NaN (seeds 1)".

    Args:
        failed: Seed, or index of a seed -> reason of the seed's failure.
        noun: Noun for the keys in the text, e.g. "seeds".
    """
    by_reason: dict[str, list[str]] = {}
    for number, reason in failed.items():
        by_reason.setdefault(reason, []).append(str(number))
    parts = [f"{reason} ({noun} {', '.join(ids)})" for reason, ids in by_reason.items()]
    return "; ".join(parts)


@dataclass(frozen=True)
class EpochMetrics:
    """The metrics of one epoch for every seed of the trial.

    The stages are, in this order:

    - "selection_generator": the generator is trained for selection.
    - "selection_quality": the quality of its features is measured, once. Omitted without synthetic
      features, with `quality: false`, and with selection authors.
    - "selection": the fine-tuner is trained, and evaluated on the selection images.
    - "final_generator" and "final": generator and fine-tuner of the tested model are trained on all
      seen classes. Only with selections pseudo_new and none, and for each target of cross_dataset.
    - "test": the tested models are evaluated, once.

    Selection none has no selection stages.

    Attributes:
        stage: Stage of the trial.
        epoch: Epoch within the stage, from 1. 0 is before any training.
        progress: Completed fraction of the trial's planned work, 0 to 1.
        per_seed: Metric name -> one value per seed, in the trial's order; None for failed seeds.
            The metrics are:

            - in stages that train: loss, and other training metrics of the method.
            - in "selection" at evaluated epochs, which include epoch 0 (untrained): the protocol's
              OBJECTIVES; with base_val and few_val only the one in SEEN_OBJECTIVES.
            - in "selection_quality": quality/NAME and flag/NAME (0 or 1).
            - in "test": the test metrics, selection_epoch, selection_NAME (each selection metric at
              the selected epoch), and quality/NAME and flag/NAME for the tested classes.
        correct_predictions: Correct predictions on each evaluation set in stage "test". Empty in
            other stages and with selection "authors". Failed seeds have empty bytes.
        failed: Index of each seed that failed at this or an earlier epoch -> name, stage and epoch
            of the non-finite value.

    Raises:
        ValueError: A failed seed has a value, or another seed has None.
        NonFiniteLoss: A value is NaN or infinite.
    """

    stage: Stage
    epoch: int
    progress: float
    per_seed: dict[str, tuple[float | None, ...]] = field(default_factory=dict)
    correct_predictions: tuple[CorrectPredictions, ...] = ()
    failed: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        when = f"at stage {self.stage}, epoch {self.epoch}"
        for name, values in self.per_seed.items():
            if any((value is None) != (i in self.failed) for i, value in enumerate(values)):
                raise ValueError(
                    f"{name} {when}: must be None for the failed seeds (indices "
                    f"{sorted(self.failed)}) and a number for all others, got {list(values)}"
                )
            non_finite = [
                i
                for i, value in enumerate(values)
                if value is not None and not math.isfinite(value)
            ]
            if non_finite:
                raise NonFiniteLoss(dict.fromkeys(non_finite, f"{name} is not finite {when}"))

    def active_values(self, name: str) -> list[float]:
        """Return a metric's values for the seeds that have not failed."""
        return [value for value in self.per_seed[name] if value is not None]
