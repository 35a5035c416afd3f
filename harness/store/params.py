"""A trial's settings as the params of its run: dotted names, values as text."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ship.trial_config import TrialConfig


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
