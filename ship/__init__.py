"""SHIP on frozen CLIP: the method; torch and open_clip only (no ray, optuna or mlflow).

From Python:

    from ship import load_trained
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ship.trial import load_trained

__all__ = ["load_trained"]


def __getattr__(name: str) -> Any:
    """load_trained, loaded when it is asked for: torch takes seconds, and commands start light."""
    if name in __all__:
        from ship import trial

        return getattr(trial, name)
    raise AttributeError(f"module 'ship' has no attribute {name!r}")
