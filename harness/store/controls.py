"""Define the controls of a study: their names, the options they replace, the factors they read."""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

# Controls in the order of the tables: name -> label and text of the footnote. {unseen} is replaced
# by the protocol's word for classes without images.
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
        unused_groups: Groups whose options in the study have no effect on the control.
    """

    replacements: Mapping[str, Mapping[str, Any]]
    unused_groups: tuple[str, ...]


# Controls that a method has to beat, tested in this order.
COMPETING: Final[Mapping[str, Control]] = {
    "no_synthetic": Control({"generator": {"name": "none"}}, ("generator", "synthetic")),
    "text_feature": Control({"generator": {"name": "gaussian_text", "scale": 0.0}}, ("generator",)),
}
FINETUNER_ALONE: Final = "no_synthetic"  # control that shows what SHIP adds to the fine-tuner


def control_levels(control: str, assignment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an assignment that affects a control, without its unused groups.

    Args:
        control: Name of a control of COMPETING.
        assignment: Levels of factors by dotted name.
    """
    groups = COMPETING[control].unused_groups
    return {key: level for key, level in assignment.items() if key.partition(".")[0] not in groups}


def make_level_id(level: Any) -> str:
    """Return a text that identifies a level.

    1 and 1.0 have the same text, because the store may have 1.0 for the level 1. 1 and true differ.
    """
    is_whole = isinstance(level, float) and level.is_integer()
    return json.dumps(int(level) if is_whole else level, sort_keys=True)
