"""The packaged pictures, as datasets."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ship.datasets import PACKAGED, DatasetError, PackagedDataset, load_dataset
from ship.pocket import EMOJI_PARQUET


@pytest.mark.parametrize(("name", "short_side"), [("emoji", 128), ("photos", 128)])
def test_the_packaged_table_loads(name: str, short_side: int) -> None:
    """Labels follow the sorted class names, every class is in every split, pictures open."""
    dataset = load_dataset(name)
    assert list(dataset.class_names) == sorted(dataset.class_names)
    assert dataset.template == "a photo of a {}."
    for split in dataset.splits.values():
        assert set(split.labels.tolist()) == set(range(len(dataset.class_names)))
    spec = PACKAGED[name]
    table = pl.read_parquet(spec.path, columns=["class_name", spec.naming, "split"])
    rows = table.filter(split="test")
    test = dataset.splits["test"]
    assert [picture.name for picture in test.pictures] == rows[spec.naming].to_list()
    assert [dataset.class_names[label] for label in test.labels] == rows["class_name"].to_list()
    pixels = np.asarray(test.pictures[0].open())
    assert min(pixels.shape[:2]) == short_side
    assert pixels.shape[2] == 3


def test_the_fingerprint_of_emoji_stays() -> None:
    """Results that were stored earlier are keyed by it."""
    assert load_dataset("emoji").fingerprint == "648ea3641c7d66d81ff9642de7c7290d"


@pytest.mark.parametrize("content", [None, b"", b"not a table", EMOJI_PARQUET.read_bytes()])
def test_a_broken_install_is_named(tmp_path: Path, content: bytes | None) -> None:
    """A missing, empty or foreign file, or one of other columns: which it is, and what to do."""
    path = tmp_path / "photos.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match="; install ship-sweep again") as caught:
        PackagedDataset(path, "picture", "photographs").survey("photos", None)
    assert str(path) in str(caught.value)
