"""Files of a dataset are untrusted input.

Lists and MATLAB files of any content give a dataset inside its folder, or a DatasetError.
"""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from ship.datasets import DatasetError, ImageFile, load_dataset
from ship.datasets.base import MAX_PIXELS, UndecodableError
from ship.features import diagnose_split
from tests.damage import DAMAGE, Damage, apply_damage
from tests.ship.datasets.conftest import SPLIT_FILE
from tests.ship.datasets.trees import LAYOUTS, WNIDS


def png(side: int) -> bytes:
    """Return a PNG of this size with nearly all pixels missing."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    result = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")):
        check = struct.pack(">I", zlib.crc32(kind + data))
        result += struct.pack(">I", len(data)) + kind + data + check
    return result


@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_460, 20_000, 2_000_000])
def test_image_with_too_many_pixels_is_not_decoded(side: int, coop_root: Path) -> None:
    """The message has the image and the limit."""
    assert side**2 > MAX_PIXELS
    with pytest.raises(UndecodableError, match="more than the maximum of") as caught:
        ImageFile("bomb", png(side)).open()
    images = coop_root / "caltech-101/101_ObjectCategories"
    (images / "sea_horse/train0.jpg").write_bytes(png(side))
    dataset = load_dataset("caltech101", coop_root)
    text = str(diagnose_split(dataset, "train", caught.value))
    assert "1 image of train cannot be decoded" in text
    assert "more than the maximum of" in text


def test_postscript_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would start Ghostscript, whatever the file is called."""
    Image.init()
    assert "EPS" in Image.OPEN
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(UndecodableError):
        ImageFile("x.jpg", content).open()


_TRICKS = st.sampled_from(
    [
        "../x.jpg", "/etc/passwd", "a/../../b", "\0", "\ud800", "..\\x", "C:/x", "", ".", "x" * 300,
        "sea_horse/train0.jpg", "./sea_horse/train0.jpg", "café/test0.jpg", "sea_horse", "café",
    ]
)  # fmt: skip
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | _TRICKS
    | st.sampled_from([2**31, 2**64, 10**30, -1, 0, 1]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["train", "val", "test", "x"]), inner, max_size=4),
    max_leaves=6,
)  # fmt: skip
_PLACES = st.tuples(
    st.sampled_from(["train", "val", "test"]), st.integers(0, 11) | st.none(), st.integers(0, 3)
)
_EDITS = st.lists(st.tuples(_PLACES, _JSON), min_size=1, max_size=3)
_LINES = st.lists(
    st.sampled_from(["Yak-42", "A300B4", "0000000 Yak-42", "../x Yak-42", "\x1b[2J", "n01440764 a"])
    | st.sampled_from(["n01440764 \x1b[2J", *(f"{wnid} {name}" for wnid, name in WNIDS.items())])
    | st.sampled_from(["café,a", "dog,b", "dog,\x1b[2J", "folder,name", 'dog,"'])
    | st.text(max_size=8),
    max_size=6,
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five sound datasets."""
    root = tmp_path_factory.mktemp("data")
    for name in ("caltech101", "fgvc_aircraft", "imagenet", "cub", "image_folder:pets"):
        LAYOUTS[name](root)
    (root / "pets/class_names.csv").write_text("café,a\ndog,b")
    return root


def check(name: str, root: Path, images: Path) -> None:
    """Check for a dataset whose images are its own, or faults of one line each."""
    try:
        dataset = load_dataset(name, root)
    except DatasetError as error:
        assert error.faults
        assert all(fault and "\n" not in fault and "\x1b" not in fault for fault in error.faults)
        return
    seen: dict[Path, str] = {}
    for split, part in dataset.splits.items():
        assert len(part.images) == len(part.labels)
        assert all(0 <= label < len(dataset.class_names) for label in part.labels)
        for image in part.images:
            assert isinstance(image.source, Path)
            where = image.source.resolve()
            assert where.is_relative_to(images.resolve())
            assert seen.setdefault(where, split) == split
            image.open()
    assert all(name.isprintable() for name in dataset.class_names)


def look(name: str, root: Path, images: str, path: Path, content: bytes) -> None:
    """Check while a file has another content."""
    sound = path.read_bytes()
    path.write_bytes(content)
    try:
        check(name, root, root / images)
    finally:
        path.write_bytes(sound)


@example([(("train", 0, 1), 2**64)])
@example([(("test", 0, 0), "\ud800")])
@example([(("test", 0, 0), "./sea_horse/train0.jpg")])
@given(edits=_EDITS)
def test_random_split_files_are_datasets_or_faults(root: Path, edits: list[Any]) -> None:
    """Random JSON in CoOp's file gives a dataset inside its folder or faults."""
    path = root / "caltech-101" / SPLIT_FILE
    document = json.loads(path.read_text("utf-8"))
    for (split, row, field), value in edits:
        rows = document.get(split)
        if row is None or not isinstance(rows, list) or row >= len(rows):
            document[split] = value
        elif field < 3 and isinstance(rows[row], list) and field < len(rows[row]):
            rows[row][field] = value
        else:
            rows[row] = value
    content = json.dumps(document).encode()
    look("caltech101", root, "caltech-101/101_ObjectCategories", path, content)


@given(name=st.sampled_from(["res101.mat", "att_splits.mat"]), damage=DAMAGE)
def test_random_matlab_files_are_datasets_or_faults(root: Path, name: str, damage: Damage) -> None:
    """Changed or truncated files of xlsa17 give a dataset or faults."""
    path = root / "xlsa17/data/CUB" / name
    look("cub", root, "CUB_200_2011/images", path, apply_damage(path.read_bytes(), damage))


@given(lines=_LINES)
def test_random_lists_are_datasets_or_faults(root: Path, lines: list[str]) -> None:
    """Random lists of FGVC-Aircraft, ImageNet and class names give a dataset or faults."""
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    for name in ("variants.txt", "images_variant_val.txt"):
        path = root / "fgvc_aircraft" / name
        look("fgvc_aircraft", root, "fgvc_aircraft/images", path, content)
    look("imagenet", root, "imagenet/images", root / "imagenet/classnames.txt", content)
    look("image_folder:pets", root, "pets", root / "pets/class_names.csv", content)
