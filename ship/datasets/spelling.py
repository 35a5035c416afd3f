"""What a dataset is called elsewhere, for the suggestion beside a name that is none."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

_ALSO: Final[Mapping[str, tuple[str, ...]]] = {
    "emoji": ("emojis",),
    "photos": ("photographs",),
    "caltech101": ("caltech",),
    "oxford_pets": ("pets", "oxford-iiit-pet", "OxfordIIITPet"),
    "stanford_cars": ("cars", "StanfordCars"),
    "flowers102": ("flowers", "oxford_flowers102", "OxfordFlowers"),
    "food101": ("food",),
    "sun397": ("sun",),
    "dtd": ("textures", "describable_textures", "DescribableTextures"),
    "ucf101": ("ucf", "UCF-101-midframes"),
    "fgvc_aircraft": ("aircraft", "fgvc-aircraft-2013b"),
    "imagenet": ("imagenet-1k", "ilsvrc2012", "ilsvrc"),
    "imagenetv2": ("imagenet-v2", "imagenetv2-matched-frequency"),
    "awa2": ("awa", "animals_with_attributes"),
    "cub": ("cub200", "CUB_200_2011", "birds"),
    "sun_attributes": ("sun_attribute", "SUNAttribute"),
}
"""Names in papers, in torchvision and of archives, beside the folders that the datasets name."""


def meant_dataset(name: str, datasets: Mapping[str, Any]) -> str | None:
    """The dataset that a name was probably meant to be, or None.

    Args:
        name: as somebody wrote it; case, hyphens and underscores do not matter.
        datasets: by their names; what has a folder is known by that, too.
    """
    known: dict[str, str] = {}
    for spelling, dataset in _spellings(datasets):
        known.setdefault(_plain(spelling), dataset)
    near = get_close_matches(_plain(name), known, n=1, cutoff=0.6)
    return known[near[0]] if near else None


def _spellings(datasets: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Pairs of a spelling and a name; where two datasets share one, the first is meant."""
    yield from ((name, name) for name in datasets)
    for name, spec in datasets.items():
        folder = getattr(spec, "folder", "").rpartition("/")[2]
        yield from ((also, name) for also in (folder, *_ALSO.get(name, ())) if also)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()
