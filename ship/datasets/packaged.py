"""The packaged picture sets, one parquet file each (see ship/pocket)."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from ship.datasets.base import SPLITS, Picture, Split
from ship.datasets.layout import PHOTO
from ship.datasets.names import clean_class_name
from ship.datasets.survey import Survey
from ship.pocket import EMOJI_PARQUET, PHOTOS_PARQUET


@dataclass(frozen=True)
class PackagedDataset:
    """Pictures that come with ship-sweep; labels follow the sorted class names. No data root.

    path: a parquet file with the columns image (encoded bytes), class_name, split, and the one
        that is called naming. naming: the column with a picture's name. about: what they show, in
        a sentence for lists of datasets. template: a prompt with one {} for a class name.
    """

    path: Path
    naming: str
    about: str
    template: str = PHOTO

    def survey(self, name: str, data_root: Path | None) -> Survey:
        """Read every row into memory (some MB); the fingerprint hashes file and template.

        A file that is missing, empty or of another kind is a fault of the survey: nothing is
        raised.
        """
        columns = ["image", "class_name", self.naming, "split"]
        try:
            content = self.path.read_bytes()
            table = pl.read_parquet(content, columns=columns)
        except (pl.exceptions.PolarsError, OSError) as why:
            what = f"{self.path} cannot be read ({str(why).splitlines()[0]})"
            return Survey(faults=(f"dataset {name}: {what}; install ship-sweep again",))
        raw_names = sorted(table["class_name"].unique().to_list())
        label_of = {raw: label for label, raw in enumerate(raw_names)}
        splits = {s: self._split(table.filter(split=s), label_of) for s in SPLITS}
        fingerprint = hashlib.sha256(content + self.template.encode()).hexdigest()[:32]
        class_names = tuple(clean_class_name(raw) for raw in raw_names)
        return Survey(class_names, splits, fingerprint=fingerprint)

    def _split(self, rows: pl.DataFrame, label_of: dict[str, int]) -> Split:
        pairs = zip(rows[self.naming], rows["image"], strict=True)
        labels = np.array([label_of[raw] for raw in rows["class_name"]], dtype=np.int64)
        return Split(tuple(Picture(called, image) for called, image in pairs), labels)


PACKAGED_DATASETS: Final = {
    "emoji": PackagedDataset(
        EMOJI_PARQUET,
        "icon",
        "Packaged drawings of concrete things by six icon sets. Needs no data root.",
    ),
    "photos": PackagedDataset(
        PHOTOS_PARQUET,
        "picture",
        "Packaged photographs, a fixed part of Caltech-101. Needs no data root.",
    ),
}
"""By name; ship/pocket/NOTICE says how their files were made."""
