"""Trials whose seeds train on listed images."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ship.clip import FrozenCLIP
from ship.subsets import FeatureSet, draw_few_shot_indices
from ship.trial.run import run_trial
from tests.ship.conftest import build_features
from tests.ship.trial.cases import config


def lists(features: FeatureSet, seeds: list[int], draw: int = 0) -> FeatureSet:
    """Features with the lists that these seeds would draw, or those of seeds that are higher."""
    classes = np.arange(len(features.class_names))
    drawn = {s: draw_few_shot_indices(features.train_labels, 2, s + draw, classes) for s in seeds}
    return replace(features, few_shot=drawn)


def results_of(clip: FrozenCLIP, features: FeatureSet, seeds: list[int]) -> dict[str, list[float]]:
    """Test metrics of each seed, with real images of the new classes, which are listed, too."""
    setting = config(generator="real")
    *_, last = run_trial(setting, seeds, features, clip, dtype=torch.float64)
    return {name: [float(value or 0) for value in values] for name, values in last.per_seed.items()}


def test_lists_of_the_drawn_images_give_the_results_of_the_draw(clip64: FrozenCLIP) -> None:
    """Bit by bit; other lists give other results."""
    features = build_features(clip64)
    plain = results_of(clip64, features, [0, 1])
    assert results_of(clip64, lists(features, [0, 1]), [0, 1]) == plain
    assert results_of(clip64, lists(features, [0, 1], draw=5), [0, 1]) != plain


def test_a_seed_with_a_list_does_not_depend_on_the_trials_other_seeds(clip64: FrozenCLIP) -> None:
    """The length of an epoch is that of all listed seeds, whichever of them run together."""
    features = lists(build_features(clip64), [0, 1, 2])
    uneven = {**features.few_shot, 1: features.few_shot[1][:-1]}
    features = replace(features, few_shot=uneven)
    both, alone = results_of(clip64, features, [0, 1]), results_of(clip64, features, [1])
    assert both.keys() == alone.keys()
    for name, (value,) in alone.items():
        assert both[name][1] == pytest.approx(value, abs=1e-9), name


def test_a_seed_without_a_list_is_refused(clip64: FrozenCLIP) -> None:
    """By the trial, too, as when the YAML is read."""
    features = lists(build_features(clip64), [0, 1])
    with pytest.raises(ValueError, match="few-shot images of every seed"):
        run_trial(config(), [0, 2], features, clip64, dtype=torch.float64)
