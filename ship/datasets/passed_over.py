"""What a folder of one's own holds beside the pictures that are taken from it."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from ship.datasets.base import number, some

FOREIGN: Final = frozenset([".heic", ".heif", ".hif"])
"""Endings of pictures that Pillow reads with a plugin alone."""


@dataclass
class PassedOver:
    """What was found below class directories and is not taken for a picture, or is odd.

    other: files with the endings of no picture. hidden, hidden_folders: whose names begin with a
        dot.
    foreign: pictures of a kind that Pillow reads with a plugin alone.
    below: class directory -> how many directories below it hold pictures.
    again: links to a directory that was entered before.
    upward: links to the dataset's own folder, or to one that holds it.
    """

    other: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    hidden_folders: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    below: Counter[str] = field(default_factory=Counter)
    again: list[str] = field(default_factory=list)
    upward: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """A line for each kind that is no mistake."""
        return _counted(
            ("file", "passed over, whose ending is no picture's", self.other),
            ("hidden file", "passed over", self.hidden),
            ("hidden folder", "passed over", self.hidden_folders),
            ("folder", "entered once, though links lead to it again", self.again),
        )

    def warnings(self) -> list[str]:
        """A line for each kind that is probably a mistake."""
        nested = [f"{name} ({count} folders)" for name, count in self.below.items() if count > 1]
        return _counted(
            ("file", "left out, which Pillow cannot read (save as JPEG or PNG)", self.foreign),
            ("link", "not followed, to the dataset's own folder or one that holds it", self.upward),
            (
                "class folder",
                "with pictures in several folders below it, all taken for one class",
                nested,
            ),
        )


def _counted(*kinds: tuple[str, str, list[str]]) -> list[str]:
    """A line for each (noun, what is said of it, names) that has names."""
    return [
        f"{number(names, kind)} {what}: {some(sorted(names))}"
        for kind, what, names in kinds
        if names
    ]
