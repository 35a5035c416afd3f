"""Files of a dataset that somebody else has made: what they may not do."""

import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ship.datasets import Picture, load_dataset, survey_dataset
from ship.datasets.base import LARGEST_PICTURE, UndecodableError
from ship.datasets.layouts import is_inside
from ship.features import undecodable
from tests.ship.datasets.trees import folder_tree
from tests.told import told

NAMES = told(__file__, "names.yaml")


def test_paths_that_leave_the_folder() -> None:
    """Whatever the separator and the rules; odd names are no escapes."""
    found = [path for path in NAMES["outside"] + NAMES["inside"] if not is_inside(path)]
    assert found == NAMES["outside"]


@pytest.mark.parametrize("path", ["\0", "a\0b.png", "\ud800.png", "x" * 5000, "a/" * 3000])
def test_names_that_no_disk_takes(path: str, tmp_path: Path) -> None:
    """NUL, half a character and endless names are those of a folder that is not there."""
    (fault,) = survey_dataset(f"image_folder:{path}", tmp_path).faults
    assert fault.startswith("dataset ") or fault.endswith("no such folder")


def test_a_folder_that_may_not_be_listed_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system refuses is a line, not a traceback."""
    folder_tree(tmp_path)

    def refuse(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    (fault,) = survey_dataset("image_folder:pets", tmp_path).faults
    assert fault.endswith("cannot be read: Permission denied")


def png(side: int) -> bytes:
    """A PNG of this size, nearly all of whose pixels are missing."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    found = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")):
        check = struct.pack(">I", zlib.crc32(kind + data))
        found += struct.pack(">I", len(data)) + kind + data + check
    return found


@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_460, 20_000, 2_000_000])
def test_a_bomb_is_not_decoded(side: int, coop_root: Path) -> None:
    """Pillow would only warn of the first; the user is told which picture, and why."""
    assert side**2 > LARGEST_PICTURE
    with pytest.raises(UndecodableError, match="pixels are too many"):
        Picture("bomb", png(side)).open()
    pictures = coop_root / "caltech-101/101_ObjectCategories"
    (pictures / "sea_horse/train0.jpg").write_bytes(png(side))
    dataset = load_dataset("caltech101", coop_root)
    text = str(undecodable(dataset, "train", "x"))
    assert "1 pictures of train cannot be decoded" in text
    assert "pixels are too many" in text


def test_a_picture_starts_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostScript, which Pillow hands to Ghostscript, is no picture here, whatever it is called."""
    Image.init()
    assert "EPS" in Image.OPEN
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(UndecodableError):
        Picture("x.jpg", content).open()
