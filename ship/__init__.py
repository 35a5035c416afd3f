"""SHIP on frozen CLIP: the method; torch and open_clip only (no ray, optuna or mlflow)."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ship.clip import FrozenCLIP
    from ship.trial import TrainedModel

__all__ = ["load_trained"]


def load_trained(
    place: str | Path,
    seed: int | None = None,
    *,
    target: str | None = None,
    clip: "FrozenCLIP | None" = None,
    device: str = "cpu",
) -> "TrainedModel":
    """Load what a trial of a study with `save: true` has trained under one seed.

    Args:
        place: a folder with trained.json and the seeds' files, or the path of one seed's file.
        seed: which of the folder's; None: the first.
        target: cross_dataset: the target whose fine-tuner is wanted; None: the first.
        clip: the backbone; None: it is loaded by its name, which must be pocket or an open_clip
            NAME:PRETRAINED with a published tag.
        device: torch device of a backbone that is loaded.

    Raises:
        ship.trial.TrainedError: the files are missing, damaged, or of another version or backbone:
            one line that says what would do.
    """
    from ship.trial import load_trained as load  # torch takes seconds, and commands start light

    return load(place, seed, target=target, clip=clip, device=device)
