"""Loads what a study has trained from the MLflow store."""

from pathlib import Path
from typing import TYPE_CHECKING

from harness.store import SUFFIX, fetched, store_uri
from harness.wording import redacted

if TYPE_CHECKING:
    from ship.clip import FrozenCLIP
    from ship.trial import TrainedModel


def load_trained(
    uri: str | Path,
    seed: int | None = None,
    *,
    target: str | None = None,
    clip: "FrozenCLIP | None" = None,
    device: str = "cpu",
    tracking_uri: str | None = None,
) -> "TrainedModel":
    """ship.load_trained of what a run keeps in MLflow.

    Args:
        uri: runs:/RUN_ID, an artifact's address that ends in trained or trained/seed_N.safetensors
            (runs:/RUN_ID/trained, mlflow-artifacts:/..., s3://...), or a path.
        seed: which of the run's; None: that of the file, or the first.
        target: cross_dataset: the target whose fine-tuner is wanted; None: the first.
        clip: the backbone; None: it is loaded by its name, which must be pocket or an open_clip
            NAME:PRETRAINED with a published tag.
        device: torch device of a backbone that is loaded.
        tracking_uri: of the store that knows the run; None: MLFLOW_TRACKING_URI, else mlflow.db in
            the working directory.

    Raises:
        ship.trial.TrainedError: the files are missing, damaged, or of another version or backbone.
        harness.errors.UserError: the store cannot be reached, or has no such run or file.
    """
    import ship  # torch

    uri = str(uri)
    with fetched(uri, seed, store_uri(tracking_uri)) as place:
        try:
            return ship.load_trained(place, seed, target=target, clip=clip, device=device)
        except ValueError as error:
            folder = place.parent if place.suffix == SUFFIX else place  # means nothing to anybody
            raise type(error)(str(error).replace(str(folder), redacted(uri))) from error
