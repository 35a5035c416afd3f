"""Which classes of a dataset a trial studies, and in which order."""

from dataclasses import replace
from difflib import get_close_matches

import numpy as np

from ship.subsets.feature_set import FeatureSet
from ship.trial_config import TrialConfig


def studied_classes(config: TrialConfig, features: FeatureSet) -> FeatureSet:
    """The dataset cut to max_classes; under single_unseen with the unseen class last.

    Raises:
        ValueError: `unseen_class` is no class of the dataset.
    """
    named = config.protocol == "single_unseen" and config.unseen_class is not None
    if named:
        features = _with_class_last(features, str(config.unseen_class))
    if config.max_classes is None:
        return features
    # with the named class officially unseen, it survives whatever the limit is
    return features.first_classes(min(config.max_classes, len(features.class_names)))


def _with_class_last(features: FeatureSet, name: str) -> FeatureSet:
    """The same dataset with one class numbered last, the others seen."""
    names = features.class_names
    if name not in names:
        near = ", ".join(get_close_matches(name, names, n=3)) or ", ".join(names[:3])
        raise ValueError(
            f"unseen_class must be a class of {features.dataset}, got {name!r} (nearest: {near})"
        )
    last = names.index(name)
    order = [c for c in range(len(names)) if c != last] + [last]
    place = np.argsort(order)
    return replace(
        features,
        class_names=tuple(names[c] for c in order),
        train_labels=place[features.train_labels],
        val_labels=place[features.val_labels],
        test_labels=place[features.test_labels],
        n_seen=len(names) - 1,
    )
