"""Sentences for the training pictures: emoji by name, keyword and looks; photographs by noun."""

import random
from collections.abc import Iterator, Sequence
from typing import Final

from ship.pocket.scripts.classes import class_name, plain
from ship.pocket.scripts.icons import Emoji
from ship.pocket.scripts.views import Looks
from ship.pocket.scripts.wordnet import Concept

PROMPT: Final = "a photo of a {}."
"""CLIP's prompt, which zero-shot use will read: a third of all captions."""

TEMPLATES: Final = (
    "a picture of a {}.",
    "an image of a {}.",
    "a {}.",
    "{}.",
    "an icon of a {}.",
    "a drawing of a {}.",
    "an emoji of a {}.",
    "a photo of the {}.",
    "a picture of the {}.",
    "this is a {}.",
    "a cartoon {}.",
    "a sketch of a {}.",
    "there is a {} in the picture.",
    "a photo of one {}.",
    "a rendering of a {}.",
    "clip art of a {}.",
    "a small {}.",
    "a good picture of a {}.",
    "art of the {}.",
)

LOOK_TEMPLATES: Final = (PROMPT, *TEMPLATES[:6])
GRAY_TEMPLATES: Final = (
    "a black and white picture of a {}.",
    "a grayscale image of a {}.",
    "a gray {}.",
    "a monochrome drawing of a {}.",
)
GROUNDS: Final = (" on a {} background.", " on {}.")


def emoji_names(emoji: Emoji) -> tuple[str, ...]:
    """The class name first, then emojibase's own label and up to three shortcodes."""
    codes = (code.replace("-", " ") for code in emoji.shortcodes)
    names = dict.fromkeys([class_name(emoji.label), plain(emoji.label), *codes])
    return tuple(names)[:5]


def framed(name: str, rng: random.Random) -> str:
    """A name in one of the templates."""
    return (PROMPT if rng.random() < 0.33 else rng.choice(TEMPLATES)).format(name)


def emoji_caption(emoji: Emoji, looks: Looks, rng: random.Random) -> str:
    """A sentence for one view of an emoji; 4 in 10 tell its looks."""
    name = _emoji_name(emoji, rng)
    if rng.random() < 0.6:
        return framed(name, rng)
    if looks.gray and rng.random() < 0.8:
        return rng.choice(GRAY_TEMPLATES).format(name)
    chance = rng.random()
    if chance < 0.45 and looks.size:
        name = f"{looks.size} {name}"
    if chance > 0.25 and not looks.gray:
        name = f"{looks.colour} {name}"
    sentence = rng.choice(LOOK_TEMPLATES).format(name)
    if looks.ground and rng.random() < 0.7:
        sentence = sentence[:-1] + rng.choice(GROUNDS).format(looks.ground)
    return sentence


def _emoji_name(emoji: Emoji, rng: random.Random) -> str:
    """The class name 7 times in 10, else another name, a keyword, or name and keyword."""
    names, chance = emoji_names(emoji), rng.random()
    if chance < 0.7:
        return names[0]
    if chance < 0.84 or not emoji.tags:
        return rng.choice(names)
    tag = rng.choice(emoji.tags).lower()
    return tag if chance < 0.9 else f"{names[0]}, {tag}"


def concept_caption(concept: Concept, rng: random.Random) -> str:
    """A sentence for a photograph of a concept; 1 in 8 says what it is a kind of."""
    name = concept.names[0] if rng.random() < 0.6 else rng.choice(concept.names)
    if concept.kinds and rng.random() < 0.125:
        return framed(f"{name}, a kind of {rng.choice(concept.kinds)}", rng)
    return framed(name, rng)


def every_word(emojis: Sequence[Emoji], concepts: Sequence[Concept]) -> Iterator[str]:
    """Texts that hold the words of captions, for the vocabulary; rare synonyms may be split."""
    for emoji in emojis:
        yield from emoji_names(emoji)
        yield from emoji.tags
    for concept in concepts:
        yield from concept.names[:2]
        yield from concept.kinds
    yield from TEMPLATES
    yield from LOOK_TEMPLATES
    yield from GRAY_TEMPLATES
    yield from GROUNDS
    yield "red orange yellow green teal blue purple pink black white gray brown small large"
    yield ", a kind of"
