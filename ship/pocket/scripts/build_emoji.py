"""Build the packaged picture set: python -m ship.pocket.scripts.build_emoji --work DIR

Columns of emoji.parquet, one row a picture, sorted by class_name, split, style and icon:
    image       lossless WebP, 128x128 RGB on white
    class_name  lower case, ASCII apostrophes
    style       the icon set that drew it; none of them trained the pocket CLIP
    licence     SPDX identifier of the set
    icon        "set:name"
    hexcode     the emoji's code points
    split       "train", "val" or "test"

The split is by family of drawings, so no two splits share an outline: the three fluent-* styles of
a class are one family, and so are the numbered variants of one streamline icon. Among all ways to
give the families of a class to the splits with at least 2 training, 1 validation and 1 test
picture, those with the most test pictures are kept, and one of them is drawn with a generator
seeded by SEED and the hexcode, so that adding a class changes no other's split.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Annotated, Final

import polars as pl
import typer

from ship.pocket import EMOJI_PARQUET
from ship.pocket.scripts import packages
from ship.pocket.scripts.catalogue import DOWNSTREAM_STYLES, load_catalogue, render_icons
from ship.pocket.scripts.classes import CONCRETE_GROUPS, EXCLUDED, class_name
from ship.pocket.scripts.icons import Emoji

SEED: Final = 0
SPLITS: Final = ("train", "val", "test")
MINIMUM: Final = {"train": 2, "val": 1, "test": 1}
COLUMNS: Final = ("image", "class_name", "style", "licence", "icon", "hexcode", "split")


def family(style: str) -> str:
    """The drawings that share outlines; within one class, icons of one family stay together."""
    return "fluent" if style.startswith("fluent-") else style


def possible_splits(sizes: Mapping[str, int]) -> list[dict[str, str]]:
    """The assignments family -> split that leave the most test pictures; empty if none is allowed.

    Args:
        sizes: pictures in each family.
    """
    families = sorted(sizes)
    best: list[dict[str, str]] = []
    most = 0
    for splits in product(SPLITS, repeat=len(families)):
        counts = dict.fromkeys(SPLITS, 0)
        for name, split in zip(families, splits, strict=True):
            counts[split] += sizes[name]
        if any(counts[split] < least for split, least in MINIMUM.items()):
            continue
        if counts["test"] > most:
            best, most = [], counts["test"]
        if counts["test"] == most:
            best.append(dict(zip(families, splits, strict=True)))
    return best


def choose_split(sizes: Mapping[str, int], hexcode: str) -> dict[str, str] | None:
    """One of the possible assignments, drawn by SEED and hexcode; None if there is none."""
    possible = possible_splits(sizes)
    return random.Random(f"{SEED}:{hexcode}").choice(possible) if possible else None


def candidates(
    emojis: Mapping[str, Emoji], matches: Mapping[str, Mapping[str, list[str]]]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Hexcode and family -> split of every class that has pictures enough."""
    for hexcode, emoji in emojis.items():
        label = emoji.label
        clock_face = label.endswith(("o’clock", "-thirty"))
        if emoji.group not in CONCRETE_GROUPS or label in EXCLUDED or clock_face:
            continue
        sizes: dict[str, int] = defaultdict(int)
        for style, names in matches[hexcode].items():
            if style in DOWNSTREAM_STYLES:
                sizes[family(style)] += len(names)
        if splits := choose_split(sizes, hexcode):
            yield hexcode, splits


def build(
    work: Annotated[Path, typer.Option(help="Folder for downloads.")],
    out: Annotated[Path, typer.Option(help="The parquet file to write.")] = EMOJI_PARQUET,
    workers: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Build the emoji dataset from the registries' packages."""
    catalogue = load_catalogue(work)
    emojis = {emoji.hexcode: emoji for emoji in catalogue.emojis}
    splits = dict(candidates(emojis, catalogue.matches))
    pictures = render_icons(catalogue, DOWNSTREAM_STYLES, list(splits), workers)
    keys = pictures.select("hexcode", "style", "icon").rows()
    frame = pictures.with_columns(
        class_name=pl.Series([class_name(emojis[h].label) for h, _, _ in keys]),
        licence=pl.Series([packages.ICON_SETS[style].licence for _, style, _ in keys]),
        icon=pl.Series([f"{style}:{icon}" for _, style, icon in keys]),
        split=pl.Series([splits[h][family(style)] for h, style, _ in keys]),
    )
    frame = frame.select(COLUMNS).sort("class_name", "split", "style", "icon")
    frame.write_parquet(out, compression="zstd")
    counts = ", ".join(f"{(frame['split'] == split).sum()} {split}" for split in SPLITS)
    typer.echo(f"{out}: {len(splits)} classes, {len(frame)} pictures ({counts})")


if __name__ == "__main__":
    typer.run(build)
