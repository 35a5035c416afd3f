"""Trunk features of every view of every pretraining icon, computed once and kept on disk."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ship.pocket.scripts.image_tower import pooled_features
from ship.pocket.scripts.render import decode
from ship.pocket.scripts.views import Looks, plain_view, random_view

RANDOM_VIEWS: Final = 6
"""Augmented views of each icon, beside the icon as it is."""


@dataclass(frozen=True)
class ViewCache:
    """What training needs of the pictures; view 0 is the icon as it is."""

    features: Tensor
    """(views, icons, 1280), half precision."""
    looks: list[list[Looks]]
    """[view][icon]."""
    hexcodes: list[str]
    """[icon]."""
    styles: list[str]
    """[icon]."""


def build_views(pictures: pl.DataFrame, trunk: nn.Module, seed: int, folder: Path) -> ViewCache:
    """Compute, or read from `folder`, the features of all views of the rendered icons.

    Args:
        pictures: columns hexcode, style and image.
        trunk: the frozen image trunk.
        seed: each view has its own stream of random numbers, seeded by this and its number.
        folder: every finished view is kept here, so an interrupted run goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images = [decode(image) for image in pictures["image"]]
    views = [
        _one_view(images, view, trunk, seed, folder / f"view{view}")
        for view in range(1 + RANDOM_VIEWS)
    ]
    return ViewCache(
        features=torch.stack([features for features, _ in views]),
        looks=[looks for _, looks in views],
        hexcodes=pictures["hexcode"].to_list(),
        styles=pictures["style"].to_list(),
    )


def _one_view(
    images: list[Image.Image], view: int, trunk: nn.Module, seed: int, stem: Path
) -> tuple[Tensor, list[Looks]]:
    """Features (icons, 1280) and looks of one view of all icons."""
    tensor_file, table_file = stem.with_suffix(".safetensors"), stem.with_suffix(".parquet")
    if not tensor_file.exists():
        looks: list[Looks] = []
        rng = random.Random(f"{seed}:{view}")

        def pictures() -> Iterator[Image.Image]:
            for image in images:
                picture, look = plain_view(image) if view == 0 else random_view(image, rng)
                looks.append(look)
                yield picture

        features = pooled_features(trunk, pictures())
        pl.DataFrame([look.row() for look in looks]).write_parquet(table_file)
        save_file({"features": features}, tensor_file)
    table = pl.read_parquet(table_file)
    return load_file(tensor_file)["features"], [Looks(**row) for row in table.iter_rows(named=True)]
