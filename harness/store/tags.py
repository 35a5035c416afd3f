"""Tags of any length, though MLflow cuts one after 8000 characters."""

from collections.abc import Mapping

from harness.store.batches import MAX_TAG


def split_tag(name: str, text: str) -> dict[str, str]:
    """A tag of any length: MLflow cuts after 8000 characters, so it goes on in NAME.1, NAME.2."""
    pieces = [text[start : start + MAX_TAG] for start in range(0, len(text), MAX_TAG)]
    names = [name, *(f"{name}.{index}" for index in range(1, len(pieces)))]
    return dict(zip(names, pieces, strict=True))


def joined_tag(name: str, tags: Mapping[str, str]) -> str:
    """The inverse of split_tag; "" for a run without the tag."""
    text, index = tags.get(name, ""), 1
    while f"{name}.{index}" in tags:
        text += tags[f"{name}.{index}"]
        index += 1
    return text
