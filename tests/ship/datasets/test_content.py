"""Copies of images in several splits or classes, and the cache of file digests."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from PIL import Image, PngImagePlugin

from ship.datasets import DatasetError, ImageFile, load_dataset, scan_dataset
from ship.datasets import content as module
from ship.datasets.content import DigestCache, find_copies, hash_pixels
from tests.damage import DAMAGE, Damage, apply_damage
from tests.ship.datasets.conftest import save_image


def test_copies_are_reported_for_each_pair_of_splits() -> None:
    """The first five pairs are listed; equal names are reported by another check."""
    many = {f"dog/{i}.png": bytes([i]) for i in range(7)}
    copies = {f"cat/{i}.png": bytes([i]) for i in range(7)}
    assert find_copies("x", {"train": many, "val": {}, "test": copies}, {}) == [
        "x: 7 images of train also in test, under another name: dog/0.png = cat/0.png, "
        "dog/1.png = cat/1.png, dog/2.png = cat/2.png, dog/3.png = cat/3.png, "
        "dog/4.png = cat/4.png and 2 more"
    ]
    files = {"a.png": b"1"}
    assert find_copies(
        "x", {"train": {"t.png": b"2"}, "val": files, "test": {"b.png": b"1"}}, {}
    ) == ["x: 1 image of val also in test, under another name: a.png = b.png"]
    assert find_copies("x", {"train": files, "val": {"v.png": b"1"}, "test": {}}, {}) == [
        "x: 1 image of train also in val, under another name: a.png = v.png"
    ]
    assert not find_copies("x", {"train": files, "val": {}, "test": files}, {})


def test_pixel_hash_ignores_format_and_metadata(tmp_path: Path) -> None:
    """Another lossless format has the same hash; a pixel or shape changes it."""
    save_image(tmp_path / "a.png")
    image = Image.open(tmp_path / "a.png")
    comment = PngImagePlugin.PngInfo()
    comment.add_text("date", "today")
    image.save(tmp_path / "b.png", pnginfo=comment)
    image.save(tmp_path / "c.bmp")
    names = ("a.png", "b.png", "c.bmp")
    assert len({hash_pixels(ImageFile(name, tmp_path / name)) for name in names}) == 1
    assert len({(tmp_path / name).read_bytes() for name in names}) == 3
    image.putpixel((0, 0), (1, 2, 3))
    image.save(tmp_path / "d.png")
    Image.new("RGB", (40, 32)).save(tmp_path / "e.png")
    Image.new("RGB", (32, 40)).save(tmp_path / "f.png")
    names = ("a.png", "d.png", "e.png", "f.png")
    assert len({hash_pixels(ImageFile(name, tmp_path / name)) for name in names}) == 4


def test_copies_across_splits_of_a_custom_folder_are_a_fault(folder_root: Path) -> None:
    """The line has both names of the copied image."""
    splits = scan_dataset("image_folder:pets", folder_root).splits
    train, test = splits["train"].images[0].name, splits["test"].images[0].name
    shutil.copy(folder_root / "pets" / train, folder_root / "pets" / test)
    with pytest.raises(DatasetError) as caught:
        load_dataset("image_folder:pets", folder_root)
    assert caught.value.faults == (
        "dataset image_folder:pets: 1 image of train also in test, under another name: "
        f"{train} = {test}",
    )


def test_image_in_two_classes_is_a_fault(folder_root: Path) -> None:
    """The line has both paths, whichever splits they are in."""
    splits = scan_dataset("image_folder:pets", folder_root).splits
    dog = splits["train"].images[0].name
    lion = next(p.name for p in splits["train"].images if p.name.startswith("sea"))
    shutil.copy(folder_root / "pets" / dog, folder_root / "pets" / lion)
    with pytest.raises(DatasetError) as caught:
        load_dataset("image_folder:pets", folder_root)
    where = "dataset image_folder:pets"
    assert caught.value.faults == (f"{where}: 1 image under two classes: {dog} = {lion}",)


def test_copies_in_a_published_split_only_cause_a_warning(
    coop_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Changing the split would make results incomparable with published ones."""
    images = coop_root / "caltech-101/101_ObjectCategories"
    shutil.copy(images / "sea_horse/train0.jpg", images / "sea_horse/test1.jpg")
    load_dataset("caltech101", coop_root)
    assert [r.message for r in caplog.records if r.levelno == logging.WARNING][1:] == [
        "dataset caltech101: 1 image of train also in test, under another name: "
        "sea_horse/train0.jpg = sea_horse/test1.jpg"
    ]


Counted = Callable[[], list[str]]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """A function that returns the names of images read since its last call."""
    names: list[str] = []
    plain = ImageFile.read

    def counted(image: ImageFile) -> bytes:
        names.append(image.name)
        return plain(image)

    def since() -> list[str]:
        result = sorted(names)
        names.clear()
        return result

    monkeypatch.setattr(ImageFile, "read", counted)
    return since


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests of files that were just written are cached, too."""
    monkeypatch.setattr(module, "_MIN_AGE_NS", -(10**18))


def disguised(path: Path) -> None:
    """Replace a file by another of the same size and mtime."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("change", [lambda path: save_image(path, 77, (20, 20)), disguised])
def test_only_the_changed_image_is_read_again(
    coop_root: Path, tmp_path: Path, reads: Counted, change: Callable[[Path], None]
) -> None:
    """The fingerprint follows the new content."""
    memory = tmp_path / "digests"
    first = load_dataset("caltech101", coop_root, memory)
    image = first.splits["train"].images[1]
    assert isinstance(image.source, Path)
    change(image.source)
    reads()
    result = load_dataset("caltech101", coop_root, memory)
    assert reads() == [image.name]
    assert result.fingerprint == load_dataset("caltech101", coop_root).fingerprint
    assert result.fingerprint != first.fingerprint
    reads()
    load_dataset("caltech101", coop_root, memory)
    assert reads() == []


def test_digest_of_a_just_written_image_is_not_cached(
    coop_root: Path, tmp_path: Path, reads: Counted
) -> None:
    """A coarse clock would hide another change within the same second."""
    for _ in range(2):
        load_dataset("caltech101", coop_root, tmp_path / "digests")
        assert len(reads()) == 12


def remembering(folder: Path, root: str = "x") -> DigestCache:
    """Return a digest cache for which no file is too recent."""
    return DigestCache(folder / "digests", root, now=lambda: 2**62)


@given(damage=DAMAGE)
def test_damaged_digest_cache_is_ignored(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    """Damaged or truncated caches cause the files to be read again."""
    folder = tmp_path_factory.mktemp("memory")
    save_image(folder / "a.png")
    image = ImageFile("a.png", folder / "a.png")

    def digest() -> bytes:
        memory = remembering(folder)
        result = memory.get_hash(image)
        memory.save()
        return result

    expected = digest()
    (file,) = (folder / "digests").iterdir()
    file.write_bytes(apply_damage(file.read_bytes(), damage))
    assert digest() == digest() == expected
