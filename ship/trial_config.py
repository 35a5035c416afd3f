"""What one trial is, the settings that decide its numbers, and what it reports while it runs.

Without torch: a driver reads it that never trains.
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
from ship.templates import OWN, sound_template, spelled_out

# Raised by hand whenever a change of the method changes the numbers that a setting gives:
# results of another version are never pooled with new ones.
RESULTS_VERSION = 10

ProtocolName = Literal[
    "base_to_new", "few_shot", "cross_dataset", "generalized_zero_shot", "single_unseen"
]

_Halves = Literal["harmonic_mean", "base", "new", "joint_harmonic_mean", "joint_base", "joint_new"]
_OneSoftmax = Literal[
    "harmonic_mean",
    "seen",
    "unseen",
    "calibrated_harmonic_mean",
    "calibrated_seen",
    "calibrated_unseen",
    "ausuc",
]
Objective = Literal[_Halves, "accuracy", _OneSoftmax]

# What may be maximised: the metrics of the selection pictures; the first one is the default.
OBJECTIVES: Final[dict[ProtocolName, tuple[Objective, ...]]] = {
    "base_to_new": get_args(_Halves),
    "few_shot": ("accuracy",),
    "cross_dataset": get_args(_Halves),
    "generalized_zero_shot": get_args(_OneSoftmax),
    "single_unseen": get_args(_OneSoftmax),
}
# The same where selection sees pictures of seen classes alone (base_val, few_val).
SEEN_OBJECTIVES: Final[dict[ProtocolName, Objective]] = {
    "base_to_new": "base",
    "few_shot": "accuracy",
    "cross_dataset": "base",
    "generalized_zero_shot": "seen",
    "single_unseen": "seen",
}

Selection = Literal["pseudo_new", "base_val", "few_val", "none", "test", "reference"]
SEEN_SELECTIONS: Final[frozenset[Selection]] = frozenset({"base_val", "few_val"})
"""Selections that look at pictures of seen classes alone."""
LEAKING_SELECTIONS: Final[frozenset[Selection]] = frozenset({"test", "reference"})
"""Selections that look at the test pictures."""


_LEARN_ALL_WORDS: Final = ("coop", "cocoop", "coop_dept")
"""Fine-tuners that look at no written prompt: others begin with one, or stay near it."""


class SyntheticConfig(Settings):
    """How synthetic features join a fine-tuner's training set."""

    ratio: float = Field(1.0, gt=0, le=16)
    """synthetic features beside each real one in a step (fine-tuners without cache)"""
    per_class: int | None = Field(None, ge=1)
    """features a class in a cache or fixed set; null: a seen class's mean of pictures"""
    draw: Literal["fresh", "fixed"] = "fresh"
    """fresh: new noise each step; fixed: one set for all"""
    weight: float = Field(1.0, gt=0)
    """weight of a synthetic feature's loss, where a real feature has 1 (gda: of the feature;
    lp_plus_plus: of both)"""
    real_share: float = Field(0.0, ge=0, le=1)
    """part of each class's synthetic features that real training pictures replace"""


