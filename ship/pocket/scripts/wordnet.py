"""Concepts of photographs: ImageNet's classes and the WordNet nouns around them.

ImageNet-1k names 1,000 things; WordNet says what they are kinds of, and which other things are
kinds of the same. A noun above some classes ("dog", "vehicle") stands for all of them; a noun
beside them ("gerenuk") stands where its nearest ancestor with classes ("antelope") stands.
"""

import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import open_clip
from timm.data.imagenet_info import ImageNetInfo

ARCHIVE: Final = "WNdb-3.0.tar.gz"
PERSON: Final = "n00007846"
"""Left out with all its kinds: WordNet's words for people are no labels for pictures."""

MAX_MEMBERS: Final = 150
"""A noun above more classes than this ("artifact") says too little."""

MAX_INHERITED: Final = 40
"""The same for a noun that only inherits its classes from an ancestor."""

MAX_STEPS: Final = 2
"""How far above a noun its ancestor with classes may lie."""

PLANT: Final = "n00017222"
"""Its kinds inherit nothing: ImageNet-1k shows too few plants to stand for thousands."""


@dataclass(frozen=True)
class Synset:
    """A WordNet noun: its synonyms and the synsets that it is a kind of."""

    lemmas: tuple[str, ...]
    hypernyms: tuple[str, ...]


@dataclass(frozen=True)
class Concept:
    """Names for a thing and the ImageNet classes whose pictures show it or its nearest kin."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    """What it is a kind of; may be empty."""
    members: tuple[int, ...]
    """ImageNet-1k indices, at least one."""


def read_nouns(package: Path) -> dict[str, Synset]:
    """All nouns of WordNet 3.0 by id ("n" and eight digits)."""
    nouns = {}
    for line in _lines(package, "data.noun"):
        # offset file type count (lemma id)*count pointers (symbol offset type source)* | gloss
        fields = line.split(" | ")[0].split()
        count = int(fields[3], 16)
        lemmas = tuple(word.replace("_", " ") for word in fields[4 : 4 + 2 * count : 2])
        pointers = fields[5 + 2 * count :]
        hypernyms = tuple(
            f"n{pointers[i + 1]}" for i in range(0, len(pointers), 4) if pointers[i] == "@"
        )
        nouns[f"n{fields[0]}"] = Synset(lemmas, hypernyms)
    return nouns


def read_senses(package: Path) -> dict[str, list[str]]:
    """The synsets of every noun in lower case, its commonest sense first."""
    senses = {}
    for line in _lines(package, "index.noun"):
        fields = line.split()
        count = int(fields[2])
        senses[fields[0].replace("_", " ")] = [f"n{offset}" for offset in fields[-count:]]
    return senses


def _lines(package: Path, name: str) -> Iterator[str]:
    """The entries of a file of the database; the licence at its head is indented."""
    with tarfile.open(package / ARCHIVE) as archive:
        file = archive.extractfile(f"dict/{name}")
        if file is None:
            raise ValueError(f"{ARCHIVE} has no dict/{name}")
        for raw in file:
            if not raw.startswith(b" "):
                yield raw.decode("utf-8").strip()


def image_concepts() -> list[Concept]:
    """The 1,000 ImageNet classes, in order, by CLIP's names and WordNet's synonyms."""
    info: Any = ImageNetInfo("imagenet-1k")
    concepts = []
    for index, name in enumerate(open_clip.IMAGENET_CLASSNAMES):
        synonyms = info.index_to_description(index).split(",")
        names = [name, *(synonym.strip() for synonym in synonyms)]
        concepts.append(Concept(tuple(dict.fromkeys(n.lower() for n in names)), (), (index,)))
    return concepts


def related_concepts(package: Path) -> list[Concept]:
    """Nouns of ImageNet-12k above and beside ImageNet-1k's classes.

    A word goes to the commonest of its senses that is a concept here, and never to a noun beside
    a class that already bears it.
    """
    nouns, senses = read_nouns(package), read_senses(package)
    classes = _synsets("imagenet-1k")
    below = _classes_below(nouns, classes)
    taken = {name for concept in image_concepts() for name in concept.names}
    members: dict[str, tuple[int, ...]] = {}
    for synset in sorted({*below, *_synsets("imagenet-12k")}):
        known = synset in nouns and synset not in classes
        if known and (found := _nearest_members(nouns, below, synset)):
            members[synset] = found
    concepts = []
    for synset, indices in members.items():
        names = []
        for lemma in dict.fromkeys(word.lower() for word in nouns[synset].lemmas):
            first = next((s for s in senses.get(lemma, ()) if s in members), synset)
            if lemma not in taken and first == synset:
                names.append(lemma)
        if names:
            kinds = tuple(nouns[parent].lemmas[0].lower() for parent in nouns[synset].hypernyms)
            concepts.append(Concept(tuple(names), kinds, indices))
    return concepts


def _synsets(subset: str) -> list[str]:
    """Ids of a subset of ImageNet's classes, in the order of its indices."""
    info: Any = ImageNetInfo(subset)
    return list(info.label_names())


def _classes_below(nouns: dict[str, Synset], classes: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """For every noun the indices of the ImageNet classes that are kinds of it."""
    below: dict[str, list[int]] = defaultdict(list)
    for index, synset in enumerate(classes):
        for ancestor in _ancestors(nouns, synset):
            below[ancestor].append(index)
    return {synset: tuple(indices) for synset, indices in below.items()}


def _ancestors(nouns: dict[str, Synset], synset: str) -> dict[str, int]:
    """The noun and all it is a kind of, nearest first, with the steps to each."""
    steps = {synset: 0}
    queue = [synset]
    for noun in queue:
        for parent in nouns[noun].hypernyms:
            if parent not in steps:
                steps[parent] = steps[noun] + 1
                queue.append(parent)
    return steps


def _nearest_members(
    nouns: dict[str, Synset], below: dict[str, tuple[int, ...]], synset: str
) -> tuple[int, ...]:
    """Classes below the noun, else below its nearest ancestor that has some; often none."""
    ancestors = _ancestors(nouns, synset)
    if PERSON in ancestors:
        return ()
    if synset in below:
        return below[synset] if len(below[synset]) <= MAX_MEMBERS else ()
    nearest = next((ancestor for ancestor in ancestors if ancestor in below), None)
    if nearest is None or PLANT in ancestors or ancestors[nearest] > MAX_STEPS:
        return ()
    return below[nearest] if len(below[nearest]) <= MAX_INHERITED else ()
