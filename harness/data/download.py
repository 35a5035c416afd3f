"""Download the images of datasets with torchvision, and move them into CoOp's folder layout."""

import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from harness.errors import UserError
from harness.wording import show
from ship.datasets import DATASETS, find_nearest_dataset


class Source(NamedTuple):
    """How to get a dataset, as listed in sources.toml.

    Attributes:
        instructions: One line that lists the images and the other files, and where to get each.
        torchvision: Name of the class in torchvision.datasets that downloads the images. "" if
            there is none.
        unpacked_folder: Folder that this class creates, relative to the folder it downloads to. ""
            if there is no such class.
    """

    instructions: str
    torchvision: str = ""
    unpacked_folder: str = ""


_SOURCES_FILE: Final = Path(__file__).with_name("sources.toml")
SOURCES: Final = {
    name: Source(**entry) for name, entry in tomllib.loads(_SOURCES_FILE.read_text("utf-8")).items()
}
"""Sources by the dataset's name, which is a key of ship.datasets.DATASETS."""

_ARCHIVES: Final = (".zip", ".tgz", ".tar", ".gz")


def download_dataset(name: str, data_root: Path) -> list[str]:
    """Download a dataset's images below the data root.

    Files are downloaded to a hidden folder in the data root, and moved into place once the download
    is complete. The hidden folder is always removed, so a failed download leaves no files. If the
    move fails, some of the files may be left in the dataset's folder.

    Args:
        name: Name of the dataset.
        data_root: Folder of the datasets. It is created if it is missing.

    Returns:
        A line with the folder of the images. If the file with the split is missing, a second line
        says where to download it by hand.

    Raises:
        UserError: There is no such dataset; it is packaged; torchvision has no class for it; its
            image folder already exists; Python is older than 3.11.4; or the download fails.
    """
    if name not in SOURCES:
        suggestion = find_nearest_dataset(name)
        hint = f"did you mean {suggestion}? " if suggestion else ""
        raise UserError(f"unknown dataset {show(name)} ({hint}see ship-data list)")
    source = SOURCES[name]
    spec: Any = DATASETS[name]
    folders = format_folders(spec)
    if not folders:
        raise UserError(f"dataset {name} is packaged with ship-sweep. There is nothing to download")
    if not source.torchvision:
        raise UserError(
            f"dataset {name} has to be downloaded by hand: {source.instructions}. "
            f"Expected in {data_root}: {folders}"
        )
    if not hasattr(tarfile, "data_filter"):
        raise UserError(
            "Python 3.11.4 or newer is required to download datasets: older versions cannot unpack "
            "archives safely"
        )
    image_dir = data_root / spec.image_folder_path
    if image_dir.exists():
        raise UserError(
            f"dataset {name}: {image_dir} already exists. Check it with ship-data check {name}"
        )
    try:
        data_root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".ship-data-{name}-", dir=data_root) as folder:
            _download_with_torchvision(source, Path(folder))
            unpacked = Path(folder) / source.unpacked_folder
            _move_into_place(unpacked, data_root / spec.folder, spec.image_folder)
    except Exception as error:  # the data root may be a file; torchvision may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"dataset {name} could not be downloaded: {reason}") from error
    lines = [f"images of {name}: {image_dir}"]
    # if the spec has no split file, `split` is the dataset's folder, which exists
    split = data_root / spec.folder / getattr(spec, "split_file", "")
    if not split.exists():
        page = "DATASETS.md of github.com/KaiyangZhou/CoOp"
        lines.append(
            f"the split file is still missing. Download it by hand to {split} (link in {page})"
        )
    return lines


def download_missing(
    names: Iterable[str], data_root: Path, print_line: Callable[[str], None]
) -> None:
    """Download the images of the datasets that have no image folder yet.

    Args:
        names: Names of datasets. Unknown ones, and those that torchvision cannot download, are
            skipped.
        data_root: Folder of the datasets.
        print_line: Function that prints a line. Called with each line of `download_dataset`.

    Raises:
        UserError: A download fails. Later datasets are then not downloaded.
    """
    for name in names:
        if name not in SOURCES or not SOURCES[name].torchvision:
            continue
        spec: Any = DATASETS[name]
        if not (data_root / spec.image_folder_path).exists():
            for line in download_dataset(name, data_root):
                print_line(line)


def _download_with_torchvision(source: Source, folder: Path) -> None:
    """Download and unpack a dataset into a folder with torchvision.

    Raises:
        RuntimeError: torchvision did not create the folder that `source` names.
        Exception: Any error of torchvision.
    """
    import torchvision.datasets

    downloader = getattr(torchvision.datasets, source.torchvision)
    # Without the filter, a tar archive could use absolute names, `..` or links to write outside of
    # the folder. torchvision leaves this to tarfile, which filters by default only since Python
    # 3.14. zipfile is safe without a filter. The function has to be a staticmethod: otherwise it
    # would be a method of TarFile, and get the archive as its first argument.
    previous_filter = vars(tarfile.TarFile)["extraction_filter"]
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        downloader(str(folder), download=True)
    finally:
        tarfile.TarFile.extraction_filter = previous_filter
    if not (folder / source.unpacked_folder).is_dir():
        raise RuntimeError(f"torchvision did not create the folder {source.unpacked_folder}")


def _move_into_place(unpacked: Path, destination: Path, images: str) -> None:
    """Move unpacked files into the dataset's folder. Skip archives, and files that exist there.

    The folder of images is moved last: once it exists, all other files have been moved.

    Args:
        unpacked: Folder that torchvision created. It is itself moved if it is the folder of images.
        destination: Folder of the dataset. It is created if it is missing.
        images: Name of the folder of images.

    Raises:
        RuntimeError: There is no folder of images in `unpacked`.
    """
    destination.mkdir(parents=True, exist_ok=True)
    if unpacked.name == images:
        paths = [unpacked]
    else:
        paths = [path for path in unpacked.iterdir() if path.suffix not in _ARCHIVES]
        if unpacked / images not in paths:
            raise RuntimeError(f"torchvision did not create the image folder {images}")
    for path in sorted(paths, key=lambda path: path.name == images):
        if not (destination / path.name).exists():
            path.rename(destination / path.name)


def format_folders(spec: Any) -> str:
    """Return the folders of a dataset below the data root as text, e.g. "oxford_pets/images".

    Returns "" for a packaged dataset. Both folders are listed for datasets of xlsa17, whose lists
    and images are in different folders.

    Args:
        spec: Specification of the dataset, a value of ship.datasets.DATASETS.
    """
    folder = getattr(spec, "folder", "")
    image_dir = str(getattr(spec, "image_folder_path", ""))
    has_separate_images = folder and not PurePosixPath(image_dir).is_relative_to(folder)
    return f"{folder}, {image_dir}" if has_separate_images else image_dir
