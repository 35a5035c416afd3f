"""The controls of a study: their names, the options they replace, and the factors they read."""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

# Controls in the order of the tables: label, and text of the footnote. {unseen} is the protocol's
# word for the classes without images.
CONTROLS: Final = {
    "zero_shot": ("zero-shot", "the backbone's text features, nothing trained"),
    "no_synthetic": ("fine-tuner alone", "no synthetic features"),
    "text_feature": ("text feature", "each class's text feature as its synthetic feature"),
    "real_images": (
        "real images (upper bound)",
        "real training images of the {unseen} classes as the synthetic ones: not a method",
    ),
}


class Control(NamedTuple):
    """A control: a configuration of the study with some groups of options replaced.

    Attributes:
        replacements: Options of the control that replace the study's, by group.
        unused_groups: Groups whose options it replaces or does not use.
    """

    replacements: Mapping[str, Mapping[str, Any]]
    unused_groups: tuple[str, ...]


# Controls that a method has to beat, tested in this order.
COMPETING: Final[Mapping[str, Control]] = {
    "no_synthetic": Control({"generator": {"name": "none"}}, ("generator", "synthetic")),
    "text_feature": Control({"generator": {"name": "gaussian_text", "scale": 0.0}}, ("generator",)),
}
FINETUNER_ALONE: Final = "no_synthetic"  # control for "with or without SHIP"


def control_levels(control: str, assignment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an assignment that a control reads.

    Args:
        control: Name of one of COMPETING.
        assignment: Levels of factors by dotted name.
    """
    groups = COMPETING[control].unused_groups
    return {key: level for key, level in assignment.items() if key.partition(".")[0] not in groups}


def level_id(level: Any) -> str:
    """Return a text that is the same for equal levels: 1 and 1.0 are equal, 1 and true are not.

    A store may have 1.0 for the level 1.
    """
    is_whole = isinstance(level, float) and level.is_integer()
    return json.dumps(int(level) if is_whole else level, sort_keys=True)
