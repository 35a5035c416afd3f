"""The controls of a study: what they are called, what they replace and what they read."""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

# Reference arms in the order of the tables: label, and what a footnote says of it ({unseen}: the
# protocol's word for the classes without pictures).
ARMS: Final = {
    "zero_shot": ("zero-shot", "the backbone's text features, nothing trained"),
    "no_synthetic": ("fine-tuner alone", "no synthetic features"),
    "text_feature": ("text feature", "each class's text feature as its synthetic feature"),
    "real_pictures": (
        "real images (upper bound)",
        "real training images of the {unseen} classes as the synthetic ones: not a method",
    ),
}


class Control(NamedTuple):
    """A control that reads all settings of a trial but those of some groups.

    Attributes:
        replaced: Settings of the control in place of the study's, by group.
        unread: Groups of settings that it replaces or does not use.
    """

    replaced: Mapping[str, Mapping[str, Any]]
    unread: tuple[str, ...]


# Those that a method has to beat, judged in this order.
RIVALS: Final[Mapping[str, Control]] = {
    "no_synthetic": Control({"generator": {"name": "none"}}, ("generator", "synthetic")),
    "text_feature": Control({"generator": {"name": "gaussian_text", "scale": 0.0}}, ("generator",)),
}
ALONE: Final = "no_synthetic"  # the fine-tuner alone: what "with or without SHIP" is about


def control_levels(control: str, assignment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an assignment that a control reads.

    Args:
        control: One of RIVALS.
        assignment: Levels of factors, by dotted name.
    """
    unread = RIVALS[control].unread
    return {key: level for key, level in assignment.items() if key.partition(".")[0] not in unread}


def level_id(level: Any) -> str:
    """Return a text that is the same for equal levels: 1 and 1.0 are equal, 1 and true are not.

    A store may have 1.0 for the level 1.
    """
    is_whole = isinstance(level, float) and level.is_integer()
    return json.dumps(int(level) if is_whole else level, sort_keys=True)
