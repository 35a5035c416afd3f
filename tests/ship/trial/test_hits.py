"""The right answers that a test reports, picture by picture."""

from typing import Any

import numpy as np
import pytest

from ship.clip import FrozenCLIP
from ship.subsets import FeatureSet
from ship.trial.run import run_trial
from ship.trial_config import EpochMetrics, Hits
from tests.ship.trial.cases import COOP, VAE, config

SEEDS = [0, 1, 2]


def bits(exam: Hits, kind: str) -> np.ndarray:
    """(seed, picture) whether the answer was right."""
    rows = [np.frombuffer(row, dtype=np.uint8) for row in exam.right[kind]]
    return np.stack([np.unpackbits(row, count=len(exam.class_ids)) for row in rows]).astype(bool)


def percent(exam: Hits, kind: str, *, seen: bool | None = None) -> list[float]:
    """Of each seed, the right answers among pictures of seen or unseen classes, or all."""
    of_class = np.array(exam.seen)[list(exam.class_ids)]
    counted = np.ones(len(of_class), bool) if seen is None else of_class == seen
    return [100 * float(row[counted].mean()) for row in bits(exam, kind)]


def last(changes: dict[str, Any], features: FeatureSet, clip: FrozenCLIP, **more: Any) -> Any:
    """The report of the test."""
    setting = config(generator=VAE, finetuner=COOP, **changes)
    made: list[EpochMetrics] = list(run_trial(setting, SEEDS, features, clip, **more))
    assert all(not item.hits for item in made[:-1])
    return made[-1]


GROUPS = {
    "base": ("own", True),
    "new": ("own", False),
    "joint_base": ("all", True),
    "joint_new": ("all", False),
}


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        *(({"selection": rule}, GROUPS) for rule in ("pseudo_new", "base_val", "none", "test")),
        ({"protocol": "few_shot", "selection": "base_val"}, {"accuracy": ("all", None)}),
    ],
    ids=str,
)
def test_every_accuracy_follows_from_them(
    clip: FrozenCLIP, features: FeatureSet, changes: dict[str, Any], kinds: dict[str, Any]
) -> None:
    """Those among own classes, and those with one softmax."""
    test = last(changes, features, clip)
    (exam,) = test.hits
    for name, (kind, seen) in kinds.items():
        assert percent(exam, kind, seen=seen) == pytest.approx(test.per_replica[name])
    assert [exam.class_names[i] for i in range(len(exam.seen))] == list(features.class_names)


def test_per_class_averages_follow_from_them(clip: FrozenCLIP, features: FeatureSet) -> None:
    """generalized_zero_shot averages over classes, each with its own number of pictures."""
    test = last({"protocol": "generalized_zero_shot"}, features, clip)
    (exam,) = test.hits
    ids, right = np.array(exam.class_ids), bits(exam, "all")
    for name, seen in (("seen", True), ("unseen", False)):
        classes = [c for c in np.unique(ids) if exam.seen[c] == seen]
        expected = [100 * np.mean([row[ids == c].mean() for c in classes]) for row in right]
        assert test.per_replica[name] == pytest.approx(expected)


def test_each_target_has_its_own(clip: FrozenCLIP, features: FeatureSet) -> None:
    """And so has the source, once for each target's model."""
    changes = {"protocol": "cross_dataset", "targets": ["here", "there"]}
    targets = {"here": features, "there": features}
    test = last(changes, features, clip, targets=targets)
    named = {exam.exam: exam for exam in test.hits}
    assert list(named) == ["accuracy/here", "source", "accuracy/there"]
    for name in ("accuracy/here", "accuracy/there"):
        assert percent(named[name], "all") == pytest.approx(test.per_replica[name])


def test_the_authors_rule_reports_none(clip: FrozenCLIP, features: FeatureSet) -> None:
    """Its best result is one of several that were looked at; nothing is tested again."""
    assert last({"selection": "reference"}, features, clip).hits == ()
