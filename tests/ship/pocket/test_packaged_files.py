"""The packaged model and pictures: the files themselves, and what ship reads of them.

They were made once (ship/pocket/NOTICE) and do not change: results that are on record hang on each
byte of them.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from ship.clip import FrozenCLIP
from ship.datasets.base import Picture, clean_class_name
from ship.pocket import BPE_PATH, DEMONSTRATION_NOTE, EMOJI_PARQUET, MODEL_DIR, PHOTOS_PARQUET

ZERO_SHOT_BOUND = 0.48
"""Of every tenth test picture of emoji; NOTICE has the figure over all."""


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
def test_the_files_are_those_of_the_notice(name: str, digest: str, most: float) -> None:
    """The same bytes, few enough to ship, and readable by every user."""
    path = MODEL_DIR / name
    assert hashlib.sha256(path.read_bytes()).hexdigest()[:32] == digest
    assert path.stat().st_size < most
    assert path.stat().st_mode & 0o444 == 0o444


def test_every_drawing_names_its_licence() -> None:
    """One for each style, the ones that NOTICE lists; none asks to share alike."""
    drawings = pl.read_parquet(EMOJI_PARQUET, columns=["style", "licence"]).unique()
    notice = (MODEL_DIR / "NOTICE").read_text("utf-8").splitlines()
    for style, licence in drawings.rows():
        assert any(line.startswith(f"{style} ") and line.endswith(licence) for line in notice)
        assert "SA" not in licence


def test_photographs_of_each_class() -> None:
    """99 classes without people's faces; 16, 4 and 10 pictures, but for the few of NOTICE."""
    photos = pl.read_parquet(PHOTOS_PARQUET, columns=["class_name", "split"])
    usual, names = {"train": 16, "val": 4, "test": 10}, photos["class_name"].unique()
    assert len(names) == 99 and not any(name.lower().startswith("face") for name in names)
    counts = Counter(photos.rows())
    assert sum(counts[name, split] != usual[split] for name in names for split in usual) == 7


def test_importing_the_paths_is_light() -> None:
    """They cost no torch."""
    code = "import sys, ship.pocket; sys.exit('torch' in sys.modules or 'polars' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "demonstration" in DEMONSTRATION_NOTE


def test_the_tokenizer_splits_class_names_as_clips_does() -> None:
    """Its merges are a part of CLIP's; that they are fewer changed no class name's tokens."""
    full, cut = SimpleTokenizer(), SimpleTokenizer(bpe_path=str(BPE_PATH))
    for name in pl.read_parquet(EMOJI_PARQUET, columns=["class_name"])["class_name"].unique():
        prompt = f"a photo of a {name}."
        parts = [full.decoder[token] for token in full.encode(prompt)]
        assert [cut.decoder[token] for token in cut.encode(prompt)] == parts


def test_the_backbone_names_drawings() -> None:
    """Every tenth test picture, well above the bound, where chance is 0.3%."""
    drawings = pl.read_parquet(EMOJI_PARQUET)
    names = drawings["class_name"].unique().sort().to_list()
    sample = drawings.filter(pl.col("split") == "test").gather_every(10)
    clip = FrozenCLIP.load("pocket")
    pictures = [Picture("", image).open().convert("RGB") for image in sample["image"]]
    seen = clip.encode_images(torch.stack([clip.preprocess(picture) for picture in pictures]))
    texts = clip.encode_texts([f"a photo of a {name}." for name in names])
    labels = torch.tensor([names.index(name) for name in sample["class_name"]])
    assert ((seen @ texts.T).argmax(1) == labels).float().mean() > ZERO_SHOT_BOUND


@pytest.mark.data
def test_names_and_splits_of_photographs_are_coops() -> None:
    """Every class but faces, by its name, and every picture in the split where CoOp has it."""
    folder = Path(os.environ.get("SHIP_DATA_ROOT", "")) / "caltech-101"
    if "SHIP_DATA_ROOT" not in os.environ or not folder.is_dir():
        pytest.skip("SHIP_DATA_ROOT names no folder with caltech-101")
    splits = json.loads((folder / "split_zhou_Caltech101.json").read_text("utf-8"))
    rows = {
        (clean_class_name(name), path, split)
        for split, pictures in splits.items()
        for path, _, name in pictures
    }
    photos = pl.read_parquet(PHOTOS_PARQUET, columns=["class_name", "picture", "split"])
    assert {name for name, _, _ in rows} - set(photos["class_name"]) == {"face"}
    assert set(photos.rows()) < rows
