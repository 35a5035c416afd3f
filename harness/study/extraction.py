"""Estimate for a dry run how long the extraction of missing features would take."""

import time
from collections.abc import Mapping
from typing import Any, Final

from harness.config import StudyConfig
from harness.messages import FeatureKey
from harness.planning import Fingerprints, Plan
from harness.resources import get_machine_resources, resolve_resources
from harness.study.features import collect_needs, list_studied_labels
from harness.wording import describe_error, format_duration

TIMED_VIEWS: Final = 32
"""Number of views to encode for a time measurement, after a warm-up with the same views.

A view is an image or one of its augmented copies.
"""


def format_extraction(study: StudyConfig, plan: Plan, fingerprints: Fingerprints) -> list[str]:
    """Return one line per feature set of which the cache lacks images: their number, and the time.

    If the time cannot be measured, the line gives the reason. [] if the cache lacks no images.

    Args:
        study: Study that the plan is for.
        plan: Unfinished plan of the study.
        fingerprints: Fingerprints of the study, which load its datasets and backbones.
    """
    method, lines = fingerprints.method, list[str]()
    on_gpus = bool(resolve_resources(study.resources, get_machine_resources()).gpus)
    clips: dict[str, Any] = {}
    for need, configs in collect_needs(study, plan).items():
        features = f"features of {need.dataset} through {need.backbone}"
        images = fingerprints.load_dataset(need.dataset)
        try:
            if need.backbone not in clips:
                clips[need.backbone] = method.load_backbone(need.backbone, "cpu")
            clip = clips[need.backbone]
            clip.image_precision = need.image_precision
            clip.image_device = method.accelerator if on_gpus else "cpu"
            classes = list_studied_labels(configs, images)
            missing = _count_missing(clip, need, images, classes, fingerprints)
            if missing:
                time_text = _estimate_time(clip, need, images, missing, on_gpus=on_gpus)
                n_images = f"{sum(missing.values()):,} images"
                lines.append(f"{features}: {n_images} to encode before the trials, {time_text}")
        except Exception as error:  # the plan can be shown without the time
            lines.append(f"{features}: extraction time unknown: {describe_error(error)}")
    return lines


def _count_missing(
    clip: Any, need: FeatureKey, images: Any, classes: list[int] | None, fingerprints: Fingerprints
) -> Mapping[str, int]:
    """Return the number of images whose features are not in the cache, by split.

    Args:
        clip: Backbone.
        need: Key of the feature set.
        images: Dataset with the images.
        classes: Labels of the classes to count. None for all classes.
        fingerprints: Fingerprints of the study, which have its cache folder.
    """
    from ship.features import count_missing

    cache = fingerprints.cache_dir
    return count_missing(clip, images, need.augmentations, cache, need.splits, classes)


def _estimate_time(
    clip: Any, need: FeatureKey, images: Any, missing: Mapping[str, int], *, on_gpus: bool
) -> str:
    """Encode a few images in this process, and return the estimated time of all missing ones.

    Args:
        clip: Backbone.
        need: Key of the feature set.
        images: Dataset with the images.
        missing: Number of missing images by split.
        on_gpus: Whether the run would extract on GPUs. The time is then not measured.

    Returns:
        The time as text, or text that says why it was not measured.
    """
    from ship.features import encode_split

    if on_gpus:
        return "time unknown (not measured on GPUs)"
    seconds = 0.0
    for split, count in missing.items():
        n = need.augmentations if split == "train" else 0
        n_images = min(len(images.splits[split]), max(1, TIMED_VIEWS // (1 + n)))
        for _ in range(2):  # the first pass is the warm-up
            begin = time.perf_counter()
            for _ in encode_split(clip, images, split, n, [range(n_images)], lambda _: None):
                pass
            elapsed = time.perf_counter() - begin
        seconds += elapsed / n_images * count
    return f"about {format_duration(seconds)} on this machine (estimated from a few images)"
