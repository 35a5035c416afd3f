"""ship-sweep prefetch downloads files and extracts features of a study without running it."""

from pathlib import Path

import pytest
import torchvision.datasets

from ship.clip import FrozenCLIP
from tests.harness.cli.conftest import invoke
from tests.harness.fakes import draw_images
from tests.ship.datasets.conftest import save_image

SPACE = ("--space", "prompt_len")


def test_prefetch_extracts_features_once(tmp_path: Path) -> None:
    """The features are in the cache that the study reads, and a second command does nothing."""
    draw_images(tmp_path)
    arguments = ("--set", "dataset=image_folder:few", "--data-root", str(tmp_path))
    cache = tmp_path / "cache"
    outputs = []
    for _ in range(2):
        result = invoke("prefetch", "features", *SPACE, *arguments, "--cache-dir", str(cache))
        assert (result.exit_code, result.stderr) == (0, "")
        outputs.append(result.stdout.splitlines())
    assert len(list(cache.glob("*.safetensors"))) == 3
    assert [line for line in outputs[0] if line.startswith("features: image_folder:few")]
    assert outputs[1] == [
        "weights of pocket: available",
        "images of image_folder:few: available",
        f"1 feature set in {cache}",
    ]
    assert not list((tmp_path / "here").iterdir())


def test_prefetch_names_files_that_cannot_be_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights are downloaded first. Then the study is refused because of the missing file."""
    backbones: list[str] = []

    def download(root: str, download: bool) -> None:
        save_image(Path(root) / "caltech101" / "101_ObjectCategories" / "a" / "0.jpg")

    monkeypatch.setattr(torchvision.datasets, "Caltech101", download)
    monkeypatch.setattr(FrozenCLIP, "load", lambda name, **_: backbones.append(name))
    data_root = tmp_path / "data"
    result = invoke(
        "prefetch", "downloads", *SPACE, "--set", "dataset=caltech101",
        "--set", "space.backbone=[pocket, RN50:openai]", "--data-root", str(data_root),
    )  # fmt: skip
    assert backbones == ["pocket", "RN50:openai"]
    assert (data_root / "caltech-101" / "101_ObjectCategories" / "a" / "0.jpg").is_file()
    split_file = data_root / "caltech-101" / "split_zhou_Caltech101.json"
    assert f"the split file is still missing. Download it by hand to {split_file}" in result.stdout
    assert result.exit_code == 2
    assert f"{split_file}: cannot be read: No such file" in result.stderr
