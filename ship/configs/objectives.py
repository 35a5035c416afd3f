"""The protocols, and which metric of each of them may be maximised."""

from typing import Final, Literal, get_args

ProtocolName = Literal[
    "base_to_new", "few_shot", "cross_dataset", "generalized_zero_shot", "single_unseen"
]

_Halves = Literal[
    "harmonic_mean",
    "base",
    "new",
    "joint_harmonic_mean",
    "joint_base",
    "joint_new",
]
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
_HALVES: Final[tuple[Objective, ...]] = get_args(_Halves)
_ONE_SOFTMAX: Final[tuple[Objective, ...]] = get_args(_OneSoftmax)

# What may be maximised: the metrics of the selection pictures; the first one is the default.
OBJECTIVES: Final[dict[ProtocolName, tuple[Objective, ...]]] = {
    "base_to_new": _HALVES,
    "few_shot": ("accuracy",),
    "cross_dataset": _HALVES,
    "generalized_zero_shot": _ONE_SOFTMAX,
    "single_unseen": _ONE_SOFTMAX,
}
# The same where selection sees pictures of seen classes alone (base_val, few_val).
SEEN_OBJECTIVES: Final[dict[ProtocolName, Objective]] = {
    "base_to_new": "base",
    "few_shot": "accuracy",
    "cross_dataset": "base",
    "generalized_zero_shot": "seen",
    "single_unseen": "seen",
}
