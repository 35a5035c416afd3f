"""Files of a dataset that somebody else has made: what they may not do."""

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import ship.datasets.base
import ship.datasets.survey
from ship.datasets import DatasetError, Picture, check_dataset, load_dataset
from ship.datasets.base import LARGEST_PICTURE, OversizeError, escapes
from ship.features.encode import undecodable
from tests.ship.datasets.conftest import SPLIT_FILE
from tests.ship.datasets.trees import folder_tree, mats

Edit = Callable[[Callable[[dict[str, Any]], Any]], None]


def faults(name: str, root: Path) -> str:
    """Check, and return what is complained about, a line each."""
    with pytest.raises(DatasetError) as caught:
        check_dataset(name, root)
    assert all("\n" not in fault for fault in caught.value.faults)
    assert all(len(fault) < 2000 for fault in caught.value.faults)
    return str(caught.value)


def change_path(path: str) -> Callable[[dict[str, Any]], None]:
    """An edit that gives the first test picture another path."""
    return lambda document: document["test"][0].__setitem__(0, path)


@pytest.mark.parametrize(
    "path",
    [
        "../x.png", "a/../../x.png", "/etc/passwd", "//host/share", "..", "a/..", "\\x.png",
        "..\\x.png", "a\\..\\..\\x", "C:\\x.png", "c:/x.png", "./../x",
    ],
)  # fmt: skip
def test_paths_that_leave_the_folder(path: str, coop_root: Path, edit_split: Edit) -> None:
    """Whatever the separator and the rules, a path out of the folder is refused as one."""
    assert escapes(path)
    edit_split(change_path(path))
    assert "outside of the folder" in faults("caltech101", coop_root)
    assert "must be a folder inside the data root" in faults(f"image_folder:{path}", coop_root)


@pytest.mark.parametrize("path", ["a/b.png", "a..b/c", "...", "a: b/c.png", "x/C:.png", "a\\b"])
def test_paths_that_stay_inside(path: str) -> None:
    """Odd names are no escapes."""
    assert not escapes(path)


@pytest.mark.parametrize("path", ["\0", "a\0b.png", "\ud800.png", "x" * 5000, "a/" * 3000, ""])
def test_paths_that_no_disk_takes(path: str, coop_root: Path, edit_split: Edit) -> None:
    """NUL, half a character and endless names are a fault of the list, or a folder not there."""
    edit_split(change_path(path))
    assert "caltech-101" in faults("caltech101", coop_root)
    assert "dataset" in faults(f"image_folder:{path}", coop_root)


def test_one_picture_under_two_spellings_is_a_leak(coop_root: Path, edit_split: Edit) -> None:
    """./a//b.png in test is the a/b.png of train."""
    edit_split(change_path(".//sea_horse/./0.png"))
    assert "pictures in more than one split: sea_horse/0.png" in faults("caltech101", coop_root)


@pytest.mark.parametrize("label", [2**31, 2**63, 10**4000])
def test_labels_beyond_all_classes(label: int, coop_root: Path, edit_split: Edit) -> None:
    """A number that no array holds is a fault of its row."""
    edit_split(lambda document: document["train"][0].__setitem__(1, label))
    assert "train[0]" in faults("caltech101", coop_root)


@pytest.mark.parametrize("name", ["\x1b[2Jcat", "a\x00b", "\ud800", "x" * 1001])
def test_class_names_that_are_no_text(name: str, coop_root: Path, edit_split: Edit) -> None:
    """What would command a terminal, or cannot be written, names no class."""

    def rename(document: dict[str, Any]) -> None:
        for rows in document.values():
            for row in rows:
                row[2] = name if row[1] == 0 else row[2]

    edit_split(rename)
    text = faults("caltech101", coop_root)
    assert "class names" in text
    assert text.isprintable()


