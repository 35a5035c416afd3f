"""ship-data from outside: what it lists and checks, and how it refuses."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from harness.data import cli as data_cli
from harness.data.sources import SOURCES
from ship.datasets import DATASETS
from ship.datasets.packaged import PACKAGED_DATASETS
from tests.ship.datasets.conftest import save_picture
from tests.ship.datasets.trees import LAYOUTS


def invoke(*args: str) -> Any:
    """Run the command in this process."""
    return CliRunner().invoke(data_cli.app, list(args))


def test_list_names_every_dataset_and_how_to_get_it() -> None:
    """Without a data root: names, published counts, folders and sources."""
    result = invoke("list")
    assert result.exit_code == 0
    for name in DATASETS:
        assert name in result.stdout
    assert "4128/1649/2465" in result.stdout
    for name, source in SOURCES.items():
        assert (f"{name}: {source.how}" in result.stdout) == (name not in PACKAGED_DATASETS)


def test_list_tells_present_missing_and_faulty_apart(tmp_path: Path) -> None:
    """A sound folder, one that is not there, and one with two faults."""
    LAYOUTS["awa2"](tmp_path)
    LAYOUTS["caltech101"](tmp_path)
    for path in ("train0.jpg", "train1.jpg"):
        (tmp_path / "caltech-101/101_ObjectCategories/café" / path).write_bytes(b"")
    (tmp_path / "caltech-101/101_ObjectCategories/café/test0.jpg").unlink()
    lines = invoke("list", "--data-root", str(tmp_path)).stdout.splitlines()
    cells = [line.split() for line in lines[: lines.index("faulty")]]
    state = {row[0]: row[3] for row in cells if row and row[0] in DATASETS}
    for name in ("emoji", "photos", "awa2"):
        assert state.pop(name) == "present"
    assert state.pop("caltech101") == "faulty"
    assert set(state.values()) == {"missing"}
    (fault,) = [line for line in lines if line.startswith("caltech101: ")]
    assert "1 missing picture: café/test0.jpg" in fault
    assert fault.endswith("(and 1 more: ship-data check caltech101)")
    assert not any(line.startswith("awa2: ") for line in lines)


def test_check_passes_what_is_sound(tmp_path: Path) -> None:
    """One's own folder has no published counts: all decoded, one line, exit 0."""
    LAYOUTS["image_folder:pets"](tmp_path)
    result = invoke("check", "image_folder:pets", "--data-root", str(tmp_path))
    assert result.exit_code == 0
    assert result.stdout == (
        "image_folder:pets: 4/2/2 pictures (train/val/test) of 2 classes, "
        "8 pictures decoded: sound\n"
    )
    assert result.stderr == ""


def test_check_finds_everything_at_once(tmp_path: Path) -> None:
    """Missing, empty, truncated, listed twice and shown by two splits; other counts are a warning.

    What a picture shows goes by its pixels, whatever the file's format and class. --quick decodes
    nothing, and finds the rest.
    """
    LAYOUTS["caltech101"](tmp_path)
    images = tmp_path / "caltech-101/101_ObjectCategories"
    (images / "café/train0.jpg").unlink()
    (images / "café/train1.jpg").write_bytes(b"")
    Image.open(images / "sea_horse/train0.jpg").save(images / "café/test1.jpg", format="PNG")
    truncated = images / "sea_horse/test0.jpg"
    truncated.write_bytes(truncated.read_bytes()[:400])
    path = tmp_path / "caltech-101/split_zhou_Caltech101.json"
    row = '"test": [["sea_horse/test1.jpg", 0, "sea_horse"], '
    path.write_text(path.read_text().replace('"test": [', row))
    result = invoke("check", "caltech101", "--data-root", str(tmp_path))
    assert result.exit_code == 2
    for words in (
        "1 missing picture: café/train0.jpg",
        "1 picture of zero bytes: café/train1.jpg",
        "1 picture more than once in test: sea_horse/test1.jpg",
        "json holds 6/2/5 pictures of 2 classes, the published one 4128/1649/2465 of 100",
        "1 undecodable picture: sea_horse/test0.jpg",
        "1 picture of train is also in test, under another name: sea_horse/train0.jpg = café/test1",
    ):
        assert words in result.stderr
    assert len(result.stderr.splitlines()) == 6
    assert result.stdout.endswith(
        "of 2 classes, 9 pictures decoded: 5 faults (differs from the published set)\n"
    )
    quick = invoke("check", "caltech101", "--data-root", str(tmp_path), "--quick")
    assert quick.exit_code == 2
    assert "nothing decoded: 3 faults" in quick.stdout