class TrialConfig(Settings):
    """One parameter assignment: everything that, with a seed, decides a row of the ledger."""

    backbone: str = "pocket"
    """pocket, or an open_clip NAME:PRETRAINED"""
    precision: Precision = "fp32"
    """of the frozen text tower; tf32: fp32 with the fast products of an NVIDIA GPU"""
    image_precision: ImagePrecision = "fp32"
    """of the image tower's products"""
    dataset: str = "emoji"
    """a dataset's name, or image_folder:NAME"""
    targets: tuple[str, ...] = ()
    """cross_dataset: the datasets that are tested"""
    max_classes: int | None = Field(None, ge=4)
    """at most the dataset's first N classes; null: all"""
    protocol: ProtocolName = "base_to_new"
    """which classes are seen, and how predictions are counted"""
    unseen_class: str | None = None
    """single_unseen: the class without pictures; null: the last one"""
    shots: int | None = Field(16, ge=1)
    """training pictures a seen class, at most; null: all"""
    views: int = Field(2, ge=0, le=64)
    """augmented views of each training picture"""
    selection: Selection = "pseudo_new"
    """which pictures choose the epoch"""
    objective: Objective | None = None
    """what chooses epoch, alpha and beta, and what sampler and scheduler maximise; null: the first
    that protocol and selection have"""
    pseudo_new_fraction: float = Field(0.5, gt=0, lt=1)
    """part of the base classes held out as pseudo-new"""
    eval_every: int = Field(1, ge=1)
    """epochs between looks at the selection pictures; epoch 0 and the last are always looked at"""
    quality: bool = True
    """judge synthetic features by real ones"""
    templates: tuple[Annotated[str, AfterValidator(sound_template)], ...] = (OWN,)
    """sentences with one {} for a class name, averaged; dataset: its own; ensemble: seven by CLIP's
    authors; authors: the fine-tuner's own"""
    generator: GeneratorConfig = Field(default_factory=PromptVAEConfig)
    """where synthetic features come from"""
    finetuner: FinetunerConfig = Field(default_factory=CoOpConfig)
    """what adapts CLIP to the task"""
    synthetic: SyntheticConfig = Field(default_factory=SyntheticConfig)
    """how synthetic features are used"""

    @property
    def shows_unseen(self) -> tuple[str, str] | None:
        """The key that shows real training pictures of the unseen classes, and what it is then."""
        if self.generator.name == "real":
            return "generator", "real"
        return ("synthetic.real_share", "above 0") if self.synthetic.real_share else None

    @property
    def selection_metric(self) -> str:
        """What selection maximises: the objective, else the protocol's own; "" where it is none.

        Which objectives a selection can measure, ship.requirements tells.
        """
        if self.selection == "none":
            return ""
        blind = self.selection in SEEN_SELECTIONS
        own = SEEN_OBJECTIVES[self.protocol] if blind else OBJECTIVES[self.protocol][0]
        return self.objective or own

    def unread_reason(self, key: str) -> str | None:
        """Why another value of a setting would give the same accuracy; None: it may give another.

        Args:
            key: dotted name of the setting, such as "synthetic.ratio".
        """
        for part in (self.generator, self.finetuner):
            if reason := part.unread_reason(key):
                return reason
        generator, finetuner = self.generator.name, self.finetuner.name
        learned = finetuner in _LEARN_ALL_WORDS and generator in ("none", "vae")
        if key == "templates" and learned:
            return f"finetuner {finetuner} reads no written prompts, nor does generator {generator}"
        if key == "synthetic.real_share" and self.generator.name == "real":
            return "generator real has nothing but real pictures"
        if key == "quality":
            return "it is whether synthetic features are judged, and moves no accuracy"
        if key == "eval_every" and self.selection in ("none", "reference"):
            return f"selection {self.selection} looks at no epoch but the last"
        if key == "pseudo_new_fraction" and self.selection != "pseudo_new":
            return f"selection {self.selection} holds out no classes"
        fresh = key == "synthetic.per_class" and self.synthetic.draw == "fresh"
        if fresh and not self.finetuner.unread_reason("synthetic.draw"):
            return f"finetuner {self.finetuner.name} draws fresh features (synthetic.draw: fresh)"
        return None

    def templates_for(self, dataset: str, own: str = OWN) -> tuple[str, ...]:
        """The templates of one of the trial's datasets, each once.

        Args:
            dataset: its name.
            own: the template that it brings with it.
        """
        found = spelled_out(self.templates, self.finetuner.name, dataset)
        return tuple(dict.fromkeys(own if template == OWN else template for template in found))

    @field_validator("targets", "templates", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """A YAML list; one name stands for a list of it."""
        if isinstance(value, str):
            return (value,)
        return tuple(value) if isinstance(value, list) else value

    @field_validator("targets", "templates")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("must be distinct")
        return value

    @field_validator("templates")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("must have at least one sentence or name")
        return value

    @field_validator("generator", "finetuner", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        """Let `finetuner: coop` stand for `finetuner: {name: coop}` with its defaults."""
        return {"name": value} if isinstance(value, str) else value


Stage = Literal[
    "selection_generator", "selection_quality", "selection", "final_generator", "final", "test"
]


@dataclass(frozen=True)
class Hits:
    """The right answers on the n test pictures of one exam.

    exam: "" or, where a protocol has several exams, the metric that it gives.
    class_ids: of each picture. class_names: of each id.
    seen: whether the tested model was trained on real pictures of each class.
    right: kind of answer -> a replica's n bits in bytes, the first picture in the highest bit of
        the first byte (numpy's packbits), for each replica.
    """

    exam: str
    class_ids: tuple[int, ...]
    class_names: tuple[str, ...]
    seen: tuple[bool, ...]
    right: dict[str, tuple[bytes, ...]]


class NonFiniteLoss(ValueError):
    """A loss, a logit or a synthetic feature became NaN or infinite: replicas have no result.

    Attributes:
        failed: Place of each such replica in the trial -> what was not finite, and where.
    """

    def __init__(self, failed: Mapping[int, str]) -> None:
        super().__init__(joined_reasons(failed, "replicas"))
        self.failed = dict(failed)

    def __reduce__(self) -> tuple[type["NonFiniteLoss"], tuple[dict[int, str]]]:
        return type(self), (self.failed,)


def joined_reasons(failed: Mapping[int, str], numbered: str = "seeds") -> str:
    """Return each reason once, with the numbers that it applies to.

    Args:
        failed: Number, e.g. of a seed -> its reason.
        numbered: Name of the numbers.
    """
    by_reason: dict[str, list[str]] = {}
    for number, reason in failed.items():
        by_reason.setdefault(reason, []).append(str(number))
    parts = [f"{reason} ({numbered} {', '.join(ids)})" for reason, ids in by_reason.items()]
    return "; ".join(parts)


@dataclass(frozen=True)
class EpochMetrics:
    """The metrics of one epoch, for every replica (seed) of the trial side by side.

    stage: "selection_generator" and "selection" (fine-tuner) train on what selection may see
        (selection none has neither);
        "selection_quality" comes once between them, where features are synthesized;
        "final_generator" and "final" retrain on all base classes (pseudo_new and none; once a
        target in cross_dataset); "test" comes once, last.
    epoch: 1-based within its stage (0: before any training).
    progress: fraction of the trial's planned work that is done, 0 to 1.
    per_replica: metric name -> one value a replica, in the trial's order; None for those that have
        failed. A loss wherever something is trained. In stage "selection", at evaluated epochs, of
        which 0 (the untrained fine-tuner) is the first: the protocol's OBJECTIVES (base_val,
        few_val: SEEN_OBJECTIVES alone). In stage "test": the test metrics, each selection value at
        the chosen epoch as selection_NAME, selection_epoch, quality/NAME of the features
        synthesized for the tested classes, and flag/NAME (0 or 1).

    hits: of stage "test": the right answers on the pictures of each exam (not under selection
        "reference"); no bytes for replicas that have failed.
    failed: place of each replica that has failed so far -> what was not finite, at which stage and
        epoch. It stays in the list to the end of the trial.

    Raises:
        NonFiniteLoss: a value of a replica that has not failed is NaN or infinite.
    """

    stage: Stage
    epoch: int
    progress: float
    per_replica: dict[str, tuple[float | None, ...]] = field(default_factory=dict)
    hits: tuple[Hits, ...] = ()
    failed: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, values in self.per_replica.items():
            reason = f"{name} is not finite at stage {self.stage}, epoch {self.epoch}"
            bad = [
                place for place, value in enumerate(values) if not self._is_allowed(place, value)
            ]
            if bad:
                raise NonFiniteLoss(dict.fromkeys(bad, reason))

    def living(self, name: str) -> list[float]:
        """Return a metric's values of the replicas that have not failed."""
        return [value for value in self.per_replica[name] if value is not None]

    def _is_allowed(self, place: int, value: float | None) -> bool:
        if place in self.failed or value is None:
            return place in self.failed and value is None
        return math.isfinite(value)