def test_a_list_too_large_to_be_one(coop_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an endless split file no more is read than a split file may have."""
    monkeypatch.setattr(ship.datasets.survey, "LARGEST_FILE", 1 << 20)
    (coop_root / "caltech-101" / SPLIT_FILE).write_bytes(b" " * ((1 << 20) + 1))
    assert "more than 1 MiB" in faults("caltech101", coop_root)


def test_a_picture_too_large_to_be_read(coop_root: Path) -> None:
    """A file with a hole of a TiB is refused by its size."""
    with (coop_root / "caltech-101/101_ObjectCategories/sea_horse/0.png").open("wb") as file:
        file.truncate(1 << 40)
    assert "1 picture larger than 256 MiB: sea_horse/0.png" in faults("caltech101", coop_root)


def png(width: int, height: int) -> bytes:
    """A PNG of this size, nearly all of whose pixels are missing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_460, 20_000, 2_000_000])
def test_a_bomb_is_not_decoded(side: int, coop_root: Path) -> None:
    """Pillow would only warn of the first; the user is told which picture, and why."""
    assert side**2 > LARGEST_PICTURE
    with pytest.raises(OversizeError):
        Picture("bomb", png(side, side)).open()
    (coop_root / "caltech-101/101_ObjectCategories/sea_horse/0.png").write_bytes(png(side, side))
    dataset = load_dataset("caltech101", coop_root)
    text = str(undecodable(dataset, "train", "x"))
    assert "1 pictures of train cannot be decoded" in text
    assert "pixels are too many" in text


def test_a_picture_starts_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostScript, which Pillow hands to Ghostscript, is no picture here, whatever it is called."""
    Image.init()
    assert "EPS" in Image.OPEN
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(Image.UnidentifiedImageError):
        Picture("x.jpg", content).open()


def test_links_in_a_ring_are_walked_once(tmp_path: Path) -> None:
    """Two links to a class's own folder would give more paths than there are atoms."""
    folder_tree(tmp_path)
    (tmp_path / "pets/dog/a").symlink_to(tmp_path / "pets/dog")
    (tmp_path / "pets/dog/b").symlink_to(tmp_path / "pets/dog")
    dataset = load_dataset("image_folder:pets", tmp_path)
    assert sum(len(split) for split in dataset.splits.values()) == 8


def test_a_linked_folder_is_followed(tmp_path: Path) -> None:
    """People link datasets and classes: a link is theirs who may write to the data root."""
    folder_tree(tmp_path / "elsewhere")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/pets").symlink_to(tmp_path / "elsewhere/pets")
    assert load_dataset("image_folder:pets", tmp_path / "root").class_names == ("café", "dog")


def test_a_folder_that_may_not_be_listed_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system refuses is a line, not a traceback."""
    folder_tree(tmp_path)

    def refuse(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert "cannot be read: Permission denied" in faults("image_folder:pets", tmp_path)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"{}", b'{"1": 5}', b"\xff"])
def test_names_of_flowers(content: bytes, tmp_path: Path) -> None:
    """cat_to_name.json is somebody else's, too."""
    mats(None, ["", "", ""], "/x/").save(tmp_path / "xlsa17/data/FLO")
    (tmp_path / "oxford_flowers/jpg").mkdir(parents=True)
    (tmp_path / "oxford_flowers/cat_to_name.json").write_bytes(content)
    assert "cat_to_name.json" in faults("flo", tmp_path)


def test_a_pipe_is_no_picture(coop_root: Path) -> None:
    """Reading would wait for ever."""
    path = coop_root / "caltech-101/101_ObjectCategories/sea_horse/0.png"
    path.unlink()
    os.mkfifo(path)
    assert "1 missing picture: sea_horse/0.png" in faults("caltech101", coop_root)


def test_the_split_file_is_plain_json(coop_root: Path) -> None:
    """NaN and Infinity, which Python's reader takes, are no labels."""
    path = coop_root / "caltech-101" / SPLIT_FILE
    document = json.loads(path.read_text("utf-8"))
    document["train"][0][1], document["train"][1][1] = float("nan"), float("inf")
    path.write_text(json.dumps(document))
    assert "train[0], train[1]" in faults("caltech101", coop_root)
