"""The emoji, the icon sets and the rendered pictures, as both build commands use them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from ship.pocket.scripts import icons, packages, render
from ship.pocket.scripts.classes import ADDED_ICONS, REMOVED_ICONS

PRETRAINING_STYLES: Final = ("twemoji", "emojione", "emojione-monotone", "noto")
"""Drawing styles that train the pocket CLIP."""

DOWNSTREAM_STYLES: Final = (
    "fluent-emoji",
    "fluent-emoji-flat",
    "fluent-emoji-high-contrast",
    "fxemoji",
    "noto-v1",
    "streamline-emojis",
)
"""Drawing styles of the packaged dataset; the pocket CLIP never sees them."""


@dataclass(frozen=True)
class Catalogue:
    """Every emoji with the icons that draw it."""

    emojis: Sequence[icons.Emoji]
    sets: dict[str, icons.IconSet]
    matches: icons.Matches


def load_catalogue(work: Path) -> Catalogue:
    """Fetch the packages into `work` and match icons to emoji."""
    emojis = icons.read_emoji(packages.fetch(packages.EMOJIBASE, work))
    sets = {
        style: icons.read_icon_set(style, packages.fetch(package, work))
        for style, package in packages.ICON_SETS.items()
    }
    matches = icons.match_icons(emojis, list(sets.values()), ADDED_ICONS, REMOVED_ICONS)
    return Catalogue(emojis, sets, matches)


def render_icons(
    catalogue: Catalogue, styles: Collection[str], hexcodes: Collection[str], workers: int
) -> pl.DataFrame:
    """Pictures of the given styles and emoji.

    Returns:
        Columns hexcode, style, icon, image (lossless WebP); sorted by the first three.
    """
    rows = sorted(
        (hexcode, style, icon)
        for hexcode in hexcodes
        for style, names in catalogue.matches[hexcode].items()
        if style in styles
        for icon in names
    )
    svgs = [render.svg_document(catalogue.sets[style].data, icon) for _, style, icon in rows]
    images = render.render_all(svgs, workers)
    frame = pl.DataFrame(rows, schema=["hexcode", "style", "icon"], orient="row")
    return frame.with_columns(image=pl.Series(images, dtype=pl.Binary))
