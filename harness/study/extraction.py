"""Lines of a dry run about the features that a run would extract before its trials."""

import time
from collections.abc import Mapping
from typing import Any, Final

from harness.config import StudyConfig
from harness.messages import Need
from harness.planning import Fingerprints, Plan
from harness.resources import machine_resources, resolve_resources
from harness.study.features import collect_needs, list_studied_labels
from harness.wording import format_duration, one_line

TIMED_VIEWS: Final = 32
"""Views encoded to measure the time. As many are encoded before them as a warm-up."""


def format_extraction(study: StudyConfig, plan: Plan, fingerprints: Fingerprints) -> list[str]:
    """Return one line per feature set missing from the cache: its images and the time.

    Args:
        study: Study that the plan is for.
        plan: Unfinished plan of the study.
        fingerprints: Source of the datasets and the method.
    """
    method, lines = fingerprints.method, list[str]()
    on_gpus = bool(resolve_resources(study.resources, machine_resources()).gpus)
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
            missing = _missing(clip, need, images, classes, fingerprints)
            if missing:
                time_text = _time_text(clip, need, images, missing, on_gpus=on_gpus)
                images = f"{sum(missing.values()):,} images"
                lines.append(f"{features}: {images} to encode before the trials, {time_text}")
        except Exception as error:  # the plan can be shown without the time
            lines.append(f"{features}: extraction time unknown: {one_line(error)}")
    return lines


def _missing(
    clip: Any, need: Need, images: Any, classes: list[int] | None, fingerprints: Fingerprints
) -> Mapping[str, int]:
    """Count the images of a feature set that the cache does not have, by split."""
    from ship.features import count_missing

    cache = fingerprints.cache_dir
    return count_missing(clip, images, need.views, cache, need.splits, classes)


def _time_text(
    clip: Any, need: Need, images: Any, missing: Mapping[str, int], *, on_gpus: bool
) -> str:
    """Encode a few images, and return the extrapolated time of all missing images as text."""
    from ship.features import encode_split

    if on_gpus:
        return "time unknown (not measured on GPUs)"
    seconds = 0.0
    for split, count in missing.items():
        views = need.views if split == "train" else 0
        n_images = min(len(images.splits[split]), max(1, TIMED_VIEWS // (1 + views)))
        for _ in range(2):
            begin = time.perf_counter()
            for _ in encode_split(clip, images, split, views, [range(n_images)], lambda _: None):
                pass
            elapsed = time.perf_counter() - begin
        seconds += elapsed / n_images * count
    return f"about {format_duration(seconds)} on this machine (estimated from a few images)"
