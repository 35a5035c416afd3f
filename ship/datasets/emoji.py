"""The packaged picture set: drawings of concrete things, one parquet file (see ship/pocket)."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from ship.datasets.base import SPLITS, Picture, Split, clean_class_name
from ship.datasets.survey import Survey
from ship.pocket import EMOJI_PARQUET

COLUMNS: Final = ("image", "class_name", "icon", "split")
"""The columns that loading needs, of those that ship.pocket.scripts.build_emoji writes."""


@dataclass(frozen=True)
class EmojiDataset:
    """The packaged pictures; labels follow the sorted class names. Needs no data root."""

    path: Path = EMOJI_PARQUET
    template: str = "a photo of a {}."

    def survey(self, name: str, data_root: Path | None) -> Survey:
        """Read every row into memory (a few MB); the fingerprint hashes the file."""
        advice = "install ship-sweep again"
        if not self.path.is_file() or self.path.stat().st_size == 0:
            fault = f"dataset {name}: {self.path} is missing or empty; {advice}"
            return Survey(faults=(fault,))
        content = self.path.read_bytes()
        try:
            table = pl.read_parquet(content, columns=list(COLUMNS))
        except (pl.exceptions.PolarsError, OSError) as why:
            reason = str(why).splitlines()[0]
            fault = f"dataset {name}: {self.path} cannot be read ({reason}); {advice}"
            return Survey(faults=(fault,))
        raw_names = sorted(table["class_name"].unique().to_list())
        label_of = {raw: label for label, raw in enumerate(raw_names)}
        splits = {split: _split(table.filter(split=split), label_of) for split in SPLITS}
        fingerprint = hashlib.sha256(content + self.template.encode()).hexdigest()[:32]
        class_names = tuple(clean_class_name(raw) for raw in raw_names)
        return Survey(class_names, splits, fingerprint=fingerprint)


def _split(rows: pl.DataFrame, label_of: dict[str, int]) -> Split:
    pictures = tuple(
        Picture(icon, image) for icon, image in zip(rows["icon"], rows["image"], strict=True)
    )
    labels = np.array([label_of[raw] for raw in rows["class_name"]], dtype=np.int64)
    return Split(pictures, labels)
