"""Define the metrics of each evaluation protocol, and how tables show them."""

from dataclasses import dataclass, field, replace
from typing import Final


@dataclass(frozen=True)
class ProtocolMetrics:
    """Test metrics of a protocol, and how tables show them.

    Attributes:
        headings: Metric -> column heading, in the order of the columns.
        required: Metrics that a finished run must have.
        shown: Metrics that reports show by default. CSV files have all.
        default: Metric that differences, p-values and figures are about.
        note: Text below a table that explains the headings.
        unseen: The protocol's word for the classes without images. "" if there are none.
        halves: Harmonic mean -> the two metrics that it combines. For several datasets, it is
            computed from the averages of the two over the datasets.
        drop: Metric -> rank. On a narrow terminal, the columns with the lowest ranks are dropped
            first. Metrics without a rank, and the metric of the table, are never dropped.
        meanings: Metric -> explanation below a table of that metric, if its heading needs one.
        key_quality: Most important quality measure of synthetic features under the protocol. "" if
            there is none.
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
    key_quality: str = ""


_ONE_SOFTMAX: Final = {
    "seen": "S",
    "unseen": "U",
    "harmonic_mean": "H",
    "calibrated_seen": "cal. S",
    "calibrated_unseen": "cal. U",
    "calibrated_harmonic_mean": "cal. H",
    "ausuc": "AUSUC",
}
_BASE_SCORE: Final = (
    "base score: the largest probability of a base class, in one softmax over all classes"
)
_ECE: Final = (
    "ECE (arXiv:1706.04599): expected calibration error among the {} classes; lower is better"
)
_OPEN_WORLD: Final = {
    "auroc": "AUROC: share of pairs of a base and a new image in which the base image has the"
    f" higher base score; 50 is chance level. {_BASE_SCORE}",
    "openworld_auc": "OpenworldAUC (arXiv:2505.05180): share of pairs of a base and a new image in"
    " which the base image has the higher base score, and both images are classified correctly,"
    f" each among the classes of its kind (base or new). {_BASE_SCORE}",
    "ece_base": _ECE.format("base"),
    "ece_new": _ECE.format("new"),
}
_GENERALIZED: Final = ProtocolMetrics(
    headings=_ONE_SOFTMAX,
    required=("seen", "unseen", "harmonic_mean"),
    shown=("seen", "unseen", "harmonic_mean", "calibrated_harmonic_mean", "ausuc"),
    default="harmonic_mean",
    halves={
        "harmonic_mean": ("seen", "unseen"),
        "calibrated_harmonic_mean": ("calibrated_seen", "calibrated_unseen"),
    },
    # S and U are dropped first: they depend on the bias between seen and unseen classes.
    drop={"seen": 4, "unseen": 5, "calibrated_harmonic_mean": 6, "ausuc": 6},
    note="S, U: mean per-class accuracy of the seen and of the unseen classes, with one softmax"
    " over all classes. H = 2SU/(S+U), computed per seed and then averaged. cal.: with calibrated"
    " stacking (arXiv:1605.04253), whose constant is chosen on the images that select the epoch."
    " AUSUC: area under the seen-unseen curve",
    unseen="unseen",
)

PROTOCOLS: Final[dict[str, ProtocolMetrics]] = {
    "base_to_new": ProtocolMetrics(
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
        note="H = 2BN/(B+N), computed per seed and then averaged. joint: one softmax over base and"
        " new classes",
        meanings=_OPEN_WORLD,
        unseen="new",
    ),
    "few_shot": ProtocolMetrics(
        headings={"accuracy": "Acc."},
        required=("accuracy",),
        shown=("accuracy",),
        default="accuracy",
        note="Acc.: accuracy on the test images of all classes",
    ),
    # reports.study adds one column per target (accuracy/TARGET).
    "cross_dataset": ProtocolMetrics(
        headings={"accuracy": "Average", "source": "Source"},
        required=("accuracy",),
        shown=("accuracy", "source"),
        default="accuracy",
        drop={"source": 4},
        note="Average: mean accuracy over the target datasets, computed per seed. Source: accuracy"
        " on the test images of the training dataset. Features are synthesized for the class names"
        " of each target",
        unseen="target",
    ),
    "generalized_zero_shot": _GENERALIZED,
    "single_unseen": replace(_GENERALIZED, key_quality="recognized_by_images"),
}
DEFAULT_PROTOCOL: Final = "base_to_new"  # for runs that do not name their protocol

# Factors whose levels are never compared, because they are tested on different classes.
SEPARATE_FACTORS: Final = ("dataset", "targets", "unseen_class")
