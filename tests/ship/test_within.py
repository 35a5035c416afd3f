"""Protocols within one dataset: seen classes and metrics.

tests/harness/config has tables of rejected configurations.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ship.clip import FrozenCLIP
from ship.protocols import Protocol, build_protocol
from ship.subsets import FeatureSet, select_studied_classes
from ship.trial.run import run_trial
from ship.trial_config import OBJECTIVES, TrialConfig
from tests.ship.conftest import WORDS
from tests.ship.trial.cases import COOP


def plan(
    clip: FrozenCLIP, features: FeatureSet, seeds: Sequence[int] = (0, 1), **keys: Any
) -> Protocol:
    """Return the protocol of a configuration."""
    config = TrialConfig(**{"shots": 2, **keys})
    return build_protocol(config, seeds, features, {}, clip, torch.float32)


def last(clip: FrozenCLIP, features: FeatureSet, **keys: Any) -> dict[str, tuple[float, ...]]:
    """Return the test metrics of a trial without a trained generator."""
    keys = {"shots": 2, "generator": "gaussian_base", "finetuner": COOP, "eval_every": 2, **keys}
    return list(run_trial(TrialConfig(**keys), [0, 1], features, clip))[-1].per_seed


def test_few_shot_trains_on_every_class(clip: FrozenCLIP, features: FeatureSet) -> None:
    """All classes have training and validation images, and nothing is retrained."""
    actual = plan(clip, features, protocol="few_shot", selection="base_val")
    task = actual.selection.task
    assert bool(task.seen.all()) and task.counts == (16, 16) and actual.generator_task is None
    assert actual.selection.images.labels.unique().tolist() == list(range(8))
    assert torch.equal(task.synthetic_ids[0], torch.arange(8))
    assert set(last(clip, features, protocol="few_shot", selection="base_val")) >= {
        "accuracy", "selection_accuracy", "selection_epoch",
    }  # fmt: skip


def test_official_split_defines_the_seen_classes(clip: FrozenCLIP, features: FeatureSet) -> None:
    """The final task has only images of the seen classes."""
    for name in ("generalized_zero_shot", "base_to_new"):
        actual = plan(clip, replace(features, n_seen=3), protocol=name)
        final = actual.tested_models[0][0].task
        assert final.seen.sum(1).tolist() == [3, 3] and int(final.labels.max()) == 2
        assert actual.selection.task.class_names == WORDS[:3]


def test_generalized_zero_shot_uses_selections_constant(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """S, U, H, calibrated metrics and the area are reported."""
    actual = last(clip, features, protocol="generalized_zero_shot")
    assert set(OBJECTIVES["generalized_zero_shot"]) <= set(actual)
    assert actual["calibration"] == actual["selection_calibration"]
    for rule in ("base_val", "none"):  # a constant chosen on the test images would be a leak
        without = last(clip, features, protocol="generalized_zero_shot", selection=rule)
        assert ("selection_seen" in without) == (rule == "base_val") and "ausuc" in without
        assert not any(name.startswith("calibrat") for name in without)


def test_single_unseen_puts_the_class_last(clip: FrozenCLIP, features: FeatureSet) -> None:
    """All other classes are seen, and selection uses no image of the unseen one."""
    dog = {"protocol": "single_unseen", "unseen_class": "dog"}
    actual = plan(clip, select_studied_classes(TrialConfig(**dog), features), **dog)
    final = actual.tested_models[0][0].task
    assert final.class_names[-1] == "dog" and "dog" not in actual.selection.task.class_names
    assert final.seen.sum(1).tolist() == [7, 7] and not bool(final.seen[:, -1].any())
    dogs = torch.tensor(features.test[features.test_labels == WORDS.index("dog")])
    eval_set = actual.tested_models[0][0].images
    assert torch.equal(eval_set.features[eval_set.labels == 7], dogs)
    metrics = last(clip, features, protocol="single_unseen", unseen_class="dog")
    assert {"unseen", "quality/recognized_by_images", "quality/frechet"} <= set(metrics)


def test_max_classes_keeps_the_unseen_class(clip: FrozenCLIP, features: FeatureSet) -> None:
    """Without unseen_class it is the last class that is kept."""
    keys = {"protocol": "single_unseen", "max_classes": 4}
    with pytest.raises(ValueError, match=r"unseen_class must be .* got 'dogs' \(nearest: dog"):
        select_studied_classes(TrialConfig(unseen_class="dogs", **keys), features)
    named = select_studied_classes(TrialConfig(unseen_class="bee", **keys), features)
    assert named.class_names == ("cat", "fire truck", "balloon", "bee") and named.n_seen == 3
    plain = select_studied_classes(TrialConfig(**keys), features)
    assert plain.class_names == WORDS[:4]
    assert plan(clip, plain, **keys).tested_models[0][0].task.seen[0].tolist() == [True] * 3 + [
        False
    ]


def test_null_shots_uses_all_images(clip: FrozenCLIP, features: FeatureSet) -> None:
    """An epoch has as many steps as the images fill, not as the largest class."""
    first = np.unique(features.train_labels, return_index=True)[1]
    keep = features.train_labels >= 3
    keep[first] = True
    poor = replace(features, train=features.train[keep], train_labels=features.train_labels[keep])
    for shown, n in ((features, 24), (poor, 9)):
        task = plan(clip, shown, shots=None).tested_models[0][0].task
        assert task.rows_per_epoch == task.counts[0] == n
