"""Trials whose dataset lists the training images of each seed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ship.clip import FrozenCLIP
from ship.subsets import FeatureSet, draw_few_shot_indices
from ship.trial.run import run_trial
from tests.ship.conftest import build_features
from tests.ship.trial.cases import make_config


def add_lists(features: FeatureSet, seeds: list[int], offset: int = 0) -> FeatureSet:
    """Return the features with a list of training images for each seed.

    A list has the images that the seed plus `offset` would draw without lists.
    """
    classes = np.arange(len(features.class_names))
    lists = {
        seed: draw_few_shot_indices(features.train_labels, 2, seed + offset, classes)
        for seed in seeds
    }
    return replace(features, few_shot=lists)


def run_with_real_images(
    clip: FrozenCLIP, features: FeatureSet, seeds: list[int]
) -> dict[str, list[float]]:
    """Return the test metrics of each seed.

    The generator `real` is used because it also reads the lists of the new classes.
    """
    config = make_config(generator="real")
    *_, last = run_trial(config, seeds, features, clip, dtype=torch.float64)
    return {name: [float(value or 0) for value in values] for name, values in last.per_seed.items()}


def test_lists_of_the_drawn_images_give_the_results_of_the_draw(clip64: FrozenCLIP) -> None:
    """The results are bitwise equal, and other lists give other results."""
    features = build_features(clip64)
    expected = run_with_real_images(clip64, features, [0, 1])
    assert run_with_real_images(clip64, add_lists(features, [0, 1]), [0, 1]) == expected
    assert run_with_real_images(clip64, add_lists(features, [0, 1], offset=5), [0, 1]) != expected


def test_a_seed_with_a_list_does_not_depend_on_the_trials_other_seeds(clip64: FrozenCLIP) -> None:
    """All listed seeds determine the length of an epoch, including those of other trials."""
    features = add_lists(build_features(clip64), [0, 1, 2])
    uneven = {**features.few_shot, 1: features.few_shot[1][:-1]}
    features = replace(features, few_shot=uneven)
    both = run_with_real_images(clip64, features, [0, 1])
    solo = run_with_real_images(clip64, features, [1])
    assert both.keys() == solo.keys()
    for name, (value,) in solo.items():
        assert both[name][1] == pytest.approx(value, abs=1e-9), name


def test_a_seed_without_a_list_is_refused(clip64: FrozenCLIP) -> None:
    """The trial refuses it, in addition to the check of the YAML."""
    features = add_lists(build_features(clip64), [0, 1])
    with pytest.raises(ValueError, match="few-shot images of every seed"):
        run_trial(make_config(), [0, 2], features, clip64, dtype=torch.float64)
