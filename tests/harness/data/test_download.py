"""ship-data get, with classes in torchvision's place that write a tree instead of downloading."""

import tarfile
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torchvision.datasets
from torchvision.datasets.utils import extract_archive

from harness.data.download import SOURCES
from ship.datasets import DATASETS, survey_dataset
from tests.harness.data.test_cli import invoke
from tests.ship.datasets.conftest import save_picture
from tests.ship.datasets.trees import aircraft_tree
from tests.told import told

# what torchvision's classes make below their root, and the folder of pictures in it
MADE = told(__file__, "downloads.yaml")


def replace_torchvision(
    monkeypatch: pytest.MonkeyPatch, name: str, make: Callable[[Path], None]
) -> None:
    """Put a class into torchvision.datasets that makes a tree instead of downloading one."""

    def download(root: str, download: bool) -> None:
        assert download
        make(Path(root))

    monkeypatch.setattr(torchvision.datasets, SOURCES[name].torchvision, download)


def test_every_dataset_has_a_source() -> None:
    """What ship knows, ship-data knows where to get, in one line."""
    assert set(SOURCES) == set(DATASETS)
    assert all("\n" not in source.how for source in SOURCES.values())
    classes = {source.torchvision for source in SOURCES.values()} - {""}
    assert classes == {made[0] for made in MADE.values()} | {"SUN397"}
    assert all(hasattr(torchvision.datasets, name) for name in classes)


@pytest.mark.parametrize("name", MADE)
def test_get_moves_pictures_into_the_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Pictures and notes come where CoOp's layout has them, archives and work folders go.

    A split file that nothing downloads is asked for, unless it was put there first: then it stays.
    """
    _, made, pictures = MADE[name]
    folder = tmp_path / "data" / DATASETS[name].folder
    split_file = getattr(DATASETS[name], "split_file", "")
    first = [split_file] if name == "dtd" else []
    for each in first:
        folder.mkdir(parents=True)
        (folder / each).write_text("{}")

    def make(root: Path) -> None:
        save_picture(root / made / pictures / "a/0.jpg")
        (root / made / "notes.txt").write_text("x")
        (root / made / "archive.tar.gz").write_text("x")

    replace_torchvision(monkeypatch, name, make)
    result = invoke("get", name, "--data-root", str(tmp_path / "data"))
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in folder.iterdir()) == sorted([pictures, "notes.txt", *first])
    assert (folder / pictures / "a/0.jpg").is_file()
    assert [path.name for path in (tmp_path / "data").iterdir()] == [folder.name]
    assert f"pictures of {name}: {folder / pictures}" in result.stdout
    by_hand = result.stdout.splitlines()[1:]
    assert len(by_hand) == (bool(split_file) and not first)
    assert all(str(folder / split_file) in line for line in by_hand)


def test_get_moves_sun397_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the folder that torchvision makes is the folder of pictures."""
    replace_torchvision(
        monkeypatch, "sun397", lambda root: save_picture(root / "SUN397/a/abbey/0.jpg")
    )
    assert invoke("get", "sun397", "--data-root", str(tmp_path)).exit_code == 0
    assert (tmp_path / "sun397/SUN397/a/abbey/0.jpg").is_file()


def test_what_torchvision_has_whole_is_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FGVC-Aircraft needs no other file: what get leaves behind passes the check."""
    replace_torchvision(
        monkeypatch, "fgvc_aircraft", lambda root: aircraft_tree(root, "fgvc-aircraft-2013b/data")
    )
    assert invoke("get", "fgvc_aircraft", "--data-root", str(tmp_path)).exit_code == 0
    assert not survey_dataset("fgvc_aircraft", tmp_path).faults


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (URLError("Name or service not known"), 2, "<urlopen error Name or service not known>"),
        (RuntimeError("File not found\nor corrupted."), 2, "File not found or corrupted."),
        (EOFError(), 2, "EOFError"),
        (None, 2, "torchvision has made no folder dtd/dtd"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_a_failed_download_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException | None,
    code: int,
    words: str,
) -> None:
    """One line, and an empty data root."""

    def make(root: Path) -> None:
        save_picture(root / "dtd/half/0.jpg")
        if error is not None:
            raise error

    replace_torchvision(monkeypatch, "dtd", make)
    data_root = tmp_path / "data"
    result = invoke("get", "dtd", "--data-root", str(data_root))
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == (f"dataset dtd could not be downloaded: {words}\n" if words else "")
    assert [path.name for path in tmp_path.rglob("*")] == ["data"]


@pytest.mark.parametrize("case", told(__file__, "mistakes.yaml"), ids=lambda case: case["command"])
def test_mistakes_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: dict[str, str]
) -> None:
    """What cannot be downloaded says so before anything is touched."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    save_picture(tmp_path / "eurosat/2750/0.jpg")
    result = invoke(*case["command"].split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert case["says"] in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("trick", ["../../outside", "link"])
def test_an_archive_stays_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trick: str
) -> None:
    """What a tar archive names outside of its folder, or links to there, is refused."""

    def make(root: Path) -> None:
        member = tarfile.TarInfo(trick)
        if trick == "link":
            member.type, member.linkname = tarfile.SYMTYPE, str(tmp_path)
        with tarfile.open(root / "x.tar", "w") as archive:
            archive.addfile(member)
        extract_archive(str(root / "x.tar"), str(root / "inside"))

    replace_torchvision(monkeypatch, "dtd", make)
    result = invoke("get", "dtd", "--data-root", str(tmp_path / "data"))
    assert result.exit_code == 2
    assert "could not be downloaded" in result.output
    assert not list(tmp_path.rglob("outside"))
    assert tarfile.TarFile.extraction_filter is None  # as Python has it, once get is done
