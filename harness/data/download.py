"""Where datasets come from; `ship-data get`: what torchvision can, moved into CoOp's layout."""

import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

from harness.errors import UserError
from ship.datasets import DATASETS, nearest_dataset


@dataclass(frozen=True)
class Source:
    """How a dataset is got.

    how: one line: whose pictures, which files beside them, and where both are.
    torchvision: the class of torchvision.datasets that downloads the pictures; "": none does.
    made: the folder that this class makes below its root. In CoOp's layout its content belongs in
        the dataset's folder; where it is the folder of pictures itself, it belongs in the place of
        that.
    """

    how: str
    torchvision: str = ""
    made: str = ""


_LINKS: Final = "DATASETS.md of github.com/KaiyangZhou/CoOp"


def _split(split: str, pictures: str = "pictures: ship-data get") -> str:
    return f"{pictures}; split_zhou_{split}.json: link in {_LINKS}"


def _xlsa(pictures: str) -> Source:
    page = "page 'Zero-Shot Learning - The Good, the Bad and the Ugly' at mpi-inf.mpg.de"
    which = "note if it is version 1 or 2 of the proposed split"
    return Source(f"{pictures}; xlsa17.zip, {page} ({which})")


_CARS: Final = (
    "cars_train/ and cars_test/ of Stanford Cars (ai.stanford.edu/~jkrause/cars, now and then "
    "offline)"
)
_IMAGENET: Final = (
    "ILSVRC2012 train and val, val sorted into folders by wnid (image-net.org, needs an account); "
    f"classnames.txt: link in {_LINKS}"
)
_NAMES: Final = "classnames.txt: as for imagenet"
_V2: Final = "matched-frequency set (github.com/modestyachts/ImageNetV2)"
_FLO: Final = (
    f"oxford_flowers/jpg as for flowers102, with cat_to_name.json ({_LINKS}); xlsa17/data/FLO from "
    "cvpr18xian.zip, page 'Feature Generating Networks for Zero-Shot Learning' at mpi-inf.mpg.de"
)
_SUN: Final = "SUN/images (SUN Attribute at cs.brown.edu/~gmpatter/sunattributes.html)"

SOURCES: Final[Mapping[str, Source]] = {
    "emoji": Source("packaged with ship-sweep"),
    "photos": Source("packaged with ship-sweep"),
    "caltech101": Source(_split("Caltech101"), "Caltech101", "caltech101"),
    "oxford_pets": Source(_split("OxfordPets"), "OxfordIIITPet", "oxford-iiit-pet"),
    "stanford_cars": Source(_split("StanfordCars", _CARS)),
    "flowers102": Source(_split("OxfordFlowers"), "Flowers102", "flowers-102"),
    "food101": Source(_split("Food101"), "Food101", "food-101"),
    "sun397": Source(_split("SUN397", "pictures (tens of GB): ship-data get"), "SUN397", "SUN397"),
    "dtd": Source(_split("DescribableTextures"), "DTD", "dtd/dtd"),
    "eurosat": Source(_split("EuroSAT"), "EuroSAT", "eurosat"),
    "ucf101": Source(f"UCF-101-midframes.zip and split_zhou_UCF101.json: links in {_LINKS}"),
    "fgvc_aircraft": Source(
        "pictures and lists: ship-data get", "FGVCAircraft", "fgvc-aircraft-2013b/data"
    ),
    "imagenet": Source(_IMAGENET),
    "imagenetv2": Source(f"{_V2}; {_NAMES}"),
    "imagenet_sketch": Source(f"pictures (github.com/HaohanWang/ImageNet-Sketch); {_NAMES}"),
    "imagenet_a": Source(f"imagenet-a (github.com/hendrycks/natural-adv-examples); {_NAMES}"),
    "imagenet_r": Source(f"imagenet-r (github.com/hendrycks/imagenet-r); {_NAMES}"),
    "awa2": _xlsa("Animals_with_Attributes2/JPEGImages (cvml.ista.ac.at/AwA2)"),
    "cub": _xlsa("CUB_200_2011/images (CUB-200-2011 at www.vision.caltech.edu/datasets)"),
    "sun_attributes": _xlsa(_SUN),
    "flo": Source(_FLO),
}
"""By the names of ship.datasets.DATASETS."""

_ARCHIVES: Final = (".zip", ".tgz", ".tar", ".gz")
_FAILURES: Final = (
    OSError,  # URLError and full disks
    RuntimeError,  # torchvision: a checksum that differs
    HTTPException,
    EOFError,
    tarfile.TarError,
    zipfile.BadZipFile,
)


