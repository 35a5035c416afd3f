"""The names under which the harness writes a study to MLflow, as the reports read them."""

from typing import Final

METRICS: Final = ("base", "new", "harmonic_mean", "joint_base", "joint_new", "joint_harmonic_mean")
# A finished row without one of these is no result (the joint ones may be absent).
REQUIRED: Final = ("base", "new", "harmonic_mean")
HEADINGS: Final = {
    "base": "Base",
    "new": "New",
    "harmonic_mean": "H",
    "joint_base": "joint Base",
    "joint_new": "joint New",
    "joint_harmonic_mean": "joint H",
}

# Reference arms in the order of the tables: label, and what a footnote says of it.
ARMS: Final = {
    "zero_shot": ("zero-shot", "the backbone's text features, nothing trained"),
    "no_synthetic": ("fine-tuner alone", "no synthetic features"),
    "text_feature": ("text feature", "each class's text feature as its synthetic feature"),
    "real_pictures": (
        "real pictures (ceiling)",
        "real training pictures of the new classes as the synthetic ones: not a method",
    ),
}

COMPLETE: Final = "COMPLETE"
PRUNED: Final = "PRUNED"
FAIL: Final = "FAIL"
MISSING: Final = "MISSING"  # wanted by the study, no run yet; never written to MLflow

TAG_KIND: Final = "ship.kind"
TAG_STATE: Final = "ship.state"
TAG_REASON: Final = "ship.reason"
TAG_KEY: Final = "ship.setting_key"
TAG_ARM: Final = "ship.arm"
TAG_SEEDS: Final = "ship.seeds"
TAG_ASSIGNMENT: Final = "ship.assignment"
TAG_SELECTION: Final = "ship.selection"
TAG_DEMONSTRATION: Final = "ship.demonstration"
TAG_FACTORS: Final = "ship.factors"
TAG_OBJECTIVE: Final = "ship.objective"
TAG_SAMPLER: Final = "ship.sampler"
TAG_STUDY: Final = "ship.study"
TAG_WANTED: Final = "ship.wanted"


class ReportError(ValueError):
    """One line about why no report can be made."""


class EmptyStudyError(ReportError):
    """The study exists and none of its runs has ended."""
