"""Which dataset is suggested for a name that is none."""

import pytest

from ship.datasets import DATASETS, nearest_dataset
from ship.datasets.spelling import _ALSO

MEANT = {
    "oxford_flowers": "flowers102", "oxford-flowers-102": "flowers102", "flowers": "flowers102",
    "oxford_pet": "oxford_pets", "oxford-iiit-pets": "oxford_pets", "cars": "stanford_cars",
    "food-101": "food101", "fgvc-aircraft": "fgvc_aircraft", "FGVCAircraft": "fgvc_aircraft",
    "describable_textures": "dtd", "ucf-101": "ucf101", "sun_397": "sun397", "SUN": "sun397",
    "imagenet-1k": "imagenet", "ImageNet1K": "imagenet", "caltech-101": "caltech101",
    "EuroSAT": "eurosat", "imagenet-sketch": "imagenet_sketch", "imagenet-v2": "imagenetv2",
    "imagenet-adversarial": "imagenet_a", "imagenet-rendition": "imagenet_r", "AWA2": "awa2",
    "CUB_200_2011": "cub", "emojis": "emoji", "photo": "photos", "cubs": "cub",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "meant"),
    [*MEANT.items(), *((name, None) for name in ("", "-", "mnist", "places365"))],
)
def test_names_from_elsewhere(name: str, meant: str | None) -> None:
    """Names of papers, folders and torchvision lead to ours, however hyphenated; others to none."""
    assert nearest_dataset(name) == meant


def test_every_name_means_itself() -> None:
    """A dataset's own name is never somebody else's spelling, and the table names datasets."""
    assert {name: nearest_dataset(name) for name in DATASETS} == {name: name for name in DATASETS}
    assert set(_ALSO) <= set(DATASETS)
