"""The command ship-data: lists, checks, downloads and errors.

Replacements for torchvision's classes create the files of a dataset instead of downloading them.
"""

import os
import tarfile
from collections.abc import Callable
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torchvision.datasets
from PIL import Image
from torchvision.datasets.utils import extract_archive
from typer.testing import CliRunner

from harness.data import cli as data_cli
from harness.data.download import SOURCES
from ship.datasets import DATASETS, PACKAGED, DatasetError, load_dataset
from tests.case_files import load_cases
from tests.patterns import match_lines
from tests.ship.datasets.conftest import save_image
from tests.ship.datasets.test_fault_cases import spoil
from tests.ship.datasets.trees import LAYOUTS


def invoke(*args: str) -> Any:
    """Run ship-data in this process and return its result."""
    return CliRunner().invoke(data_cli.app, list(args))


def test_list_names_every_dataset_and_its_source() -> None:
    """The list has the published counts, and instructions for datasets that are not packaged."""
    result = invoke("list")
    assert result.exit_code == 0
    for name in DATASETS:
        assert name in result.stdout
    assert "4128/1649/2465" in result.stdout
    for name, source in SOURCES.items():
        assert (f"{name}: {source.instructions}" in result.stdout) == (name not in PACKAGED)


def test_list_distinguishes_present_missing_and_faulty_datasets(tmp_path: Path) -> None:
    """The first fault of a faulty dataset is printed with the number of its faults."""
    LAYOUTS["awa2"](tmp_path)
    LAYOUTS["caltech101"](tmp_path)
    for path in ("train0.jpg", "train1.jpg"):
        (tmp_path / "caltech-101/101_ObjectCategories/café" / path).write_bytes(b"")
    (tmp_path / "caltech-101/101_ObjectCategories/café/test0.jpg").unlink()
    lines = invoke("list", "--data-root", str(tmp_path)).stdout.splitlines()
    cells = [line.split() for line in lines[: lines.index("faulty")]]
    states = {row[0]: row[3] for row in cells if row and row[0] in DATASETS}
    for name in ("emoji", "photos", "awa2"):
        assert states.pop(name) == "present"
    assert states.pop("caltech101") == "faulty"
    assert set(states.values()) == {"missing"}
    (fault,) = [line for line in lines if line.startswith("caltech101: ")]
    assert "1 missing image: café/test0.jpg" in fault
    assert fault.endswith("(2 in all)")
    assert not any(line.startswith("awa2: ") for line in lines)


@pytest.mark.parametrize("case", load_cases(__file__, "checks.yaml"), ids=lambda case: case["case"])
def test_check_reports_all_faults_at_once(tmp_path: Path, case: dict[str, Any]) -> None:
    """Each fault and each warning is a line on stderr. Only faults change the exit code."""
    LAYOUTS[case["tree"]](tmp_path)
    spoil(tmp_path, case.get("spoil", {}))
    options = ["--data-root", str(tmp_path), *case.get("options", [])]
    result = invoke("check", case["tree"], *options)
    assert result.exit_code == (2 if "faults" in case["stdout"][-1] else 0)
    for stream in ("stderr", "stdout"):
        lines = getattr(result, stream).replace(str(tmp_path), "ROOT").splitlines()
        assert match_lines(lines, case.get(stream, []))


@pytest.mark.parametrize(("suffix", "exit_code"), [("png", 2), ("bmp", 0)])
def test_check_and_load_dataset_agree_on_faults(
    tmp_path: Path, suffix: str, exit_code: int
) -> None:
    """Equal files in two splits are a fault. Equal pixels in two files are a warning.

    A folder next to those of the splits is also a warning.
    """
    root = tmp_path / "pets"
    for split, name in product(("train", "val", "test"), ("cat", "dog")):
        save_image(root / split / name / f"{split}.png")
    copy = root / "test" / "cat" / f"copy.{suffix}"
    Image.open(root / "train" / "cat" / "train.png").save(copy)
    if suffix == "png":
        copy.write_bytes((root / "train" / "cat" / "train.png").read_bytes())
    (root / "notes").mkdir()
    options = ["image_folder:pets", "--data-root", str(tmp_path)]
    result = invoke("check", *options)
    folder, line = result.stderr.splitlines()
    assert folder.startswith(f"warning: {root}: 1 folder next to train, val and test, ignored")
    assert line.removeprefix("warning: ").startswith("dataset image_folder:pets: 1 image of")
    assert line.startswith("warning: ") is (exit_code == 0)
    assert result.exit_code == exit_code
    refused = pytest.raises(DatasetError, match="also in test") if exit_code else nullcontext()
    with refused:
        load_dataset("image_folder:pets", tmp_path)


