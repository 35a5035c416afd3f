"""The study harness: YAML -> Ray Tune + Optuna + MLflow."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ship.clip import FrozenCLIP
    from ship.trial import TrainedModel

__all__ = ["load_trained"]


def load_trained(
    uri: str,
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
    from harness.store import load_trained as load

    return load(uri, seed, target=target, clip=clip, device=device, tracking_uri=tracking_uri)
