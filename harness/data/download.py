"""Download datasets: `ship-data get` uses torchvision and moves files into CoOp's layout."""

import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from harness.errors import Fault, UserError
from ship.datasets import DATASETS, find_nearest_dataset


class Source(NamedTuple):
    """How to get a dataset, as listed in sources.toml.

    Attributes:
        how: What to do by hand, or what is downloaded.
        torchvision: Name of torchvision's class that downloads it. "" if there is none.
        made: Folder that torchvision creates, relative to its root.
    """

    how: str
    torchvision: str = ""
    made: str = ""


_TEXT = Path(__file__).with_name("sources.toml").read_text("utf-8")
SOURCES: Final = {name: Source(**row) for name, row in tomllib.loads(_TEXT).items()}
"""Name in ship.datasets.DATASETS -> source."""

_ARCHIVES: Final = (".zip", ".tgz", ".tar", ".gz")


def get_dataset(name: str, data_root: Path) -> list[str]:
    """Download a dataset's images below the data root.

    The download goes to a hidden folder there, which is renamed once it is complete. A failed
    download leaves no files.

    Args:
        name: Name of the dataset.
        data_root: Folder of the datasets.

    Returns:
        Lines that say where the images are, and what has to be done by hand.

    Raises:
        UserError: There is no such dataset, torchvision cannot download it, its images exist, or
            the download fails.
    """
    if name not in SOURCES:
        rule, suggestion = "must be in ship-data list", find_nearest_dataset(name)
        raise UserError(Fault("dataset", rule, name, suggestion=suggestion).text)
    source = SOURCES[name]
    spec: Any = DATASETS[name]
    if not source.torchvision:
        where = f"; below {data_root}: {list_folders(spec)}" if list_folders(spec) else ""
        raise UserError(f"dataset {name} cannot be downloaded by torchvision: {source.how}{where}")
    image_dir = data_root / spec.image_dir
    if image_dir.exists():
        raise UserError(
            f"dataset {name}: {image_dir} already exists. Check it with ship-data check {name}"
        )
    try:
        data_root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".ship-data-{name}-", dir=data_root) as folder:
            _download_dataset(source, Path(folder))
            _move(Path(folder) / source.made, data_root / spec.folder, spec.images)
    except Exception as error:  # the data root may be a file; torchvision may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"dataset {name} could not be downloaded: {reason}") from error
    lines = [f"images of {name}: {image_dir}"]
    split = data_root / spec.folder / getattr(spec, "split_file", "")
    if not split.exists():  # without a split file this is the folder
        page = "DATASETS.md of github.com/KaiyangZhou/CoOp"
        lines += [f"split to download by hand, torchvision has none: {split} (link in {page})"]
    return lines


def fetch_missing(names: Iterable[str], data_root: Path, print_line: Callable[[str], None]) -> None:
    """Download the missing images of datasets.

    Args:
        names: Names of datasets. Those that torchvision cannot download are skipped.
        data_root: Folder of the datasets.
        print_line: Function that prints a line about a download, or what has to be done by hand.

    Raises:
        UserError: A download fails.
    """
    for name in names:
        if name not in SOURCES or not SOURCES[name].torchvision:
            continue
        spec: Any = DATASETS[name]
        if not (data_root / spec.image_dir).exists():
            for line in get_dataset(name, data_root):
                print_line(line)


def _download_dataset(source: Source, folder: Path) -> None:
    """Download and unpack a dataset into a folder with torchvision.

    Raises:
        Exception: Whatever torchvision raises.
    """
    import torchvision.datasets

    downloader = getattr(torchvision.datasets, source.torchvision)
    # Prevent tar archives from writing outside of their folder by names or links. torchvision
    # relies on Python for that, which does so by default only from 3.14 on. Zip files are safe.
    # A function must be a staticmethod here, or it would get the archive as its first argument.
    before = vars(tarfile.TarFile)["extraction_filter"]
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        downloader(str(folder), download=True)
    finally:
        tarfile.TarFile.extraction_filter = before
    if not (folder / source.made).is_dir():
        raise RuntimeError(f"torchvision created no folder {source.made}")


def _move(source: Path, into: Path, images: str) -> None:
    """Move unpacked files into place, the images last, without the archives."""
    into.mkdir(parents=True, exist_ok=True)
    paths = [path for path in source.iterdir() if path.suffix not in _ARCHIVES]
    if source.name == images:
        paths = [source]
    elif source / images not in paths:
        raise RuntimeError(f"torchvision created no folder {images} of images")
    for path in sorted(paths, key=lambda path: path.name == images):
        if not (into / path.name).exists():  # existing files are kept
            path.rename(into / path.name)


def list_folders(spec: Any) -> str:
    """Return the folders of a dataset below the data root, e.g. "oxford_pets/images".

    The result is "" for a packaged dataset.
    """
    folder = getattr(spec, "folder", "")
    is_split = folder and not spec.image_dir.startswith(folder)  # xlsa17's lists are elsewhere
    return f"{folder}, {spec.image_dir}" if is_split else str(getattr(spec, "image_dir", ""))
