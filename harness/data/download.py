"""`ship-data get`: what torchvision can download, moved into CoOp's layout."""

import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

from harness.data.sources import SOURCES, Source, places
from harness.errors import UserError

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
    from ship.datasets import DATASETS, nearest_dataset

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
                _move(Path(folder) / source.made, data_root / source.into, pictures.name)
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
    from ship.datasets import DATASETS

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
    if made.name == into.name == pictures:  # the folder is the pictures
        into.parent.mkdir(parents=True, exist_ok=True)
        made.rename(into)
        return
    if not (made / pictures).is_dir():
        raise RuntimeError(f"torchvision has made no folder {pictures} of pictures")
    into.mkdir(parents=True, exist_ok=True)
    paths = [path for path in made.iterdir() if path.suffix not in _ARCHIVES]
    for path in sorted(paths, key=lambda path: path.name == pictures):
        if not (into / path.name).exists():  # what people put there stays
            path.rename(into / path.name)


def _to_do(spec: Any, data_root: Path) -> list[str]:
    """What torchvision has not brought."""
    file = getattr(spec, "split_file", "")
    path = data_root / spec.folder / file
    if not file or path.is_file():
        return []
    link = "link in DATASETS.md of github.com/KaiyangZhou/CoOp"
    return [f"to be put there by hand, torchvision has none: {path} ({link})"]
