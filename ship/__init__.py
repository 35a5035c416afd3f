"""SHIP on frozen CLIP: datasets, methods, and the training of a trial.

Requires torch and open_clip, but not Ray, Optuna or MLflow. From Python:

    from ship import load_trained
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ship.trial import load_trained

__all__ = ["load_trained"]


def __getattr__(name: str) -> Any:
    """Import load_trained on first access, so that commands start without importing torch."""
    if name in __all__:
        from ship import trial

        return getattr(trial, name)
    raise AttributeError(f"module 'ship' has no attribute {name!r}")
