"""The packaged images and model, which never change: published results depend on their bytes."""

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from ship.clip import FrozenCLIP
from ship.datasets import PACKAGED, DatasetError, PackagedDataset, load_dataset
from ship.datasets.base import ImageFile
from ship.pocket import EMOJI_PARQUET, MODEL_DIR


@pytest.mark.parametrize(("name", "short_side"), [("emoji", 128), ("photos", 128)])
def test_packaged_dataset_loads(name: str, short_side: int) -> None:
    """Labels follow sorted names, every class is in every split, and images open."""
    dataset = load_dataset(name)
    assert list(dataset.class_names) == sorted(dataset.class_names)
    assert dataset.template == "a photo of a {}."
    for split in dataset.splits.values():
        assert set(split.labels.tolist()) == set(range(len(dataset.class_names)))
    spec = PACKAGED[name]
    table = pl.read_parquet(spec.path, columns=["class_name", spec.image_name_column, "split"])
    rows = table.filter(split="test")
    test = dataset.splits["test"]
    assert [image.name for image in test.images] == rows[spec.image_name_column].to_list()
    assert [dataset.class_names[label] for label in test.labels] == rows["class_name"].to_list()
    pixels = np.asarray(test.images[0].open())
    assert min(pixels.shape[:2]) == short_side
    assert pixels.shape[2] == 3


def test_fingerprint_of_emoji_is_pinned() -> None:
    """Stored results are keyed by it."""
    assert load_dataset("emoji").fingerprint == "648ea3641c7d66d81ff9642de7c7290d"


@pytest.mark.parametrize("content", [None, b"", b"not a table", EMOJI_PARQUET.read_bytes()])
def test_broken_installation_is_reported(tmp_path: Path, content: bytes | None) -> None:
    """The message has the file and advice for missing, empty and foreign files."""
    path = tmp_path / "photos.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match="Reinstall ship-sweep") as caught:
        PackagedDataset(path, "picture", "photographs").scan("photos", None)
    assert str(path) in str(caught.value)


ZERO_SHOT_BOUND = 0.48
"""Of every tenth test image of emoji; NOTICE has the figure over all."""


@pytest.mark.parametrize(
    ("name", "digest", "most"),
    [
        ("open_clip_model.safetensors", "a580f576732d86e7223693fcbfcea761", 16.5e6),
        ("open_clip_config.json", "e92af948d5e5d77f3779efa7bfd8a39d", 2e3),
        ("bpe_pocket.txt.gz", "582aa59729a7664db1dfea04a523433f", 1e5),
        ("emoji.parquet", "b41ae4f40d21b0d8f4fde3c9df8d03bf", 6e6),
        ("photos.parquet", "5828ec97f1fb618903e9457bb194810d", 16e6),
    ],
)
def test_packaged_files_match_the_notice(name: str, digest: str, most: float) -> None:
    """Checksums and sizes match, and every user can read the files."""
    path = MODEL_DIR / name
    assert hashlib.sha256(path.read_bytes()).hexdigest()[:32] == digest
    assert path.stat().st_size < most
    assert path.stat().st_mode & 0o444 == 0o444


def test_every_drawing_has_a_license() -> None:
    """Each style has the license in NOTICE; none requires share-alike."""
    drawings = pl.read_parquet(EMOJI_PARQUET, columns=["style", "licence"]).unique()
    notice = (MODEL_DIR / "NOTICE").read_text("utf-8").splitlines()
    for style, licence in drawings.rows():
        assert any(line.startswith(f"{style} ") and line.endswith(licence) for line in notice)
        assert "SA" not in licence


def test_pocket_classifies_drawings() -> None:
    """Accuracy on every tenth test image is far above chance."""
    drawings = pl.read_parquet(EMOJI_PARQUET)
    names = drawings["class_name"].unique().sort().to_list()
    sample = drawings.filter(pl.col("split") == "test").gather_every(10)
    clip = FrozenCLIP.load("pocket")
    images = [ImageFile("", data).open().convert("RGB") for data in sample["image"]]
    seen = clip.encode_images(torch.stack([clip.preprocess(image) for image in images]))
    texts = clip.encode_texts([f"a photo of a {name}." for name in names])
    labels = torch.tensor([names.index(name) for name in sample["class_name"]])
    assert ((seen @ texts.T).argmax(1) == labels).float().mean() > ZERO_SHOT_BOUND
