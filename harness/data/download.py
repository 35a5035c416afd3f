"""Where datasets come from; `ship-data get`: what torchvision can, moved into CoOp's layout."""

import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from harness.errors import Fault, UserError
from ship.datasets import DATASETS, nearest_dataset


class Source(NamedTuple):
    """How a dataset is got; sources.toml says what each field means."""

    how: str
    torchvision: str = ""
    made: str = ""


_TEXT = Path(__file__).with_name("sources.toml").read_text("utf-8")
SOURCES: Final = {name: Source(**row) for name, row in tomllib.loads(_TEXT).items()}
"""By the names of ship.datasets.DATASETS."""

_ARCHIVES: Final = (".zip", ".tgz", ".tar", ".gz")


def get_dataset(name: str, data_root: Path) -> list[str]:
    """Download a dataset's pictures below the data root.

    The download goes to a hidden folder there and is renamed once it is whole: what fails leaves
    nothing behind.

    Returns:
        Lines for people: where the pictures are, and what is to be done by hand.
    Raises:
        UserError: no such dataset, nothing downloads it, it is there already, or it fails.
    """
    if name not in SOURCES:
        must, near = "must be one that ship-data list shows", nearest_dataset(name)
        raise UserError(Fault("dataset", must, name, near=near).text)
    source = SOURCES[name]
    spec: Any = DATASETS[name]
    if not source.torchvision:
        where = f"; below {data_root}: {places(spec)}" if places(spec) else ""
        raise UserError(f"dataset {name} is not downloaded by torchvision: {source.how}{where}")
    pictures = data_root / spec.pictures
    if pictures.exists():
        raise UserError(f"dataset {name}: {pictures} is there already; see ship-data check {name}")
    try:
        data_root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".ship-data-{name}-", dir=data_root) as folder:
            _download(source, Path(folder))
            _move(Path(folder) / source.made, data_root / spec.folder, spec.images)
    except Exception as why:  # a data root that is a file, and whatever torchvision raises
        reason = " ".join(str(why).split()) or type(why).__name__
        raise UserError(f"dataset {name} could not be downloaded: {reason}") from why
    lines = [f"pictures of {name}: {pictures}"]
    split = data_root / spec.folder / getattr(spec, "split_file", "")
    if not split.exists():  # the folder itself where there is no such file
        page = "DATASETS.md of github.com/KaiyangZhou/CoOp"
        lines += [f"to be put there by hand, torchvision has none: {split} (link in {page})"]
    return lines


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


def _download(source: Source, folder: Path) -> None:
    """Let torchvision download and unpack into a folder.

    Raises:
        Exception: whatever it raises.
    """
    import torchvision.datasets

    downloader = getattr(torchvision.datasets, source.torchvision)
    # No tar archive may put anything outside of its folder, by name or by link. torchvision leaves
    # that to Python, which does it by itself from 3.14 on; zip files never could.
    # staticmethod: a function that is set on a class would be called with the archive, too
    before = vars(tarfile.TarFile)["extraction_filter"]
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        downloader(str(folder), download=True)
    finally:
        tarfile.TarFile.extraction_filter = before
    if not (folder / source.made).is_dir():
        raise RuntimeError(f"torchvision has made no folder {source.made}")


def _move(made: Path, into: Path, pictures: str) -> None:
    """Rename what was unpacked into place, the pictures last; archives are left behind."""
    into.mkdir(parents=True, exist_ok=True)
    paths = [path for path in made.iterdir() if path.suffix not in _ARCHIVES]
    if made.name == pictures:
        paths = [made]
    elif made / pictures not in paths:
        raise RuntimeError(f"torchvision has made no folder {pictures} of pictures")
    for path in sorted(paths, key=lambda path: path.name == pictures):
        if not (into / path.name).exists():  # what people put there stays
            path.rename(into / path.name)


def places(spec: Any) -> str:
    """Where a dataset lies below the data root: "oxford_pets/images"; "" for a packaged one."""
    folder = getattr(spec, "folder", "")
    apart = folder and not spec.pictures.startswith(folder)  # xlsa17's lists lie elsewhere
    return f"{folder}, {spec.pictures}" if apart else str(getattr(spec, "pictures", ""))
