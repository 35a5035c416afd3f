"""Settings for a check: as they are asked for, or the defaults with little to train."""

from collections.abc import Mapping
from typing import Any, Final

EPOCHS: Final = 3


def quick(config: type[Any], settings: Mapping[str, Any] | None) -> Any:
    """The settings of a method.

    Args:
        config: their class.
        settings: the values; None: the defaults, with EPOCHS epochs at most.
    """
    if settings is not None:
        return config(**settings)
    made = config()
    epochs = getattr(made, "epochs", 0)
    return config(epochs=EPOCHS) if epochs > EPOCHS else made
