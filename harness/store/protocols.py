"""The protocols of a study: their metrics, and how tables show them."""

from dataclasses import dataclass, field, replace
from typing import Final


@dataclass(frozen=True)
class Protocol:
    """What a protocol measures on test, and how tables show it.

    headings: metric -> column heading, in the order of the columns.
    required: a finished row without one of these is no result.
    shown: the metrics that a page shows; CSV holds all.
    default: what differences, p-values and figures are of.
    halves: a harmonic mean -> the two that it is of, so that an average over datasets can be made
        of their averages.
    note: what the headings mean.
    unseen: what the protocol calls the classes without pictures ("": there are none).
    drop: when a terminal is too narrow, columns 1 go first; the default metric stays.
    meanings: metric -> what it is, said where a table is of it, if its heading does not say it.
    telling: the measure of synthesized features that the protocol asks for above all, if any.
    """

    headings: dict[str, str]
    required: tuple[str, ...]
    shown: tuple[str, ...]
    default: str
    note: str
    unseen: str = ""
    halves: dict[str, tuple[str, str]] = field(default_factory=dict)
    drop: dict[str, int] = field(default_factory=dict)
    meanings: dict[str, str] = field(default_factory=dict)
    telling: str = ""


_ONE_SOFTMAX: Final = {
    "seen": "S",
    "unseen": "U",
    "harmonic_mean": "H",
    "calibrated_seen": "cal. S",
    "calibrated_unseen": "cal. U",
    "calibrated_harmonic_mean": "cal. H",
    "ausuc": "AUSUC",
}
_LIKENESS: Final = "the largest probability of a base class, in one softmax over all classes"
_ECE: Final = (
    "ECE (arXiv:1706.04599): expected calibration error among the {} classes; less is better"
)
_IN_THE_OPEN: Final = {
    "auroc": f"AUROC: how well {_LIKENESS}, tells base pictures from new ones; 50: not at all",
    "openworld_auc": "OpenworldAUC (arXiv:2505.05180): of all pairs of a base and a new one, the"
    f" part that {_LIKENESS}, orders and whose two pictures are right among their own classes",
    "ece_base": _ECE.format("base"),
    "ece_new": _ECE.format("new"),
}
_GENERALIZED: Final = Protocol(
    headings=_ONE_SOFTMAX,
    required=("seen", "unseen", "harmonic_mean"),
    shown=("seen", "unseen", "harmonic_mean", "calibrated_harmonic_mean", "ausuc"),
    default="harmonic_mean",
    halves={
        "harmonic_mean": ("seen", "unseen"),
        "calibrated_harmonic_mean": ("calibrated_seen", "calibrated_unseen"),
    },
    # S and U depend on where the bias between the two kinds of classes stands; what does not stays.
    drop={"seen": 4, "unseen": 5, "calibrated_harmonic_mean": 6, "ausuc": 6},
    note="S, U: per-class-averaged; one softmax over seen and unseen classes. H = 2SU/(S+U) by"
    " seed, then averaged. cal.: calibrated stacking (arXiv:1605.04253), its constant chosen on the"
    " images that select epochs. AUSUC: area under the seen-unseen curve",
    unseen="unseen",
)

PROTOCOLS: Final[dict[str, Protocol]] = {
    "base_to_new": Protocol(
        headings={
            "base": "Base",
            "new": "New",
            "harmonic_mean": "H",
            "joint_base": "joint Base",
            "joint_new": "joint New",
            "joint_harmonic_mean": "joint H",
            "joint_accuracy": "joint Acc.",
            "auroc": "AUROC",
            "openworld_auc": "OpenworldAUC",
            "ece_base": "ECE Base",
            "ece_new": "ECE New",
        },
        required=("base", "new", "harmonic_mean"),
        shown=("base", "new", "harmonic_mean", "joint_harmonic_mean"),
        default="harmonic_mean",
        halves={
            "harmonic_mean": ("base", "new"),
            "joint_harmonic_mean": ("joint_base", "joint_new"),
        },
        drop={"joint_harmonic_mean": 4},
        note="H = 2BN/(B+N) by seed, then averaged; joint: one softmax over base and new classes",
        meanings=_IN_THE_OPEN,
        unseen="new",
    ),
    "few_shot": Protocol(
        headings={"accuracy": "Acc."},
        required=("accuracy",),
        shown=("accuracy",),
        default="accuracy",
        note="Acc.: test images of all classes",
    ),
    # One more column a target, accuracy/TARGET: see reports.study.
    "cross_dataset": Protocol(
        headings={"accuracy": "Average", "source": "Source"},
        required=("accuracy",),
        shown=("accuracy", "source"),
        default="accuracy",
        drop={"source": 4},
        note="Average: mean over the targets by seed; Source: test images of the training"
        " dataset. Synthesis used the target's class names",
        unseen="target",
    ),
    "generalized_zero_shot": _GENERALIZED,
    "single_unseen": replace(_GENERALIZED, telling="recognised_by_pictures"),
}
DEFAULT_PROTOCOL: Final = "base_to_new"  # of stores that name none

# Factors whose levels are measured on classes of their own: nothing is compared between them.
APART: Final = ("dataset", "targets", "unseen_class")