def test_check_warns_of_what_is_probably_a_mistake(tmp_path: Path) -> None:
    """Folders of pictures below classes and .heic are told, and the set stays usable."""
    LAYOUTS["image_folder:pets"](tmp_path)
    (tmp_path / "pets/dog/IMG.heic").write_bytes(b"x")
    for breed in ("beagle", "poodle"):
        save_picture(tmp_path / "pets/dog" / breed / "0.png")
    result = invoke("check", "image_folder:pets", "--data-root", str(tmp_path))
    assert result.exit_code == 0
    where = f"warning: {tmp_path / 'pets'}: "
    left_out, nested = result.stderr.splitlines()
    assert left_out.startswith(where + "1 file left out, which Pillow cannot read")
    assert left_out.endswith(": dog/IMG.heic")
    assert nested.endswith("all taken for one class: dog (2 folders)")


def test_check_names_classes_without_training_pictures(tmp_path: Path) -> None:
    """They can be tested as new classes, but not trained on; xlsa17's unseen ones need none."""
    LAYOUTS["caltech101"](tmp_path)
    path = tmp_path / "caltech-101/split_zhou_Caltech101.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["train"] = [row for row in document["train"] if row[1] == 1]
    path.write_text(json.dumps(document), encoding="utf-8")
    result = invoke("check", "caltech101", "--data-root", str(tmp_path), "--quick")
    assert result.exit_code == 0
    words = "warning: dataset caltech101: no training pictures of 1 class: sea horse"
    assert words in result.stderr.splitlines()
    assert result.stdout.endswith("; no training pictures of 1 class)\n")
    for name in ("cub", "imagenetv2"):
        LAYOUTS[name](tmp_path)
        stderr = invoke("check", name, "--data-root", str(tmp_path), "--quick").stderr
        assert "training" not in stderr


def test_check_says_which_official_split_it_is(tmp_path: Path) -> None:
    """The split's counts and hash stand in the output, to be quoted beside results."""
    LAYOUTS["cub"](tmp_path)
    result = invoke("check", "cub", "--data-root", str(tmp_path))
    assert "split of trainval 8, test_seen 2, test_unseen 2, sha256 " in result.stdout
    assert "do not say if it is version 1 or 2" in result.stdout
    assert "of 3 classes (2 seen)" in result.stdout


@pytest.mark.parametrize("name", LAYOUTS)
def test_check_decodes_every_layout(tmp_path: Path, name: str) -> None:
    """A truncated picture is found in each of them, and nothing else but the counts."""
    LAYOUTS[name](tmp_path)
    suffixes = {".jpg", ".JPEG"}
    path = min(path for path in tmp_path.rglob("*") if path.suffix in suffixes)
    path.write_bytes(path.read_bytes()[:400])
    result = invoke("check", name, "--data-root", str(tmp_path))
    assert result.exit_code == 2
    assert "1 undecodable picture: " in result.stderr
    others = [line for line in result.stderr.splitlines() if "undecodable" not in line]
    assert all(line.startswith("warning: ") and "published" in line for line in others)


@pytest.mark.data
def test_caltech101_as_published() -> None:
    """The real folder is sound in every respect: 8242 pictures decode."""
    if "SHIP_DATA_ROOT" not in os.environ:
        pytest.skip("SHIP_DATA_ROOT is not set")
    result = invoke("check", "caltech101", "--data-root", os.environ["SHIP_DATA_ROOT"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "4128/1649/2465" in result.stdout
    assert result.stdout.endswith("8242 pictures decoded: sound\n")
