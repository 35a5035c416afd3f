"""Tags of any length, though MLflow cuts one after 8000 characters."""

from collections.abc import Mapping

from harness.store.batches import MAX_TAG


def split_tag(name: str, text: str, start: int = 0) -> dict[str, str]:
    """A tag of any length: MLflow cuts after 8000 characters, so it goes on in NAME.1, NAME.2.

    Args:
        name: of the first tag.
        text: the whole of it.
        start: the first character that is new; tags that end before it are left out.
    """
    return {
        f"{name}.{index}" if index else name: text[index * MAX_TAG : (index + 1) * MAX_TAG]
        for index in range(start // MAX_TAG, max(1, -(-len(text) // MAX_TAG)))
    }


def joined_tag(name: str, tags: Mapping[str, str]) -> str:
    """The inverse of split_tag; "" for a run without the tag."""
    text, index = tags.get(name, ""), 1
    while f"{name}.{index}" in tags:
        text += tags[f"{name}.{index}"]
        index += 1
    return text
