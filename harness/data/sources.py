"""Where every dataset's files come from: one line each for people, and torchvision's part of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Source:
    """How a dataset is got.

    how: one line: whose pictures, which files beside them, and where both are.
    torchvision: the class of torchvision.datasets that downloads the pictures; "": none does.
    made: the folder that this class makes below its root. into: where, below the data root, the
        content of that folder belongs in CoOp's layout.
    """

    how: str
    torchvision: str = ""
    made: str = ""
    into: str = ""


def _split(file: str) -> str:
    return f"{file}: link in DATASETS.md of github.com/KaiyangZhou/CoOp"


_IMAGENET_NAMES: Final = "classnames.txt: as for imagenet"
_XLSA: Final = (
    "xlsa17.zip, page 'Zero-Shot Learning - The Good, the Bad and the Ugly' at mpi-inf.mpg.de "
    "(note if it is version 1 or 2 of the proposed split)"
)

SOURCES: Final[Mapping[str, Source]] = {
    "emoji": Source("packaged with ship-sweep"),
    "photos": Source("packaged with ship-sweep"),
    "caltech101": Source(
        f"pictures: ship-data get; {_split('split_zhou_Caltech101.json')}",
        "Caltech101",
        "caltech101",
        "caltech-101",
    ),
    "oxford_pets": Source(
        f"pictures: ship-data get; {_split('split_zhou_OxfordPets.json')}",
        "OxfordIIITPet",
        "oxford-iiit-pet",
        "oxford_pets",
    ),
    "stanford_cars": Source(
        "cars_train/ and cars_test/ of Stanford Cars (ai.stanford.edu/~jkrause/cars, now and then "
        f"offline); {_split('split_zhou_StanfordCars.json')}"
    ),
    "flowers102": Source(
        f"pictures: ship-data get; {_split('split_zhou_OxfordFlowers.json')}",
        "Flowers102",
        "flowers-102",
        "oxford_flowers",
    ),
    "food101": Source(
        f"pictures: ship-data get; {_split('split_zhou_Food101.json')}",
        "Food101",
        "food-101",
        "food-101",
    ),
    "sun397": Source(
        f"pictures (tens of GB): ship-data get; {_split('split_zhou_SUN397.json')}",
        "SUN397",
        "SUN397",
        "sun397/SUN397",
    ),
    "dtd": Source(
        f"pictures: ship-data get; {_split('split_zhou_DescribableTextures.json')}",
        "DTD",
        "dtd/dtd",
        "dtd",
    ),
    "eurosat": Source(
        f"pictures: ship-data get; {_split('split_zhou_EuroSAT.json')}",
        "EuroSAT",
        "eurosat",
        "eurosat",
    ),
    "ucf101": Source(
        "UCF-101-midframes.zip and split_zhou_UCF101.json: links in DATASETS.md of "
        "github.com/KaiyangZhou/CoOp"
    ),
    "fgvc_aircraft": Source(
        "pictures and lists: ship-data get",
        "FGVCAircraft",
        "fgvc-aircraft-2013b/data",
        "fgvc_aircraft",
    ),
    "imagenet": Source(
        "ILSVRC2012 train and val, val sorted into folders by wnid (image-net.org, needs an "
        f"account); {_split('classnames.txt')}"
    ),
    "imagenetv2": Source(
        f"matched-frequency set (github.com/modestyachts/ImageNetV2); {_IMAGENET_NAMES}"
    ),
    "imagenet_sketch": Source(
        f"pictures (github.com/HaohanWang/ImageNet-Sketch); {_IMAGENET_NAMES}"
    ),
    "imagenet_a": Source(
        f"imagenet-a (github.com/hendrycks/natural-adv-examples); {_IMAGENET_NAMES}"
    ),
    "imagenet_r": Source(f"imagenet-r (github.com/hendrycks/imagenet-r); {_IMAGENET_NAMES}"),
    "awa2": Source(f"Animals_with_Attributes2/JPEGImages (cvml.ista.ac.at/AwA2); {_XLSA}"),
    "cub": Source(
        f"CUB_200_2011/images (CUB-200-2011 at www.vision.caltech.edu/datasets); {_XLSA}"
    ),
    "sun_attributes": Source(
        f"SUN/images (SUN Attribute at cs.brown.edu/~gmpatter/sunattributes.html); {_XLSA}"
    ),
    "flo": Source(
        "oxford_flowers/jpg as for flowers102, with cat_to_name.json (DATASETS.md of "
        "github.com/KaiyangZhou/CoOp); xlsa17/data/FLO from cvpr18xian.zip, page "
        "'Feature Generating Networks for Zero-Shot Learning' at mpi-inf.mpg.de"
    ),
}
"""By the names of ship.datasets.DATASETS."""


def places(spec: Any) -> str:
    """Where a dataset lies below the data root: "oxford_pets/images"; "" for a packaged one."""
    folder = getattr(spec, "folder", "")
    if not folder:
        return ""
    apart = not spec.pictures.startswith(folder)  # xlsa17's lists lie elsewhere
    return f"{folder}, {spec.pictures}" if apart else str(spec.pictures)
