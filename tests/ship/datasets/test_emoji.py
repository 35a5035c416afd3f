"""The packaged pictures."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ship.datasets import DatasetError, check_dataset, load_dataset
from ship.datasets.emoji import EmojiDataset
from ship.datasets.survey import raise_faults
from ship.pocket import EMOJI_PARQUET


def test_the_packaged_table_loads() -> None:
    """Labels follow the sorted class names, every class is in every split, pictures open."""
    check_dataset("emoji")
    dataset = load_dataset("emoji")
    assert list(dataset.class_names) == sorted(dataset.class_names)
    for split in dataset.splits.values():
        assert set(split.labels.tolist()) == set(range(len(dataset.class_names)))
    table = pl.read_parquet(EMOJI_PARQUET, columns=["class_name", "icon", "split"])
    rows = table.filter(split="test")
    test = dataset.splits["test"]
    assert [picture.name for picture in test.pictures] == rows["icon"].to_list()
    assert [dataset.class_names[label] for label in test.labels] == rows["class_name"].to_list()
    assert np.asarray(test.pictures[0].open()).shape == (128, 128, 3)


@pytest.mark.parametrize("content", [None, b"", b"not a table"])
def test_a_broken_install_is_named(tmp_path: Path, content: bytes | None) -> None:
    """A missing, empty or foreign file says which file, and what to do."""
    path = tmp_path / "emoji.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match="install ship-sweep again") as caught:
        raise_faults(EmojiDataset(path).survey("emoji", None))
    assert str(path) in str(caught.value)