@pytest.mark.data
def test_the_published_caltech101_has_no_faults() -> None:
    """All 8242 images can be decoded."""
    if "SHIP_DATA_ROOT" not in os.environ:
        pytest.skip("SHIP_DATA_ROOT is not set")
    result = invoke("check", "caltech101", "--data-root", os.environ["SHIP_DATA_ROOT"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "4128/1649/2465" in result.stdout
    assert result.stdout.endswith("8242 images decoded: sound\n")


DOWNLOADS = load_cases(__file__, "downloads.yaml")


def replace_download(
    monkeypatch: pytest.MonkeyPatch, name: str, create_files: Callable[[Path], None]
) -> None:
    """Replace torchvision's class of a dataset by one that creates files in its root."""

    def download(root: str, download: bool) -> None:
        assert download
        create_files(Path(root))

    monkeypatch.setattr(torchvision.datasets, SOURCES[name].torchvision, download)


@pytest.mark.parametrize("name", DOWNLOADS)
def test_get_moves_images_into_the_expected_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The folder is that of CoOp's layout. Archives and temporary folders are removed.

    A split file that exists is kept. For a missing one, which has to be downloaded by hand, the
    output has the path.
    """
    _, layout, images = DOWNLOADS[name]
    folder = tmp_path / "data" / DATASETS[name].folder
    split_file = getattr(DATASETS[name], "split_file", "")
    existing_files = []
    if name == "dtd":
        existing_files = [split_file]
        folder.mkdir(parents=True)
        (folder / split_file).write_text("{}")

    def create_files(root: Path) -> None:
        save_image(root / layout / images / "a/0.jpg")
        (root / layout / "notes.txt").write_text("x")
        (root / layout / "archive.tar.gz").write_text("x")

    replace_download(monkeypatch, name, create_files)
    result = invoke("get", name, "--data-root", str(tmp_path / "data"))
    assert result.exit_code == 0, result.stderr
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted([images, "notes.txt", *existing_files])
    assert (folder / images / "a/0.jpg").is_file()
    assert [path.name for path in (tmp_path / "data").iterdir()] == [folder.name]
    assert f"images of {name}: {folder / images}" in result.stdout
    instructions = result.stdout.splitlines()[1:]
    assert len(instructions) == (bool(split_file) and not existing_files)
    assert all(str(folder / split_file) in line for line in instructions)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (URLError("Name or service not known"), 2, "<urlopen error Name or service not known>"),
        (RuntimeError("File not found\nor corrupted."), 2, "File not found or corrupted."),
        (EOFError(), 2, "EOFError"),
        (None, 2, "torchvision did not create the folder dtd/dtd"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_a_failed_download_leaves_no_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException | None,
    code: int,
    message: str,
) -> None:
    """The error is one line, and the data root is empty."""

    def create_files(root: Path) -> None:
        save_image(root / "dtd/half/0.jpg")
        if error is not None:
            raise error

    replace_download(monkeypatch, "dtd", create_files)
    data_root = tmp_path / "data"
    result = invoke("get", "dtd", "--data-root", str(data_root))
    assert (result.exit_code, result.stdout) == (code, "")
    line = f"dataset dtd could not be downloaded: {message}\n"
    assert result.stderr == (line if message else "")
    assert [path.name for path in tmp_path.rglob("*")] == ["data"]


@pytest.mark.parametrize(
    "case", load_cases(__file__, "mistakes.yaml"), ids=lambda case: case["command"]
)
def test_mistakes_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: dict[str, str]
) -> None:
    """No files are changed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    save_image(tmp_path / "eurosat/2750/0.jpg")
    result = invoke(*case["command"].split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert case["says"] in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_python_without_safe_unpacking_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.11.0 to 3.11.3 have no tarfile.data_filter. With them nothing is downloaded."""
    monkeypatch.delattr(tarfile, "data_filter")
    result = invoke("get", "dtd", "--data-root", str(tmp_path / "data"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Python 3.11.4 or newer is required to download datasets")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("member_name", ["../../outside", "link"])
def test_an_archive_is_not_extracted_outside_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member_name: str
) -> None:
    """Members and links of a tar archive with a target outside its folder are refused."""

    def create_files(root: Path) -> None:
        member = tarfile.TarInfo(member_name)
        if member_name == "link":
            member.type, member.linkname = tarfile.SYMTYPE, str(tmp_path)
        with tarfile.open(root / "x.tar", "w") as archive:
            archive.addfile(member)
        extract_archive(str(root / "x.tar"), str(root / "inside"))

    replace_download(monkeypatch, "dtd", create_files)
    result = invoke("get", "dtd", "--data-root", str(tmp_path / "data"))
    assert result.exit_code == 2
    assert "could not be downloaded" in result.output
    assert not list(tmp_path.rglob("outside"))
    assert tarfile.TarFile.extraction_filter is None  # Python's default is restored after `get`
