"""How settings and long texts are written as MLflow's params and tags."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.store.changes import MAX_TAG

if TYPE_CHECKING:
    from ship.trial_config import TrialConfig


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


def params(config: "TrialConfig") -> dict[str, str]:
    """Every dotted field of a trial as MLflow shows it; a group with variants by its name too."""
    texts: dict[str, str] = {}

    def walk(prefix: str, group: Mapping[str, Any]) -> None:
        for name, value in group.items():
            if isinstance(value, dict):
                if "name" in value:
                    texts[f"{prefix}{name}"] = value["name"]
                walk(f"{prefix}{name}.", value)
            else:
                texts[f"{prefix}{name}"] = param_text(value)

    walk("", config.model_dump(mode="json"))
    return texts


def param_text(value: Any) -> str:
    """A setting's value as MLflow shows it."""
    return value if isinstance(value, str) else json.dumps(value, default=list)