def get_dataset(name: str, data_root: Path) -> list[str]:
    """Download a dataset's pictures below the data root.

    The download goes to a hidden folder beside and is renamed once it is whole: what fails leaves
    nothing behind.

    Returns:
        Lines for people: where the pictures are, and what is to be done by hand.
    Raises:
        UserError: no such dataset, nothing downloads it, it is there already, or it fails.
    """
    if name not in SOURCES:
        near = nearest_dataset(name)
        hint = f" (did you mean {near}?)" if near else ""
        raise UserError(f"unknown dataset {name!r}{hint}; ship-data list shows all")
    source = SOURCES[name]
    spec: Any = DATASETS[name]
    if not source.torchvision:
        where = f"; below {data_root}: {places(spec)}" if places(spec) else ""
        raise UserError(f"dataset {name} is not downloaded by torchvision: {source.how}{where}")
    pictures = data_root / spec.pictures
    if pictures.exists():
        raise UserError(f"dataset {name}: {pictures} is there already; see ship-data check {name}")
    with _root(data_root):
        try:
            with tempfile.TemporaryDirectory(prefix=f".ship-data-{name}-", dir=data_root) as folder:
                _download(name, source, Path(folder))
                _move(Path(folder) / source.made, data_root / spec.folder, spec.images)
        except _FAILURES as why:
            reason = " ".join(str(why).split()) or type(why).__name__
            reason = reason.removeprefix("<urlopen error ").removesuffix(">")
            raise UserError(f"dataset {name} could not be downloaded: {reason}") from why
    return [f"pictures of {name}: {pictures}", *_to_do(spec, data_root)]


def fetch_missing(names: Iterable[str], data_root: Path, say: Callable[[str], None]) -> None:
    """Download the pictures of those datasets that are not there.

    Args:
        names: of datasets; what nothing downloads, or is there, is passed over.
        data_root: folder of the datasets.
        say: told what has come, and what is to be done by hand.

    Raises:
        UserError: a download fails.
    """
    for name in names:
        if name not in SOURCES or not SOURCES[name].torchvision:
            continue
        spec: Any = DATASETS[name]
        if not (data_root / spec.pictures).exists():
            for line in get_dataset(name, data_root):
                say(line)


@contextmanager
def _root(data_root: Path) -> Iterator[None]:
    """Make the data root if it is not there, and remove it where nothing has come into it."""
    try:
        data_root.mkdir(parents=True)
        made = True
    except FileExistsError:
        if not data_root.is_dir():
            raise UserError(f"--data-root must be a folder, got {data_root}") from None
        made = False
    except OSError as why:
        raise UserError(f"--data-root {data_root} cannot be made: {why.strerror}") from why
    try:
        yield
    finally:
        if made and not any(data_root.iterdir()):
            data_root.rmdir()


def _download(name: str, source: Source, folder: Path) -> None:
    """Let torchvision download and unpack into a folder.

    Raises:
        UserError: the installed torchvision has no such class.
        Exception: whatever it raises; see _FAILURES.
    """
    import torchvision.datasets

    downloader = getattr(torchvision.datasets, source.torchvision, None)
    if downloader is None:
        raise UserError(f"dataset {name}: this torchvision has no {source.torchvision}")
    with _careful_archives():
        downloader(str(folder), download=True)
    if not (folder / source.made).is_dir():
        raise RuntimeError(f"torchvision has made no folder {source.made}")


@contextmanager
def _careful_archives() -> Iterator[None]:
    """Let no tar archive put anything outside of its folder, by name or by link.

    torchvision leaves that to Python, which does it by itself from 3.14 on; zip files never could.
    """
    before = tarfile.TarFile.__dict__.get("extraction_filter")
    # staticmethod: a function that is set on a class would be called with the archive, too
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        yield
    finally:
        if before is None:
            del tarfile.TarFile.extraction_filter
        else:
            tarfile.TarFile.extraction_filter = before


def _move(made: Path, into: Path, pictures: str) -> None:
    """Rename what was unpacked into place, the pictures last; archives are left behind."""
    whole = made.name == pictures
    if not whole and not (made / pictures).is_dir():
        raise RuntimeError(f"torchvision has made no folder {pictures} of pictures")
    into.mkdir(parents=True, exist_ok=True)
    if whole:
        made.rename(into / pictures)
        return
    paths = [path for path in made.iterdir() if path.suffix not in _ARCHIVES]
    for path in sorted(paths, key=lambda path: path.name == pictures):
        if not (into / path.name).exists():  # what people put there stays
            path.rename(into / path.name)


def _to_do(spec: Any, data_root: Path) -> list[str]:
    """What torchvision has not brought."""
    path = data_root / spec.folder / getattr(spec, "split_file", "")
    if path.exists():  # the folder itself where there is no such file
        return []
    return [f"to be put there by hand, torchvision has none: {path} (link in {_LINKS})"]


def places(spec: Any) -> str:
    """Where a dataset lies below the data root: "oxford_pets/images"; "" for a packaged one."""
    folder = getattr(spec, "folder", "")
    apart = folder and not spec.pictures.startswith(folder)  # xlsa17's lists lie elsewhere
    return f"{folder}, {spec.pictures}" if apart else str(getattr(spec, "pictures", ""))
